"""What nodes say of their handles, Release and Report: accepted, refused, repeated."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from pydrm.core.answers import Done, Reason
from pydrm.core.changes import AssignmentChanged, Cause
from pydrm.core.handle_commands import Handle, HandleReport, Release, Report
from pydrm.core.machine import Outcome
from pydrm.core.records import Assignment, Condition, Phase
from tests.core.build import add, cluster, opening_at_b, refused, release


def report(node: str, incarnation: int, resource: str, token: int, condition: Condition, detail: str = "") -> Report:
    return Report(node, incarnation, (HandleReport(resource, 0, token, condition, detail),))


# --- Release ---------------------------------------------------------------------------------------------------------


def test_a_release_by_the_holder_lets_the_next_one_have_it_in_the_same_step():
    """The gap of a planned move is one command long."""
    house = cluster("a", resources=["r1", "r2"])
    house.join("b")
    token = house.token("r2")

    outcome = house.apply(release("a", 1, ("r2", token)))

    assert outcome.answer == Done()
    assert (house.phase("r2"), house.holder("r2")) == (Phase.HELD, "b")
    assert house.token("r2") > token
    assert [c.cause for c in outcome.changes if isinstance(c, AssignmentChanged)] == [Cause.RELEASED, Cause.PLACED]


def test_many_handles_are_released_in_one_command():
    """They are batched, and each counts for itself."""
    house = cluster("a", "b", resources=["r1", "r2", "r3", "r4"])
    house.drain("a")
    handles = [(name, house.token(name)) for name in ("r1", "r3")]

    house.apply(release("a", 1, *handles, ("nothing", 1), ("r2", house.token("r2"))))

    assert house.held() == {"r1": "b", "r2": "b", "r3": "b", "r4": "b"}


@pytest.mark.parametrize("times", [2, 3])
def test_a_release_that_is_repeated_changes_nothing_more(times: int):
    """It is level-triggered and comes again until the state shows it, sometimes once more than that."""
    house = cluster("a", resources=["r1", "r2"])
    house.join("b")
    again = release("a", 1, ("r2", house.token("r2")))
    house.apply(again)
    before = house.digest

    for _ in range(times - 1):
        assert house.apply(again) == Outcome(Done(), ())
    assert house.digest == before


def test_a_handle_that_is_named_twice_in_one_release_counts_once():
    """The second one is out of date by the time its turn comes."""
    house = cluster("a", "b", resources=["r1"])
    house.drain("a")
    token = house.token("r1")

    house.apply(release("a", 1, ("r1", token), ("r1", token)))

    assert house.holder("r1") == "b"


def test_a_release_under_a_former_token_does_not_touch_the_present_holder():
    """A late duplicate of an earlier release must not take the resource from whoever has it now."""
    house = cluster("a", resources=["r1"], url="ws://one")
    late = release("a", 1, ("r1", house.token("r1")))
    house.apply(add("r1", url="ws://two"))
    house.apply(late)
    house.apply(add("r1", url="ws://three"))
    assert house.phase("r1") is Phase.RELEASING
    before = house.digest

    house.apply(late)

    assert house.digest == before


def test_a_release_by_a_node_that_does_not_hold_it_is_passed_over():
    """Knowing the token is not holding it."""
    house = cluster("a", "b", resources=["r1", "r2"])
    house.drain("a")
    before = house.digest

    assert house.apply(release("b", 2, ("r1", house.token("r1")))) == Outcome(Done(), ())
    assert house.digest == before


def test_a_release_of_what_is_held_is_believed_and_it_is_given_out_anew():
    """Who has released a token never opens under it again; so the token would never be held by anybody."""
    house = cluster("a", "b", resources=["r1"])
    token = house.token("r1")

    house.apply(release("a", 1, ("r1", token)))

    assert house.phase("r1") is Phase.HELD
    assert house.token("r1") > token


def test_a_release_of_another_slot_is_passed_over():
    """Assignments are keyed by resource and slot."""
    house = cluster("a", "b", resources=["r1"])
    house.drain("a")

    house.apply(Release("a", 1, (Handle("r1", 1, house.token("r1")),)))

    assert house.phase("r1") is Phase.RELEASING


def test_a_release_by_a_dead_incarnation_is_refused():
    """Expired or superseded: its word came too late, and what it held is with others."""
    house = cluster("a", "b", "c", resources=["r1", "r2", "r3"])
    house.drain("a")
    token = house.token("r1")
    house.expire("a")
    house.restart("b")
    before = house.digest

    assert refused(house.apply(release("a", 1, ("r1", token)))) is Reason.EXPIRED
    assert refused(house.apply(release("b", 2, ("r2", house.token("r2"))))) is Reason.SUPERSEDED
    assert house.digest == before


def test_a_target_that_gives_up_leaves_it_with_the_holder():
    """With overlap nothing is lost if the new holder cannot open it."""
    house = opening_at_b()
    held = house.claim("r2")
    house.drain("b")

    house.release_target("r2")

    assert house.assignment("r2") == Assignment("r2", 0, Phase.HELD, holder=held)


# --- Report ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("condition", [Condition.OPEN, Condition.RETRYING, Condition.FAILED, Condition.STUCK])
def test_a_report_is_kept_with_the_claim_and_moves_nothing(condition: Condition):
    """It is what everybody sees of a handle; what to do about it is for others to decide."""
    house = cluster("a", "b", resources=["r1", "r2"])
    claim = house.claim("r1")

    outcome = house.apply(report("a", 1, "r1", claim.token, condition, "because"))

    reported = Assignment("r1", 0, Phase.HELD, holder=replace(claim, condition=condition, detail="because"))
    assert outcome == Outcome(Done(), (AssignmentChanged(reported, Cause.REPORTED),))
    assert house.assignment("r1") == reported


def test_the_same_report_again_changes_nothing():
    """Only news is written."""
    house = cluster("a", resources=["r1"])
    opened = report("a", 1, "r1", house.token("r1"), Condition.OPEN)
    house.apply(opened)
    before = house.digest

    assert house.apply(opened) == Outcome(Done(), ())
    assert house.digest == before


@pytest.mark.parametrize("token", [0, 1, 10_000])
def test_a_report_under_another_token_is_passed_over(token: int):
    """It speaks of a handle that counts no more, or never did."""
    house = cluster("a", resources=["r1"])
    before = house.digest

    assert house.apply(report("a", 1, "r1", token, Condition.OPEN)) == Outcome(Done(), ())
    assert house.apply(report("a", 1, "nothing", token, Condition.OPEN)) == Outcome(Done(), ())
    assert house.digest == before


def test_a_report_by_a_dead_incarnation_is_refused():
    """A node that was expired knows nothing of the present."""
    house = cluster("a", "b", resources=["r1"])
    token = house.token("r1")
    house.expire("a")

    assert refused(house.apply(report("a", 1, "r1", token, Condition.OPEN))) is Reason.EXPIRED


def test_a_new_holder_starts_with_nothing_reported():
    """The condition belongs to one handle, not to the resource."""
    house = cluster("a", "b", resources=["r1"])
    house.apply(report("a", 1, "r1", house.token("r1"), Condition.RETRYING, "refused"))

    house.expire("a")

    assert (house.claim("r1").condition, house.claim("r1").detail) == (Condition.OPENING, "")


def test_with_overlap_the_holder_is_told_to_close_when_the_target_has_it_open():
    """First open, then close: two hold it for a moment, nobody never."""
    house = opening_at_b()
    holder, target = house.claim("r2"), house.target("r2")

    house.open_target("r2")

    opened = replace(target, condition=Condition.OPEN)
    assert house.assignment("r2") == Assignment("r2", 0, Phase.RELEASING, holder=holder, target=opened)
    house.release("r2")
    assert house.assignment("r2") == Assignment("r2", 0, Phase.HELD, holder=opened)


@pytest.mark.parametrize("condition", [Condition.RETRYING, Condition.FAILED])
def test_with_overlap_a_target_that_cannot_open_it_takes_it_from_nobody(condition: Condition):
    """The holder keeps it for as long as that takes."""
    house = opening_at_b()

    house.apply(report("b", 2, "r2", house.target("r2").token, condition, "refused"))

    assert (house.phase("r2"), house.holder("r2")) == (Phase.OPENING, "a")
    assert house.target("r2").condition is condition
