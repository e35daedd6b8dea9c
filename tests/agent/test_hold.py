"""A handler's view of one assignment."""

from __future__ import annotations

import socket

import pytest

from pydrm.agent.fence import Fence
from pydrm.agent.hold import Hold
from pydrm.agent.lease import Lease
from pydrm.agent.waiters import Waiter
from pydrm.core.records import Condition
from pydrm.core.resource import Resource
from pydrm.errors import Fenced


class HandClock:
    def __init__(self) -> None:
        self.time_s = 100.0

    def now(self) -> float:
        return self.time_s

    def wall(self) -> float:
        return self.now()

    async def sleep(self, seconds: float) -> None:
        self.time_s += seconds


class Owner:
    def __init__(self) -> None:
        self.told: list[tuple[Condition, str]] = []

    def tell(self, condition: Condition, detail: str) -> None:
        self.told.append((condition, detail))

    def note(self, value: bytes, patience_s: float, waiter: Waiter | None) -> None:
        raise AssertionError("nothing is saved here")

    def newest(self) -> None:
        return None

    def watermark_us(self) -> int:
        return 0

    def raise_watermark(self, until_s: float, patience_s: float) -> Waiter:
        raise AssertionError("nothing is said here")


class Scene:
    """A hold of token 7 under a lease until 102 s, at 100 s."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.fence = Fence()
        self.lease = Lease()
        self.lease.incarnation = 3
        self.lease.deadline = 102.0
        self.owner = Owner()
        self.told = self.owner.told
        self.hold = Hold(
            Resource("r1", kind="mqtt"),
            7,
            "a",
            3,
            lease=self.lease,
            fence=self.fence,
            clock=self.clock,
            owner=self.owner,
        )


def is_shut(sock: socket.socket) -> bool:
    return sock.recv(1) == b""


def test_a_hold_is_valid_until_the_deadline_of_the_lease_by_the_clock_alone() -> None:
    """Nobody has to tell it: an event could come late."""
    scene = Scene()

    scene.clock.time_s = 101.999
    assert scene.hold.valid

    scene.clock.time_s = 102.0
    assert not scene.hold.valid


def test_a_renewal_makes_it_valid_for_longer() -> None:
    scene = Scene()

    scene.lease.deadline = 104.0
    scene.clock.time_s = 103.0

    assert scene.hold.valid


def test_the_lease_of_the_next_incarnation_does_not_make_an_old_hold_valid() -> None:
    scene = Scene()

    scene.lease.deadline, scene.lease.incarnation = 200.0, 4

    assert not scene.hold.valid


def test_a_revoked_hold_stays_over_and_its_sockets_are_shut() -> None:
    scene = Scene()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        scene.hold.guard(ours)

        scene.hold.revoke()

        assert not scene.hold.valid
        assert is_shut(theirs)


def test_a_guarded_socket_can_be_shut_by_the_fence() -> None:
    scene = Scene()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        scene.hold.guard(ours)

        scene.fence.shut_sockets()

        assert is_shut(theirs)


def test_guarding_under_a_lease_that_is_over_is_refused_but_registered() -> None:
    """Were it checked before it is registered, the lease could end in between."""
    scene = Scene()
    scene.clock.time_s = 102.0
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with pytest.raises(Fenced, match=r"'r1'.*'a'.*token 7"):
            scene.hold.guard(ours)

        assert scene.fence.tokens() == [7]


def test_a_handler_that_reconnects_for_years_does_not_pile_up_closed_sockets() -> None:
    scene = Scene()
    for _ in range(3):
        ours, theirs = socket.socketpair()
        scene.hold.guard(ours)
        ours.close()
        theirs.close()

    last, theirs = socket.socketpair()
    with last, theirs:
        scene.hold.guard(last)

        assert scene.fence._handles == {7: (last,)}


def test_a_handler_says_how_its_resource_is() -> None:
    scene = Scene()

    scene.hold.ready()
    scene.hold.retrying("it is away")

    assert scene.told == [(Condition.OPEN, ""), (Condition.RETRYING, "it is away")]
