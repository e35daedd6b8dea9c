"""What nodes say of their handles, Release and Report, and ForceRelease: accepted, refused, repeated."""

from __future__ import annotations

import attrs
import pytest

from pydrm.core.changes import AssignmentChanged, Audited, Cause
from pydrm.core.commands import Done, ForceRelease, Handle, HandleReport, Reason, Release, Report
from pydrm.core.machine import Outcome
from pydrm.core.records import Assignment, AuditEntry, Condition, Phase
from pydrm.core.state import AUDIT_ENTRIES_MAX
from tests.core.build import Cluster, add, changed_by, cluster, refused, remove


def release(node: str, incarnation: int, *handles: tuple[str, int]) -> Release:
    return Release(node, incarnation, tuple(Handle(resource, 0, token) for resource, token in handles))


def report(node: str, incarnation: int, resource: str, token: int, condition: Condition, detail: str = "") -> Report:
    return Report(node, incarnation, (HandleReport(resource, 0, token, condition, detail),))


def opening_at_b() -> Cluster:
    """r2 is being moved from a to b, with overlap: b is to open it while a keeps it."""
    house = cluster("a", resources=["r1", "r2"], overlap=True)
    house.join("b")
    assert house.phase("r2") is Phase.OPENING
    assert (house.holder("r2"), house.target("r2").node) == ("a", "b")
    return house


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


def test_a_release_of_what_nobody_asked_to_be_released_changes_nothing():
    """A node never says so of itself: what it holds is decided by the cluster."""
    house = cluster("a", resources=["r1"])
    before = house.digest

    assert house.apply(release("a", 1, ("r1", house.token("r1")))) == Outcome(Done(), ())
    assert house.digest == before


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

    reported = Assignment("r1", 0, Phase.HELD, holder=attrs.evolve(claim, condition=condition, detail="because"))
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

    opened = attrs.evolve(target, condition=Condition.OPEN)
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


# --- ForceRelease ----------------------------------------------------------------------------------------------------


def test_force_takes_it_from_the_holder_at_once_and_leaves_an_audit_entry():
    """An exception to "one holder", asked for by name, and everybody can read afterwards who wanted it and why."""
    house = cluster("a", "b", resources=["r1", "r2"])
    claim = house.claim("r1")

    outcome = house.force("r1", "it is stuck")

    entry = AuditEntry(1, "r1", 0, "a", claim.token, "it is stuck")
    assert outcome.answer == Done()
    assert Audited(entry) in outcome.changes
    assert dict(house.state.audit) == {1: entry}
    assert house.holder("r1") == "b"
    assert house.token("r1") > claim.token
    assert house.assignment("r1").excluded == (claim,)


def test_force_that_names_another_token_is_stale():
    """Whoever asked had seen another holder; repeating the command does not hit the next one."""
    house = cluster("a", "b", "c", resources=["r1"])
    token = house.token("r1")
    house.force("r1")
    before = house.digest

    assert refused(house.apply(ForceRelease("r1", 0, token, "again"))) is Reason.STALE
    assert house.digest == before


def test_force_on_what_is_not_there_or_not_held_is_refused():
    """There is nobody to take it from."""
    house = cluster()
    house.apply(add("r1"))

    assert refused(house.apply(ForceRelease("nothing", 0, 1, "why"))) is Reason.NOT_FOUND
    assert refused(house.apply(ForceRelease("r1", 1, 1, "why"))) is Reason.NOT_FOUND
    assert refused(house.apply(ForceRelease("r1", 0, 0, "why"))) is Reason.STALE


def test_the_node_it_was_taken_from_is_excluded_until_it_reports_the_handle_gone():
    """Nobody else is there, and yet it waits: that node may still have the old handle."""
    house = cluster("a", resources=["r1"])
    claim = house.claim("r1")
    house.force("r1")
    assert house.assignment("r1").excluded == (claim,)
    assert house.phase("r1") is Phase.WAITING

    house.apply(release("a", 1, ("r1", claim.token)))

    assert house.assignment("r1").excluded == ()
    assert house.holder("r1") == "a"
    assert house.token("r1") > claim.token


def test_the_end_of_the_incarnation_ends_the_exclusion():
    """A dead process has no handle; its successor may hold the resource."""
    house = cluster("a", resources=["r1"])
    house.force("r1")

    house.restart("a")

    assert house.assignment("r1").excluded == ()
    assert (house.holder("r1"), house.claim("r1").incarnation) == ("a", 2)


def test_the_expiry_of_the_excluded_incarnation_ends_the_exclusion_where_it_is_now():
    """It is held elsewhere, and there only the exclusion goes."""
    house = cluster("a", "b", resources=["r1"])
    house.force("r1")
    held = house.claim("r1")

    house.expire("a")

    assert house.assignment("r1") == Assignment("r1", 0, Phase.HELD, holder=held)


def test_a_release_under_another_token_does_not_end_the_exclusion():
    """It speaks of another handle."""
    house = cluster("a", resources=["r1"])
    token = house.token("r1")
    house.force("r1")

    house.apply(release("a", 1, ("r1", token + 1), ("r1", token - 1)))

    assert house.phase("r1") is Phase.WAITING


def test_force_twice_excludes_both():
    """Each of them may still have a handle."""
    house = cluster("a", "b", "c", resources=["r1"])
    first = house.claim("r1")
    house.force("r1")
    second = house.claim("r1")
    house.force("r1")

    assert house.holder("r1") == "c"
    assert house.assignment("r1").excluded == (first, second)


@pytest.mark.parametrize("excluded", ["r0", "r1"])
def test_a_resource_is_never_moved_to_a_node_that_is_excluded_for_it(excluded: str):
    """It could not stay there, so it would come and go for ever; something else moves, or nothing."""
    house = cluster("a", "b", resources=["r0", "r1", "r2", "r3"])

    house.force(excluded)
    house.settle()

    assert house.counts() == [2, 2]
    before = house.digest
    assert house.settle() == []
    assert house.digest == before


def test_nothing_moves_if_all_that_could_even_the_load_is_excluded():
    """The load stays uneven for as long as the exclusion lasts, and evens out afterwards."""
    house = cluster("a", "b", resources=["r0", "r1"])
    token = house.token("r1")
    house.force("r1")
    house.apply(remove("r0"))
    house.settle()
    house.apply(add("r2"))
    house.force("r2")
    assert house.settle() == []
    assert house.held() == {"r1": "a", "r2": "a"}

    house.apply(release("b", 2, ("r1", token)))

    house.settle()
    assert house.counts() == [1, 1]


def test_what_is_being_removed_can_be_taken_by_force_and_is_gone():
    """Somebody does not want to wait for a handle that cannot be closed."""
    house = cluster("a", resources=["r1"])
    house.apply(remove("r1"))

    answer = house.force("r1").answer

    assert answer == Done()
    assert "r1" not in house.state.records
    assert len(house.state.audit) == 1


def test_with_overlap_force_makes_the_target_the_holder():
    """It has it open, or will: nobody else needs to be found."""
    house = opening_at_b()
    holder, target = house.claim("r2"), house.target("r2")

    house.force("r2")

    assert house.assignment("r2") == Assignment("r2", 0, Phase.HELD, holder=target, excluded=(holder,))


def test_the_audit_keeps_the_newest_entries_and_goes_on_counting():
    """It is in the state of every node, so it has a bound."""
    house = cluster("a", "b", resources=["r1"], checked=False)

    for _ in range(AUDIT_ENTRIES_MAX + 5):
        claim = house.claim("r1")
        house.force("r1")
        house.apply(release(claim.node, claim.incarnation, ("r1", claim.token)))

    assert list(house.state.audit) == list(range(6, AUDIT_ENTRIES_MAX + 6))


def test_force_touches_nothing_else():
    """One resource, one change of hands."""
    house = cluster("a", "b", "c", resources=["r1", "r2", "r3", "r4", "r5", "r6", "r7"])

    assert changed_by(house.force("r1")) == ["r1"]
