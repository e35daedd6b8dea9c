"""Whose turn it is to be opened or closed."""

from __future__ import annotations

from pydrm.agent.turns import OPEN_SLOT_S, Turn, Turns
from pydrm.core.state import State


def turns() -> Turns:
    return Turns(open_concurrency=2, close_concurrency=2, handoff_window=1)


def opened(these: Turns, now: float) -> list[str]:
    names = []
    while (turn := these.next_to_open()) is not None:
        (name, _), token = turn
        names.append(name)
        these.opening(token, now)
    return names


def closed(these: Turns, now: float) -> list[Turn]:
    found = []
    while (turn := these.next_to_close(now)) is not None:
        found.append(turn)
        these.closing(turn[1])
    return found


def test_so_many_are_opened_at_once_first_come_first_served() -> None:
    """The next ones when a try is over, or has taken so long that nobody should wait for it."""
    these = turns()
    for token in range(6):
        these.wants_open((f"r{token}", 0), token)
    these.unqueue([1])

    assert opened(these, now=100.0) == ["r0", "r2"]
    assert these.settled(0) and not these.settled(0)
    assert opened(these, now=100.5) == ["r3"]
    these.update(State(), 100.0 + OPEN_SLOT_S + 0.1)
    assert opened(these, now=101.1) == ["r4"]


def test_what_others_open_is_closed_only_while_few_are_on_their_way() -> None:
    """What nobody opens after this node does not wait for that, and goes first."""
    these = turns()
    these.wants_close(("moves", 0), 1, moves=True)
    these.wants_close(("moves-too", 0), 2, moves=True)
    these.wants_close(("goes", 0), 3, moves=False)

    assert closed(these, now=100.0) == [(("goes", 0), 3), (("moves", 0), 1)]
    these.gone(3)
    these.gone(1)
    assert closed(these, now=100.1) == []
    these.update(State(), 100.1)
    assert closed(these, now=100.1) == [(("moves-too", 0), 2)]


def test_one_that_is_stuck_does_not_keep_others_from_being_closed() -> None:
    these = turns()
    for token in range(4):
        these.wants_close((f"r{token}", 0), token, moves=False)

    assert len(closed(these, now=100.0)) == 2
    these.stuck(0)
    assert closed(these, now=100.0) == [(("r2", 0), 2)]
