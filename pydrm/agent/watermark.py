"""
`RisingWatermark`: what this node says for all its handlers at once: that they may act, as far as something is due.

A handler that acts at its time, such as one that polls, has that in the log before it does, so that whoever comes after
it neither does the same again nor leaves it out. Thousands of them would save thousands of checkpoints. Instead those
that are due wait a little for others, and one record says it for all.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from math import ceil

from pydrm.agent.backoff import Backoff
from pydrm.agent.cluster import Insistence, Proposer
from pydrm.agent.waiters import Waiter, refuse, tell
from pydrm.clock import Clock
from pydrm.core.answers import Done
from pydrm.core.handle_commands import RaiseWatermark
from pydrm.errors import DrmError

__all__ = ["RisingWatermark"]

_OVER = "the node that it was held by is another incarnation now"


class RisingWatermark:
    """
    Args:
        incarnation: The one that this node works for now.
    """

    def __init__(
        self, node: str, incarnation: Callable[[], int], proposer: Proposer, *, clock: Clock, backoff: Backoff
    ) -> None:
        self._node = node
        self._incarnation = incarnation
        self._clock = clock
        self._insistence = Insistence(proposer, clock=clock, backoff=backoff)
        self._raised_us = 0
        self._wanted_us = 0
        self._by_s = float("inf")
        self._woken = asyncio.Event()
        self._waiters: list[Waiter] = []
        self._under_way: list[Waiter] = []

    def raise_to(self, until_s: float, patience_s: float) -> Waiter:
        """
        Done once it is in the log that whatever is due by *until_s* may be done; `Fenced` if it never will be.

        Args:
            patience_s: How long that may wait for others.
        """
        waiter: Waiter = asyncio.get_running_loop().create_future()
        until_us = ceil(until_s * 1e6)
        if until_us <= self._raised_us:
            waiter.set_result(None)
            return waiter
        self._wanted_us = max(self._wanted_us, until_us)
        self._waiters.append(waiter)
        by_s = self._clock.now() + patience_s
        if by_s < self._by_s:
            self._by_s = by_s
            self._woken.set()
        return waiter

    async def run(self) -> None:
        """Until cancelled, or until the node cannot say anything any more."""
        while True:
            await self._gather()
            self._under_way, self._waiters = self._waiters, []
            until_us, self._wanted_us, self._by_s = self._wanted_us, 0, float("inf")
            try:
                raised = await self._raise(RaiseWatermark(self._node, self._incarnation(), until_us))
            except DrmError:
                return
            waiters, self._under_way = self._under_way, []
            if raised:
                self._raised_us = max(self._raised_us, until_us)
                tell(waiters)
            else:
                refuse(waiters, _OVER)

    def clear(self) -> None:
        """Forget all: it was about an incarnation that is over."""
        refuse([*self._under_way, *self._waiters], _OVER)
        self._waiters.clear()
        self._raised_us = self._wanted_us = 0
        self._by_s = float("inf")

    async def _gather(self) -> None:
        while (wait_s := self._by_s - self._clock.now()) > 0:
            self._woken.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s if wait_s < float("inf") else None):
                    await self._woken.wait()

    async def _raise(self, command: RaiseWatermark) -> bool:
        def while_awaited() -> RaiseWatermark | None:
            return command if any(not waiter.done() for waiter in self._under_way) else None

        answer = await self._insistence.say(while_awaited)
        return isinstance(answer, Done) and command.incarnation == self._incarnation()
