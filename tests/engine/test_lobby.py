"""
`Lobby`: how many strangers, for how long, and how often from one host.
"""

from __future__ import annotations

import asyncio

import pytest

from pydrm.engine import lobby
from pydrm.engine.lobby import Lobby
from tests.engine.loops import on_a_loop


class Guest:
    """What the lobby knows of a link."""

    def __init__(self, host: str, dialled: str = "") -> None:
        self.host = host
        self.dialled = dialled
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


def arrive(room: Lobby, *hosts: str, now: float = 0.0) -> list[Guest]:
    guests = [Guest(host) for host in hosts]
    for guest in guests:
        assert room.admit(guest, now)
    return guests


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lobby, "_STRANGERS_MAX", 4)


@on_a_loop
async def test_when_it_is_full_the_host_with_the_most_loses_its_oldest():
    """So one host with many connections does not put out the one of another."""
    room = Lobby()
    guests = arrive(room, "peer", "crowd", "crowd", "crowd", "other", "crowd")

    assert [guest.aborted for guest in guests] == [False, True, True, False, False, False]
    assert len(room) == 4


@on_a_loop
async def test_of_equals_the_oldest_goes():
    """Whoever has had the most time."""
    room = Lobby()
    guests = arrive(room, "a", "b", "c", "d", "e")

    assert [guest.aborted for guest in guests] == [True, False, False, False, False]


@on_a_loop
async def test_what_was_dialled_takes_nobodys_place_and_loses_none():
    """It is there at this node's own wish."""
    room = Lobby()
    dialled = [Guest("peer", dialled=name) for name in "abcdefgh"]
    for guest in dialled:
        assert room.admit(guest, 0.0)
    guests = arrive(room, "x", "x", "x", "x", "x")

    assert not any(guest.aborted for guest in dialled)
    assert [guest.aborted for guest in guests] == [True, False, False, False, False]


@on_a_loop
async def test_each_has_one_deadline_for_everything(monkeypatch: pytest.MonkeyPatch):
    """Whoever leaves before is left alone."""
    monkeypatch.setattr(lobby, "_HANDSHAKE_TIMEOUT_S", 0.01)
    room = Lobby()
    stays, leaves = arrive(room, "a", "b")
    room.leave(leaves)
    room.leave(leaves)
    await asyncio.sleep(0.1)

    assert (stays.aborted, leaves.aborted) == (True, False)


@on_a_loop
async def test_a_host_that_knocks_again_and_again_is_turned_away_and_no_other():
    """64 at once, 32 a second."""
    room = Lobby()
    admitted = [room.admit(Guest("crowd"), 0.0) for _ in range(100)]
    arrive(room, "peer")
    later = [room.admit(Guest("crowd"), 10.0) for _ in range(100)]
    steadily = [room.admit(Guest("crowd"), 20.0 + number / 30) for number in range(300)]

    assert admitted == [True] * 64 + [False] * 36
    assert later == [True] * 64 + [False] * 36
    assert all(steadily)


@on_a_loop
async def test_hosts_without_end_do_not_fill_the_memory():
    """An address of version 6 is one of very many."""
    room = Lobby()
    for number in range(5000):
        room.admit(Guest(f"host {number}"), number / 1000)
    for _ in range(100):
        room.admit(Guest("crowd"), 5.0)

    assert len(room._full_at) <= 1024
    assert not room.admit(Guest("crowd"), 5.0)
