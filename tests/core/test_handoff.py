"""
The handoff table, cell by cell, and the rules above it.

Each row of CELLS is one case of one cell: what the assignment was, and what it must be afterwards,
compared as a whole. Assignments have names here that say what is going on.
"""

from __future__ import annotations

from itertools import product

import attrs
import pytest
from msgspec.structs import replace

from pydrm.core.handoff import IGNORED, TABLE, Event, Given, after
from pydrm.core.records import Assignment, Holder, Phase

A = Holder("a", incarnation=1, token=10, revision=5)
B = Holder("b", incarnation=2, token=11, revision=5)
B_OUTDATED = replace(B, revision=4)
C = Holder("c", incarnation=3, token=12, revision=5)

WAITING = Assignment("r", 0, Phase.WAITING, ticket=20, previous="a")
WAITING_FIRST = Assignment("r", 0, Phase.WAITING, ticket=7)
HELD = Assignment("r", 0, Phase.HELD, holder=A)
HELD_BY_B = Assignment("r", 0, Phase.HELD, holder=B)
OPENING = Assignment("r", 0, Phase.OPENING, holder=A, target=B)
OPENING_OUTDATED = Assignment("r", 0, Phase.OPENING, holder=A, target=B_OUTDATED)
RELEASING = Assignment("r", 0, Phase.RELEASING, holder=A)
RELEASING_TO_B = Assignment("r", 0, Phase.RELEASING, holder=A, target=B)
RELEASING_TO_OUTDATED = Assignment("r", 0, Phase.RELEASING, holder=A, target=B_OUTDATED)
OUTDATED_RELEASING = Assignment("r", 0, Phase.RELEASING, holder=B_OUTDATED)
REMOVING = Assignment("r", 0, Phase.REMOVING, holder=A)
REMOVING_BOTH = Assignment("r", 0, Phase.REMOVING, holder=A, target=B)
REMOVING_AT_B = Assignment("r", 0, Phase.REMOVING, holder=B)
PARKED = Assignment("r", 0, Phase.PARKED)
GIVEN_UP = replace(RELEASING, failed=(("a", 1),))
GONE = None

GIVEN = Given(weight=1, revision=5, ticket=20)
TO_B = attrs.evolve(GIVEN, target=B)
FOLLOWED = attrs.evolve(GIVEN, following=True)
NOBODY = attrs.evolve(GIVEN, parked=True)
HEAVIER = attrs.evolve(GIVEN, weight=3)


def without_a(assignment: Assignment) -> Assignment:
    """The same, but *a* lost it by force and may still have a handle."""
    return replace(assignment, excluded=(A,))


CELLS = [
    (HELD, Event.RELEASED, GIVEN, WAITING),
    (HELD, Event.TARGET_RELEASED, GIVEN, HELD),
    (HELD, Event.OPENED, GIVEN, HELD),
    (HELD, Event.HOLDER_DIES, GIVEN, WAITING),
    (HELD, Event.HOLDER_DIES, HEAVIER, replace(WAITING, weight=3)),
    (HELD, Event.TARGET_DIES, GIVEN, HELD),
    (HELD, Event.MOVED, GIVEN, RELEASING),
    (HELD, Event.MOVED, TO_B, OPENING),
    (HELD, Event.UPDATED, GIVEN, RELEASING),
    (HELD, Event.UPDATED, TO_B, OPENING),
    (HELD, Event.REMOVED, GIVEN, REMOVING),
    (HELD, Event.FORCED, GIVEN, without_a(WAITING)),
    (OPENING, Event.RELEASED, GIVEN, HELD_BY_B),
    (OPENING_OUTDATED, Event.RELEASED, GIVEN, OUTDATED_RELEASING),
    (OPENING, Event.TARGET_RELEASED, GIVEN, HELD),
    (OPENING, Event.OPENED, GIVEN, RELEASING_TO_B),
    (OPENING, Event.HOLDER_DIES, GIVEN, HELD_BY_B),
    (OPENING_OUTDATED, Event.HOLDER_DIES, GIVEN, OUTDATED_RELEASING),
    (OPENING, Event.TARGET_DIES, GIVEN, HELD),
    (OPENING, Event.MOVED, GIVEN, OPENING),
    (OPENING, Event.UPDATED, GIVEN, RELEASING_TO_B),
    (OPENING, Event.REMOVED, GIVEN, REMOVING_BOTH),
    (OPENING, Event.FORCED, GIVEN, without_a(HELD_BY_B)),
    (RELEASING, Event.RELEASED, GIVEN, WAITING),
    (RELEASING, Event.RELEASED, HEAVIER, replace(WAITING, weight=3)),
    (RELEASING_TO_B, Event.RELEASED, GIVEN, HELD_BY_B),
    (RELEASING_TO_OUTDATED, Event.RELEASED, GIVEN, OUTDATED_RELEASING),
    (RELEASING, Event.TARGET_RELEASED, GIVEN, RELEASING),
    (RELEASING_TO_B, Event.TARGET_RELEASED, GIVEN, RELEASING),
    (RELEASING_TO_B, Event.OPENED, GIVEN, RELEASING_TO_B),
    (RELEASING, Event.HOLDER_DIES, GIVEN, WAITING),
    (RELEASING_TO_B, Event.HOLDER_DIES, GIVEN, HELD_BY_B),
    (RELEASING_TO_OUTDATED, Event.HOLDER_DIES, GIVEN, OUTDATED_RELEASING),
    (RELEASING, Event.TARGET_DIES, GIVEN, RELEASING),
    (RELEASING_TO_B, Event.TARGET_DIES, GIVEN, RELEASING),
    (RELEASING, Event.MOVED, TO_B, RELEASING),
    (RELEASING, Event.UPDATED, TO_B, RELEASING),
    (RELEASING, Event.REMOVED, GIVEN, REMOVING),
    (RELEASING_TO_B, Event.REMOVED, GIVEN, REMOVING_BOTH),
    (RELEASING, Event.FORCED, GIVEN, without_a(WAITING)),
    (RELEASING_TO_B, Event.FORCED, GIVEN, without_a(HELD_BY_B)),
    (RELEASING_TO_OUTDATED, Event.FORCED, GIVEN, without_a(OUTDATED_RELEASING)),
    (REMOVING, Event.RELEASED, GIVEN, GONE),
    (REMOVING, Event.RELEASED, FOLLOWED, WAITING),
    (REMOVING_BOTH, Event.RELEASED, GIVEN, REMOVING_AT_B),
    (REMOVING_BOTH, Event.RELEASED, FOLLOWED, REMOVING_AT_B),
    (REMOVING_BOTH, Event.TARGET_RELEASED, GIVEN, REMOVING),
    (REMOVING, Event.TARGET_RELEASED, GIVEN, REMOVING),
    (REMOVING_BOTH, Event.OPENED, GIVEN, REMOVING_BOTH),
    (REMOVING, Event.HOLDER_DIES, GIVEN, GONE),
    (REMOVING, Event.HOLDER_DIES, FOLLOWED, WAITING),
    (REMOVING_BOTH, Event.HOLDER_DIES, GIVEN, REMOVING_AT_B),
    (REMOVING, Event.TARGET_DIES, GIVEN, REMOVING),
    (REMOVING_BOTH, Event.TARGET_DIES, GIVEN, REMOVING),
    (REMOVING, Event.MOVED, TO_B, REMOVING),
    (REMOVING, Event.UPDATED, TO_B, REMOVING),
    (REMOVING, Event.REMOVED, GIVEN, REMOVING),
    (REMOVING, Event.FORCED, GIVEN, GONE),
    (REMOVING, Event.FORCED, FOLLOWED, without_a(WAITING)),
    (REMOVING_BOTH, Event.FORCED, GIVEN, without_a(REMOVING_AT_B)),
    (WAITING_FIRST, Event.RELEASED, GIVEN, WAITING_FIRST),
    (WAITING_FIRST, Event.TARGET_RELEASED, GIVEN, WAITING_FIRST),
    (WAITING_FIRST, Event.OPENED, GIVEN, WAITING_FIRST),
    (WAITING_FIRST, Event.HOLDER_DIES, GIVEN, WAITING_FIRST),
    (WAITING_FIRST, Event.TARGET_DIES, GIVEN, WAITING_FIRST),
    (WAITING_FIRST, Event.MOVED, TO_B, WAITING_FIRST),
    (WAITING_FIRST, Event.UPDATED, HEAVIER, replace(WAITING_FIRST, weight=3)),
    (WAITING_FIRST, Event.REMOVED, GIVEN, GONE),
    (WAITING_FIRST, Event.FORCED, GIVEN, WAITING_FIRST),
    (HELD, Event.GIVEN_UP, GIVEN, GIVEN_UP),
    (replace(HELD, failed=(("a", 1), ("b", 2))), Event.GIVEN_UP, GIVEN, replace(GIVEN_UP, failed=(("b", 2), ("a", 1)))),
    (OPENING, Event.GIVEN_UP, GIVEN, OPENING),
    (RELEASING, Event.GIVEN_UP, GIVEN, RELEASING),
    (REMOVING, Event.GIVEN_UP, GIVEN, REMOVING),
    (WAITING_FIRST, Event.GIVEN_UP, GIVEN, WAITING_FIRST),
    (PARKED, Event.GIVEN_UP, GIVEN, PARKED),
    (HELD, Event.PARKED, NOBODY, RELEASING),
    (OPENING, Event.PARKED, NOBODY, RELEASING_TO_B),
    (RELEASING, Event.PARKED, NOBODY, RELEASING),
    (REMOVING, Event.PARKED, NOBODY, REMOVING),
    (WAITING_FIRST, Event.PARKED, NOBODY, PARKED),
    (PARKED, Event.PARKED, NOBODY, PARKED),
    (RELEASING, Event.RELEASED, NOBODY, PARKED),
    (RELEASING, Event.HOLDER_DIES, NOBODY, PARKED),
    (RELEASING_TO_B, Event.RELEASED, NOBODY, replace(HELD_BY_B, phase=Phase.RELEASING)),
    (RELEASING, Event.FORCED, NOBODY, without_a(PARKED)),
    (HELD, Event.RESUMED, GIVEN, HELD),
    (OPENING, Event.RESUMED, GIVEN, OPENING),
    (RELEASING, Event.RESUMED, GIVEN, RELEASING),
    (REMOVING, Event.RESUMED, GIVEN, REMOVING),
    (WAITING_FIRST, Event.RESUMED, GIVEN, WAITING_FIRST),
    (PARKED, Event.RESUMED, GIVEN, replace(WAITING, previous="")),
    (PARKED, Event.RELEASED, GIVEN, PARKED),
    (PARKED, Event.TARGET_RELEASED, GIVEN, PARKED),
    (PARKED, Event.OPENED, GIVEN, PARKED),
    (PARKED, Event.HOLDER_DIES, GIVEN, PARKED),
    (PARKED, Event.TARGET_DIES, GIVEN, PARKED),
    (PARKED, Event.MOVED, TO_B, PARKED),
    (PARKED, Event.UPDATED, HEAVIER, replace(WAITING, previous="", weight=3)),
    (PARKED, Event.UPDATED, attrs.evolve(NOBODY, weight=3), replace(PARKED, weight=3)),
    (PARKED, Event.REMOVED, NOBODY, GONE),
    (PARKED, Event.FORCED, GIVEN, PARKED),
]


def _named(value: object) -> str | None:
    if isinstance(value, Event):
        return value.value
    if isinstance(value, Given):
        return next((name for name, known in _GIVENS.items() if known == value), "given")
    if value is None:
        return "gone"
    if isinstance(value, Assignment):
        return value.phase.value + ("-to-target" if value.target else "") + ("-excluding" if value.excluded else "")
    return None


_GIVENS = {"plain": GIVEN, "with-target": TO_B, "followed": FOLLOWED, "parked": NOBODY, "heavier": HEAVIER}


@pytest.mark.parametrize(("before", "event", "given", "expected"), CELLS, ids=_named)
def test_a_cell_of_the_handoff_table(
    before: Assignment, event: Event, given: Given, expected: Assignment | None
) -> None:
    """One case of one cell: the whole assignment is what the table says."""
    assert after(before, event, given) == expected


def test_the_table_has_every_cell_and_every_cell_is_tested() -> None:
    """No pair of phase and event is left to chance."""
    every = set(product(Phase, Event))

    assert set(TABLE) == every
    assert {(before.phase, event) for before, event, _, _ in CELLS} == every


@pytest.mark.parametrize(("before", "event", "given", "expected"), CELLS, ids=_named)
def test_what_says_nothing_new_returns_the_very_same_object(
    before: Assignment, event: Event, given: Given, expected: Assignment | None
) -> None:
    """Identity is how a decision knows that there is nothing to write."""
    new = after(before, event, given)

    if TABLE[before.phase, event] is IGNORED:
        assert new is before
    else:
        assert new is not before


@pytest.mark.parametrize(("before", "event", "given", "expected"), CELLS, ids=_named)
def test_rule_1_a_holder_leaves_only_by_release_death_or_force(
    before: Assignment, event: Event, given: Given, expected: Assignment | None
) -> None:
    """A claim of the holder is in the assignment until one of three events takes it out."""
    new = after(before, event, given)

    may_take_it = event in (Event.RELEASED, Event.HOLDER_DIES, Event.FORCED)
    if before.holder is not None and not may_take_it:
        assert new is not None and new.holder == before.holder


@pytest.mark.parametrize(("before", "event", "given", "expected"), CELLS, ids=_named)
def test_rule_1_a_target_leaves_only_by_its_own_release_or_death(
    before: Assignment, event: Event, given: Given, expected: Assignment | None
) -> None:
    """With overlap the target may have a handle too; nobody forgets it before it says so or dies."""
    new = after(before, event, given)

    if before.target is not None and event not in (Event.TARGET_RELEASED, Event.TARGET_DIES):
        assert new is not None and before.target in new.claims()


@pytest.mark.parametrize(("before", "event", "given", "expected"), CELLS, ids=_named)
def test_rule_2_a_release_is_never_cancelled(
    before: Assignment, event: Event, given: Given, expected: Assignment | None
) -> None:
    """Who was told to close never becomes the holder again under that token."""
    new = after(before, event, given)

    if before.phase in (Phase.RELEASING, Phase.REMOVING) and new is not None and new.phase is Phase.HELD:
        assert new.holder != before.holder


@pytest.mark.parametrize(("before", "event", "given", "expected"), CELLS, ids=_named)
def test_rule_2_a_removal_is_never_cancelled(
    before: Assignment, event: Event, given: Given, expected: Assignment | None
) -> None:
    """What is being removed stays so until it is gone, or until only the following definition is left."""
    new = after(before, event, given)

    if before.phase is Phase.REMOVING and new is not None:
        assert new.phase is Phase.REMOVING or (new.phase is Phase.WAITING and given.following)


@pytest.mark.parametrize(("before", "event", "given", "expected"), CELLS, ids=_named)
def test_rule_3_the_table_gives_no_holder_that_was_not_a_target(
    before: Assignment, event: Event, given: Given, expected: Assignment | None
) -> None:
    """Choosing among nodes is placement's; here a holder is the old one, the target or nobody."""
    new = after(before, event, given)

    if new is not None:
        assert new.holder in (before.holder, before.target, None)


@pytest.mark.parametrize(("before", "event", "given", "expected"), CELLS, ids=_named)
def test_rule_4_no_handle_of_an_old_revision_becomes_held(
    before: Assignment, event: Event, given: Given, expected: Assignment | None
) -> None:
    """A target that was to open an older definition is released in its turn."""
    new = after(before, event, given)

    if new is not None and new.phase is Phase.HELD and new.holder is not None:
        assert new.holder.revision == given.revision


@pytest.mark.parametrize("event", [Event.TARGET_RELEASED, Event.TARGET_DIES], ids=lambda event: event.value)
def test_rule_4_a_holder_of_an_old_revision_that_loses_its_target_is_released(event: Event) -> None:
    """An update with overlap whose new handle is gone may not leave the old definition held for ever."""
    updating = replace(OPENING, holder=replace(A, revision=4))

    new = after(updating, event, GIVEN)

    assert new == Assignment("r", 0, Phase.RELEASING, holder=replace(A, revision=4))


@pytest.mark.parametrize(("before", "event", "given", "expected"), CELLS, ids=_named)
def test_who_is_excluded_stays_excluded_whatever_happens(
    before: Assignment, event: Event, given: Given, expected: Assignment | None
) -> None:
    """Only its own report or its death lifts an exclusion, and neither is an event of the table."""
    new = after(replace(before, excluded=(C,)), event, given)

    if expected is not None:
        assert new == replace(expected, excluded=(C, *expected.excluded))


def test_what_is_removed_waits_for_whom_it_was_taken_from_by_force() -> None:
    """A handle that nobody could make go is still one: the record stays until it is known to be gone."""
    forced = replace(WAITING, excluded=(C,))

    removed = after(forced, Event.REMOVED, GIVEN)

    assert removed is not None
    assert (removed.phase, removed.holder, removed.excluded) == (Phase.REMOVING, C, ())
    assert after(removed, Event.RELEASED, GIVEN) is None


@pytest.mark.parametrize("before", [WAITING_FIRST, RELEASING, REMOVING], ids=_named)
def test_a_phase_without_a_target_has_a_cell_for_it_all_the_same(before: Assignment) -> None:
    """Events about a target that is not there change nothing."""
    assert after(before, Event.TARGET_DIES, GIVEN) == before
    assert after(before, Event.TARGET_RELEASED, GIVEN) == before
