"""
`Voters`: who has a vote, changed one at a time while the cluster works.

A voter counts for majorities whether it runs or not. So one that will not come back should lose its vote, and
a cluster that is to survive two losses needs five; any other node can be a worker, which has none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from pydrm.agent.refusal import error_of
from pydrm.clock import Clock
from pydrm.core.answers import Answer, Reason, Refused
from pydrm.errors import ClusterRefused, Unavailable
from pydrm.node import Node

__all__ = ["Voters"]

_AGAIN_S = 0.2
_LOOK_S = 0.02


class Voters:
    """
    What `ResourceManager.voters` is. Timeouts are in seconds.

    Each request takes effect once, and only on the voters that this node knew of; when somebody else was faster, it is
    looked at again.
    """

    def __init__(self, running: Callable[[], Node], clock: Clock) -> None:
        self._running = running
        self._clock = clock

    def names(self) -> list[str]:
        """Who has a vote, as this node knows it."""
        return sorted(self._running().engine.status().voters)

    async def add(self, name: str, *, timeout: float = 10) -> None:
        """
        Give a node a vote that runs, follows this cluster and is linked with this node. Safe to repeat.

        It was started with the same cluster, `role = "voter"`, an empty data directory, and peers that list the voters.

        Raises:
            ClusterRefused: It is not linked with this node (reason "not-found"), or it is this node, or a worker, or
                another replica has its name ("conflict").
            Unavailable: No majority answered in time, or it lacked too much of the log: repeat it.
        """
        self._refuse_self(name)
        await self._change(
            lambda node, left_s: node.engine.add_voter(name, timeout=left_s),
            timeout,
            done=lambda voters: name in voters,
        )

    async def remove(self, name: str, *, timeout: float = 10) -> None:
        """
        Take the vote of a node away; if it runs, it goes on without, until it is stopped.

        Raises:
            ClusterRefused: It has none (reason "not-found"), or it has the last ("invalid").
            Unavailable: No majority answered in time: repeat it.
        """
        await self._change(
            lambda node, left_s: node.engine.remove_voter(name, timeout=left_s),
            timeout,
            done=lambda voters: name not in voters,
        )

    async def replace(self, name: str, *, timeout: float = 60) -> None:
        """
        Have a node that lost its data directory vote again under its old name.

        Its old vote is taken away, and when it is linked it gets one for what it is now, whenever it is started.
        Safe to repeat, also when it was interrupted between the two.

        Raises:
            ClusterRefused: It is a worker, or this node ("conflict"), or its old vote is the last one ("invalid").
            Unavailable: It was not linked in time, or no majority answered; what was done stays done.
        """
        # Before anything is taken away.
        self._refuse_self(name)
        deadline = self._clock.now() + timeout
        try:
            await self.remove(name, timeout=timeout)
        except ClusterRefused as refused:
            if refused.reason != "not-found":
                raise
        while True:
            try:
                await self.add(name, timeout=deadline - self._clock.now())
                return
            except ClusterRefused as refused:
                if refused.reason != "not-found":
                    raise
                if self._clock.now() > deadline:
                    raise Unavailable(f"{name} has no old vote any more, and no new one yet: {refused}") from refused
            await self._clock.sleep(_AGAIN_S)

    def _refuse_self(self, name: str) -> None:
        if name == self._running().name:
            raise ClusterRefused(
                f"{name} is this node, and is not linked with itself: ask another one", reason="conflict"
            )

    async def _change(
        self, change: Callable[[Node, float], Awaitable[Answer]], timeout: float, *, done: Callable[[list[str]], bool]
    ) -> None:
        """Return when *done* is true of the voters that this node knows; it may hear of the change after the leader."""
        deadline = self._clock.now() + timeout
        while True:
            answer = await change(self._running(), max(deadline - self._clock.now(), 0.0))
            if not isinstance(answer, Refused):
                while not done(self.names()) and self._clock.now() < deadline:
                    await self._clock.sleep(_LOOK_S)
                return
            if answer.reason is not Reason.STALE or self._clock.now() > deadline:
                raise error_of(answer)
