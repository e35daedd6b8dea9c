"""
Budgets: what is granted while there is some left, and what becomes of it.
"""

from __future__ import annotations

from random import Random

import pytest
from msgspec.structs import replace

from pydrm.core import placement
from pydrm.core.answers import Done, Reason, Refused
from pydrm.core.budget_commands import EndHour, HoldBack, Return, ReturnPermits, SetBudget, Take, TakePermits
from pydrm.core.budget_records import Budget
from pydrm.core.decide_budgets import HOLDBACK_MS_MAX
from pydrm.core.invariants import check
from pydrm.core.records import Phase
from pydrm.core.state import State
from tests.core.build import Cluster, add, cluster, numbered, remove, through_bytes
from tests.core.random_log import STEP_MAX, RandomLog


def of_group(*names: str, resources: int = 4, overlap: bool = False, **limits: float) -> Cluster:
    """*names* hold r0000, r0001, ... of group g."""
    c = cluster(*names, resources=numbered(resources), group="g", overlap=overlap)
    c.limit("g", **limits)
    return c


# --- connections ------------------------------------------------------------------------------------------------------


def test_no_more_connections_are_granted_than_the_limit() -> None:
    """Whoever asks, on whichever node; the log's order decides."""
    c = of_group("a", "b", resources=6, connections=3)

    assert c.take(*numbered(6)) == numbered(3)
    assert c.permits() == 3


def test_one_command_cannot_take_more_than_there_is() -> None:
    """What it was granted first counts for the rest of it."""
    c = of_group("a", resources=4, connections=3)
    takes = tuple(Take(name, 0, c.token(name), "g") for name in numbered(4))

    assert c.do(TakePermits("a", 1, takes)) == Done(missing=("r0003",))
    assert c.permits() == 3


def test_asking_again_takes_nothing_more() -> None:
    """A claim has one connection, however often it reconnects."""
    c = of_group("a", resources=2, connections=1)
    c.take("r0000")

    assert c.take("r0000") == ["r0000"]
    assert c.permits() == 1


@pytest.mark.parametrize("end", ["released", "expired", "removed", "restarted"])
def test_a_permit_ends_with_the_claim(end: str) -> None:
    """In whatever way that ends."""
    c = of_group("a", resources=1, connections=1)
    c.take("r0000")
    match end:
        case "released":
            c.join("b")
            c.drain("a")
            c.release("r0000")
        case "expired":
            c.expire("a")
        case "removed":
            c.apply(remove("r0000"))
            c.release("r0000")
        case "restarted":
            c.restart("a")

    assert c.permits() == 0


def test_a_handle_that_was_taken_by_force_keeps_its_permit_until_it_is_gone() -> None:
    """It may be open still, and the third party counts it."""
    c = of_group("a", "b", resources=1, connections=1)
    old = c.claim("r0000")
    c.take("r0000")
    c.force("r0000")
    assert c.take("r0000") == []

    c.expire(old.node)
    assert c.take("r0000") == ["r0000"]


def test_who_lost_it_by_force_is_granted_nothing() -> None:
    """It must not connect any more."""
    c = of_group("a", "b", resources=1, connections=2)
    old = c.claim("r0000")
    c.force("r0000")

    assert c.take("r0000", claim=old) == []


def test_a_claim_that_is_over_is_granted_nothing() -> None:
    """A request that was under way for long changes nothing."""
    c = of_group("a", "b", resources=1, connections=1)
    old = c.claim("r0000")
    c.drain(old.node)
    c.release("r0000")

    assert c.take("r0000", claim=old) == []
    assert c.permits() == 0


def test_an_ended_incarnation_is_refused() -> None:
    """With all that it asks for, gives back, or says of a third party."""
    c = of_group("a", "b", resources=1, connections=1)
    c.expire("a")

    for command in (TakePermits("a", 1, ()), HoldBack("a", 1, "g", 1000)):
        answer = c.do(command)
        assert isinstance(answer, Refused)
        assert answer.reason is Reason.EXPIRED


def test_with_overlap_two_connections_are_two_permits() -> None:
    """They are open at the same time."""
    c = of_group("a", resources=2, overlap=True, connections=2)
    c.take("r0000", "r0001")
    c.join("b")
    moving = next(name for name in numbered(2) if c.phase(name) is Phase.OPENING)
    assert c.take(moving, claim=c.target(moving)) == []

    c.limit("g", connections=3)
    assert c.take(moving, claim=c.target(moving)) == [moving]
    c.open_target(moving)
    c.release(moving)
    assert c.permits() == 2


def test_what_is_given_back_others_can_have() -> None:
    """While its holder waits for its next try."""
    c = of_group("a", resources=2, connections=1)
    c.take("r0000")
    c.give_back("r0000")

    assert c.take("r0001") == ["r0001"]
    assert c.take("r0000") == []


def test_what_is_given_back_late_is_not_taken_from_who_connects_again() -> None:
    """A request that was under way for long must not let another in beside it."""
    c = of_group("a", resources=2, connections=1)
    c.take("r0000")
    claim = c.claim("r0000")
    late = ReturnPermits("a", 1, (Return("r0000", 0, claim.token, claim.permitted),))
    c.take("r0000")
    c.do(late)

    assert c.permits() == 1
    assert c.take("r0001") == []


def test_a_limit_that_is_lowered_closes_nothing_and_grants_nothing_until_there_is_room() -> None:
    """Those that are open stay open."""
    c = of_group("a", resources=4, connections=3)
    c.take(*numbered(3))
    c.limit("g", connections=2)
    c.give_back("r0000")
    assert (c.permits(), c.take("r0003")) == (2, [])

    c.give_back("r0001")
    assert c.take("r0003") == ["r0003"]


def test_what_was_open_before_there_was_a_limit_is_counted_even_over_it() -> None:
    """It is there, whatever the limit says; so nothing more is granted."""
    c = of_group("a", resources=4, connections=2)

    assert c.take(*numbered(3), opened=True) == numbered(3)
    assert c.permits() == 3
    assert c.take("r0003") == []


def test_a_new_group_takes_effect_where_the_resource_is_opened_anew() -> None:
    """The old connection counts for the old group until it is closed."""
    c = of_group("a", resources=1, connections=1)
    c.take("r0000")
    c.apply(add("r0000", group="h"))
    assert (c.permits("g"), c.assignment("r0000").group) == (1, "g")

    c.release("r0000")
    assert (c.permits("g"), c.assignment("r0000").group) == (0, "h")
    assert c.state.index.groups == {"h": {"a": 1}}


def test_members_are_counted_by_node() -> None:
    """It is what a node's share follows from."""
    c = cluster("a", "b", resources=numbered(4), group="g")
    c.apply(add("other"))
    assert c.state.index.groups == {"g": {"a": 2, "b": 2}}

    c.expire("b")
    assert c.state.index.groups == {"g": {"a": 4}}
    c.apply(remove(*numbered(4)))
    c.settle()
    assert c.state.index.groups == {}


# --- sessions ---------------------------------------------------------------------------------------------------------


def test_no_more_sessions_are_begun_than_the_limit() -> None:
    """Also by one resource that reconnects."""
    c = of_group("a", resources=2, sessions_per_day=3)

    assert c.take("r0000", "r0000", "r0000", "r0001") == ["r0000"] * 3
    assert c.budget().sessions == (3,)


def test_a_session_counts_for_24_full_hours() -> None:
    """And for the rest of the one that it was begun in, so within no 24 hours are there more than the limit."""
    c = of_group("a", resources=1, sessions_per_day=1)
    c.take("r0000")
    for _ in range(24):
        c.end_hour("g")
        assert c.take("r0000") == []

    c.end_hour("g")
    assert c.take("r0000") == ["r0000"]


def test_an_hour_ends_once() -> None:
    """Two leaders may say so; the second names an hour that is over."""
    c = of_group("a", resources=1, sessions_per_day=1)
    hour = c.budget().hour
    c.end_hour("g")

    answer = c.do(EndHour("g", hour))
    assert isinstance(answer, Refused)
    assert answer.reason is Reason.STALE


def test_another_limit_does_not_forget_what_was_begun() -> None:
    """Or setting it again would be a way round it."""
    c = of_group("a", resources=2, sessions_per_day=1)
    c.take("r0000")
    c.limit("g", sessions_per_day=2, connects_per_s=1.0)

    assert c.take("r0001", "r0001") == ["r0001"]


def test_what_was_open_before_there_was_a_limit_begins_no_session() -> None:
    """It was begun before."""
    c = of_group("a", resources=1, sessions_per_day=1, connections=1)
    c.take("r0000", opened=True)

    assert c.budget().sessions == (0,)


# --- holdbacks --------------------------------------------------------------------------------------------------------


def test_who_is_held_back_is_granted_nothing() -> None:
    """Until that very holdback is ended."""
    c = of_group("a", resources=1, connections=1)
    held = c.hold_back("g", 1000)
    assert isinstance(held, Done)
    assert c.take("r0000") == []

    c.end_holdback("g", held.number)
    assert c.take("r0000") == ["r0000"]


def test_of_several_holdbacks_the_last_to_end_counts() -> None:
    """One that is shorter and came later may end before or after the long one; only a clock could tell."""
    c = of_group("a", connections=1)
    for duration_ms in (5_000, 60_000, 1_000, 2_000):
        c.hold_back("g", duration_ms)

    assert [holdback.duration_ms for holdback in c.budget().holdbacks] == [60_000, 2_000]


def test_however_many_holdbacks_come_few_are_kept() -> None:
    """What is too many is made longer, never shorter."""
    c = of_group("a", connections=1)
    for duration_ms in range(60_000, 40_000, -1_000):
        c.hold_back("g", duration_ms)

    assert [h.duration_ms for h in c.budget().holdbacks] == [*range(60_000, 53_000, -1_000), 53_000]


def test_a_group_without_a_limit_can_be_held_back_too() -> None:
    """Its budget is there for as long as that."""
    c = cluster("a", resources=["r"], group="g")
    held = c.hold_back("g", 1000)
    assert isinstance(held, Done)
    assert c.budget().holdbacks

    c.end_holdback("g", held.number)
    assert dict(c.state.budgets) == {}


def test_a_holdback_is_bounded() -> None:
    """A third party that says "in a year" is asked again in a day; a sender looks first, this is for the others."""
    c = cluster("a")

    for duration_ms in (0, -1, HOLDBACK_MS_MAX + 1):
        answer = c.hold_back("g", duration_ms)
        assert isinstance(answer, Refused)
        assert answer.reason is Reason.INVALID


# --- budgets ----------------------------------------------------------------------------------------------------------


def test_a_budget_without_limits_is_gone() -> None:
    """Unless it is held back."""
    c = of_group("a", connections=1)
    c.hold_back("g", 1000)
    c.limit("g")
    assert c.budget() == Budget("g", holdbacks=c.budget().holdbacks)

    c.end_holdback("g", c.budget().holdbacks[0].number)
    assert dict(c.state.budgets) == {}


def test_the_same_budget_again_changes_nothing() -> None:
    """So it is safe to repeat."""
    c = of_group("a", connections=1, sessions_per_day=5)
    digest = c.state.digest

    assert c.limit("g", connections=1, sessions_per_day=5) == Done(unchanged=1)
    assert c.limit("h") == Done(unchanged=1)
    assert c.state.digest == digest


def test_what_somebody_has_limited_stays_so_when_others_ask_only_for_what_is_not() -> None:
    """As configurations do; a holdback alone is no limit, and goes on."""
    house = cluster("a")
    house.limit("g", connections=9)
    house.hold_back("h", 1000)

    assert house.do(SetBudget("g", connections=2, if_absent=True)) == Done(unchanged=1)
    assert house.do(SetBudget("h", connections=2, if_absent=True)) == Done(updated=1)
    assert house.do(SetBudget("h", connections=3, if_absent=True)) == Done(unchanged=1)

    assert house.state.budgets["g"].connections == 9
    assert house.state.budgets["h"].connections == 2
    assert len(house.state.budgets["h"].holdbacks) == 1


@pytest.mark.parametrize(
    "command",
    [
        SetBudget("", connections=1),
        SetBudget("g" * 257, connections=1),
        SetBudget("g", connections=-1),
        SetBudget("g", connects_per_s=float("nan")),
        SetBudget("g", requests_per_s=float("inf")),
    ],
)
def test_a_budget_that_cannot_be_kept_is_refused(command: SetBudget) -> None:
    """The manager looks first; this is for the others."""
    answer = cluster("a").do(command)

    assert isinstance(answer, Refused)
    assert answer.reason is Reason.INVALID


def test_budgets_are_in_a_picture() -> None:
    """Permits too, in the claims, and their count follows."""
    c = of_group("a", "b", connections=3, sessions_per_day=9)
    c.take("r0000", "r0001")
    c.hold_back("g", 1000)

    restored = through_bytes(c.state)
    assert dict(restored.budgets) == dict(c.state.budgets)
    assert restored.index.permits == {"g": 2}
    assert check(restored) == []


def test_records_without_a_group_have_the_digests_that_they_had_before_there_were_groups() -> None:
    """So replicas of both versions agree for as long as nobody uses any."""
    assignment = cluster("a", resources=["r"]).assignment("r")
    assert assignment.holder is not None

    assert len(replace(assignment, group="g").parts()) == len(assignment.parts()) + 1
    assert len(replace(assignment.holder, permit="g", permitted=1).parts()) == len(assignment.holder.parts()) + 2


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_no_grant_goes_over_a_limit(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permits are more than the limit only by what was open already, or where it was lowered."""
    monkeypatch.setattr(placement, "STEP_ASSIGNMENTS_MAX", STEP_MAX)
    assert look_at_grants(seed, steps=1500) >= 0


def test_random_lives_see_grants(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the test before this one would show nothing."""
    monkeypatch.setattr(placement, "STEP_ASSIGNMENTS_MAX", STEP_MAX)
    assert sum(look_at_grants(seed, steps=500) for seed in range(6)) > 5


def look_at_grants(seed: int, *, steps: int) -> int:
    """Live a random life; how many permits were granted in it."""
    log = RandomLog(Random(seed).randrange(10**9))
    granted = 0
    before = permits(log.state)
    for request, _ in log.go_on(steps):
        after = permits(log.state)
        command = request.command
        if isinstance(command, TakePermits):
            for group, count in after.items():
                adopted = sum(take.opened for take in command.takes)
                budget = log.state.budgets.get(group)
                if count > before.get(group, 0) and budget is not None and not adopted:
                    assert count <= budget.connections
                    granted += 1
        elif not isinstance(command, TakePermits):
            assert all(count <= before.get(group, 0) for group, count in after.items())
        for budget in log.state.budgets.values():
            assert len(budget.sessions) <= 25
        before = after
    assert check(log.state) == []
    return granted


def permits(state: State) -> dict[str, int]:
    return dict(state.index.permits)
