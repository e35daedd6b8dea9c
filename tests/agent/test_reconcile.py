"""What the agent has to do about one assignment, cell by cell."""

from __future__ import annotations

import pytest

from pydrm.agent.reconcile import Action, Deed, Stage, Wish, reconcile, wishes
from pydrm.core.records import Assignment, Definition, Holder, Phase, Record

ME = ("a", 3)
RECORD = Record(Definition("r1", "websocket", b""), revision=5)


def mine(token: int, revision: int = 5) -> Holder:
    return Holder("a", 3, token, revision)


def other(token: int, revision: int = 5) -> Holder:
    return Holder("b", 4, token, revision)


def assignment(phase: Phase, holder: Holder | None = None, target: Holder | None = None, **more: object) -> Assignment:
    return Assignment("r1", 0, phase, holder=holder, target=target, **more)


def deeds(wanted: dict[int, Wish], had: dict[int, Stage]) -> list[Action]:
    return list(reconcile(wanted, had))


@pytest.mark.parametrize(
    ("situation", "expected"),
    [
        (assignment(Phase.HELD, mine(7)), {7: Wish.OPEN}),
        (assignment(Phase.HELD, mine(7, revision=4)), {7: Wish.KEEP}),
        (assignment(Phase.HELD, other(7)), {}),
        (assignment(Phase.WAITING), {}),
        (assignment(Phase.OPENING, mine(7), other(8)), {7: Wish.OPEN}),
        (assignment(Phase.OPENING, other(7), mine(8)), {8: Wish.OPEN}),
        (assignment(Phase.OPENING, mine(7, revision=4), mine(8)), {7: Wish.KEEP, 8: Wish.OPEN}),
        (assignment(Phase.RELEASING, mine(7)), {7: Wish.LET_GO}),
        (assignment(Phase.RELEASING, mine(7), mine(8)), {7: Wish.LET_GO, 8: Wish.OPEN}),
        (assignment(Phase.RELEASING, other(7), mine(8, revision=4)), {8: Wish.KEEP}),
        (assignment(Phase.REMOVING, mine(7), mine(8)), {7: Wish.LET_GO, 8: Wish.LET_GO}),
        (assignment(Phase.HELD, other(9), excluded=(mine(7),)), {7: Wish.CUT}),
    ],
)
def test_the_state_wants_something_of_each_of_my_claims(situation: Assignment, expected: dict[int, Wish]) -> None:
    assert wishes(situation, RECORD, ME) == expected


def test_a_claim_of_my_former_incarnation_is_not_mine() -> None:
    """Its lease is over; whatever it held is somebody else's to open."""
    former = Holder("a", 2, 7, 5)

    assert wishes(assignment(Phase.HELD, former), RECORD, ME) == {}


def test_nothing_is_wanted_of_what_is_not_under_management() -> None:
    assert wishes(None, None, ME) == {}
    assert wishes(assignment(Phase.HELD, mine(7)), None, ME) == {}


@pytest.mark.parametrize(
    ("wish", "stage", "deed"),
    [
        (Wish.OPEN, None, Deed.OPEN),
        (Wish.OPEN, Stage.LIVE, None),
        (Wish.OPEN, Stage.CLOSING, None),
        (Wish.OPEN, Stage.GONE, None),
        (Wish.KEEP, None, None),
        (Wish.KEEP, Stage.LIVE, None),
        (Wish.KEEP, Stage.CLOSING, None),
        (Wish.KEEP, Stage.GONE, None),
        (Wish.LET_GO, None, Deed.RELEASE),
        (Wish.LET_GO, Stage.LIVE, Deed.CLOSE),
        (Wish.LET_GO, Stage.CLOSING, None),
        (Wish.LET_GO, Stage.GONE, Deed.RELEASE),
        (Wish.CUT, None, Deed.RELEASE),
        (Wish.CUT, Stage.LIVE, Deed.CUT),
        (Wish.CUT, Stage.CLOSING, Deed.CUT),
        (Wish.CUT, Stage.GONE, Deed.RELEASE),
        (None, Stage.LIVE, Deed.CUT),
        (None, Stage.CLOSING, Deed.CUT),
        (None, Stage.GONE, Deed.FORGET),
    ],
)
def test_each_wish_and_stage_leads_to_one_deed(wish: Wish | None, stage: Stage | None, deed: Deed | None) -> None:
    wanted = {7: wish} if wish else {}
    had = {7: stage} if stage else {}

    assert deeds(wanted, had) == ([Action(deed, 7)] if deed else [])


def test_a_token_that_was_let_go_is_never_opened_again() -> None:
    """Its release may be on its way through the log, and then the next holder opens."""
    assert deeds({7: Wish.OPEN}, {7: Stage.GONE}) == []


def test_a_release_is_proposed_even_if_nothing_was_ever_opened() -> None:
    """Else a resource that moved on before it was opened would wait for ever."""
    assert deeds({7: Wish.LET_GO}, {}) == [Action(Deed.RELEASE, 7)]


def test_nothing_is_opened_beside_a_handle_of_a_former_incarnation() -> None:
    wanted, had = {9: Wish.OPEN}, {7: Stage.CLOSING}

    assert deeds(wanted, had) == [Action(Deed.CUT, 7)]
    assert deeds(wanted, {}) == [Action(Deed.OPEN, 9)]


def test_with_overlap_the_new_definition_is_opened_beside_the_old_one() -> None:
    wanted = wishes(assignment(Phase.OPENING, mine(7, revision=4), mine(8)), RECORD, ME)

    assert deeds(wanted, {7: Stage.LIVE}) == [Action(Deed.OPEN, 8)]
