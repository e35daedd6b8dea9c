"""
`Held`: one handle of a kind, on the real loop, without a cluster around it.

It is what the agent makes of an assignment: the same handle, hold, lease and fence, with the test in the place of the
cluster. To be made on a running loop.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from pydrm.agent.backoff import Backoff
from pydrm.agent.fence import Fence
from pydrm.agent.handle import Handle
from pydrm.agent.hold import GroupBudget, Hold
from pydrm.agent.kind import Kind
from pydrm.agent.lease import Lease
from pydrm.agent.waiters import Waiter
from pydrm.clock import SystemClock
from pydrm.core.records import AssignmentKey, Condition
from pydrm.core.resource import Resource
from pydrm.testing.held_cluster import HeldCluster

__all__ = ["Held", "until"]


async def until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    """Return once *condition* is true; raises TimeoutError after *timeout_s* seconds."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 (whatever it is, it announces nothing)
            await asyncio.sleep(0.001)


class Held:
    """
    *resource*, held by node "a" as incarnation 3, under a lease without end.

    Args:
        cluster: Where a kind finds the events that it delivers, and puts what it publishes. Its token and incarnation
            are what it is held under then.
        saves: Whether what is noted is saved at once; otherwise whoever waits for that waits until `save`.

    Attributes:
        told: Each condition with its detail, in the order in which the cluster would have heard of them.
        checkpoint: What was noted last, encoded; what is given is what an earlier holder has saved. It goes with the
            release, if it is not saved before.
        last_watermark_us: What an earlier holder's node had said when it died.
        raised: Until when the handler has wanted to act, in seconds, in the order in which it did.
        waiter: Who waits for it to be saved, or for the watermark, until `save`.
    """

    def __init__(
        self,
        kind: Kind,
        resource: Resource,
        token: int = 7,
        checkpoint: bytes | None = None,
        watermark_us: int = 0,
        budget: GroupBudget | None = None,
        cluster: HeldCluster | None = None,
        *,
        saves: bool = True,
    ) -> None:
        token, incarnation = (cluster.token, cluster.incarnation) if cluster is not None else (token, 3)
        self.told: list[tuple[Condition, str]] = []
        self.fence = Fence()
        self.lease = Lease()
        self.lease.incarnation = incarnation
        self.lease.deadline = float("inf")
        clock = SystemClock()
        self.handle = Handle(
            (resource.id, 0),
            token,
            fence=self.fence,
            clock=clock,
            backoff=Backoff(random.Random(7), base_s=0.01, cap_s=0.05),
            checkpoints=self,
            give_up_after=0,
            told=lambda handle: self.told.append((handle.condition, handle.detail)),
            gave_up=lambda handle: None,
        )
        self.checkpoint = checkpoint
        self.last_watermark_us = watermark_us
        self.raised: list[float] = []
        self.waiter: Waiter | None = None
        self._saves = saves
        self.hold = Hold(
            resource,
            token,
            "a",
            incarnation,
            lease=self.lease,
            fence=self.fence,
            clock=clock,
            owner=self.handle,
            ledger=cluster.access if cluster is not None else None,
            budget=budget,
        )
        self.task = asyncio.create_task(self.handle.live(kind, self.hold))
        self.handle.owns(self.task)

    def newest(self, key: AssignmentKey, token: int) -> bytes | None:
        """Of the handle's `Bookmarks`."""
        return self.checkpoint

    def note(
        self,
        key: AssignmentKey,
        token: int,
        value: bytes,
        patience_s: float = 0.0,
        waiter: Waiter | None = None,
        *,
        parting: bool = False,
    ) -> None:
        """Of the handle's `Bookmarks`; whether it is saved at once, the test says."""
        self.checkpoint = value
        if waiter is not None:
            self._have_wait(waiter)

    def watermark_us(self, key: AssignmentKey) -> int:
        """Of the handle's `Bookmarks`."""
        return self.last_watermark_us

    def raise_watermark(self, until_s: float, patience_s: float) -> Waiter:
        """Of the handle's `Bookmarks`."""
        self.raised.append(until_s)
        waiter: Waiter = asyncio.get_running_loop().create_future()
        self._have_wait(waiter)
        return waiter

    def _have_wait(self, waiter: Waiter) -> None:
        self.waiter = waiter
        if self._saves:
            self.save()

    def save(self) -> None:
        """What was noted is saved, and so is all that will be."""
        self._saves = True
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def stop_saving(self) -> None:
        """From now on whoever waits for that waits until `save`."""
        self._saves = False

    @property
    def conditions(self) -> list[Condition]:
        return [condition for condition, _ in self.told]

    @property
    def is_open(self) -> bool:
        return self.handle.condition is Condition.OPEN

    async def until_open(self) -> None:
        await until(lambda: self.is_open)

    async def release(self, close_timeout_s: float = 5.0) -> None:
        """As the agent does when the resource goes to another node."""
        await self.handle.end(close_timeout_s)

    async def end_lease(self) -> None:
        """As the warden does: the deadline is over, sockets are shut, then the app's loop hears of it."""
        self.lease.deadline = 0.0
        self.fence.shut_sockets()
        self.handle.cut()
        await asyncio.wait({self.task})
