"""ForceRelease: an exception to "one holder", what it excludes, and for how long."""

from __future__ import annotations

import pytest

from pydrm.core.answers import Done, Reason
from pydrm.core.changes import Audited
from pydrm.core.commands import ForceRelease
from pydrm.core.records import Assignment, AuditEntry, Phase
from pydrm.core.state import AUDIT_ENTRIES_MAX
from tests.core.build import add, changed_by, cluster, opening_at_b, refused, release, remove


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
