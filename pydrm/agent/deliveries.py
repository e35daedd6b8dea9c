"""
`Deliveries`: this node's part of the ledger, on the app's loop; and `Desk`, one subscription's place at it.

What is due comes here from the engine's thread; claims and results go from here into the log, those of all
subscriptions together. Nothing here says what is due next or what a result means: that is for the kind.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from pydrm.agent.backoff import Backoff
from pydrm.agent.cluster import ANSWER_TIMEOUT_S, Cluster, Proposer
from pydrm.agent.detail import shown
from pydrm.agent.ledger_watch import LedgerWatch
from pydrm.agent.outbox import fitting
from pydrm.clock import Clock
from pydrm.core.answers import Done
from pydrm.core.commands import Command, PauseResources
from pydrm.core.events import Delivery, DeliveryState, Event
from pydrm.core.ledger_commands import Claim, ClaimDeliveries, SettleDeliveries, Settlement, Verdict
from pydrm.errors import DrmError, Fenced, Unavailable

__all__ = ["Deliveries", "Desk"]

logger = logging.getLogger(__name__)

# How many proposals of one sort may be under way; what comes up meanwhile goes together in the next.
PROPOSALS_MAX = 4

T = TypeVar("T")


class Deliveries:
    """
    Args:
        incarnation: The one that this node works for now.
    """

    def __init__(
        self,
        node: str,
        incarnation: Callable[[], int],
        cluster: Cluster,
        watch: LedgerWatch,
        *,
        clock: Clock,
        backoff: Callable[[], Backoff],
    ) -> None:
        self.node = node
        self.incarnation = incarnation
        self.cluster = cluster
        self.watch = watch
        self._desks: dict[str, list[Desk]] = {}

        def claims(items: tuple[Claim, ...]) -> Command:
            return ClaimDeliveries(node, incarnation(), items)

        def settlements(items: tuple[Settlement, ...]) -> Command:
            return SettleDeliveries(node, incarnation(), items)

        self.claims: _Counter[Claim] = _Counter(cluster, claims, clock=clock, backoff=backoff)
        self.settlements: _Counter[Settlement] = _Counter(cluster, settlements, clock=clock, backoff=backoff)

    def desk(self, resource: str, token: int) -> Desk:
        """The place of a subscription that this node holds; close it when the hold ends."""
        desk = Desk(self, resource, token)
        # Before what is there is listed: so nothing falls between the two.
        self._desks.setdefault(resource, []).append(desk)
        self.watch.watched[resource] = len(self._desks[resource])
        desk.told(self.cluster.state.ledger.of(resource))
        return desk

    def told(self, news: Iterable[Delivery]) -> None:
        """These are due, or will be."""
        for delivery in news:
            for desk in self._desks.get(delivery.resource, ()):
                desk.told((delivery,))

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.claims.run(), name="pydrm claims")
            tasks.create_task(self.settlements.run(), name="pydrm results")

    def clear(self) -> None:
        """Forget all: it was about an incarnation that is over."""
        self.claims.clear()
        self.settlements.clear()

    def close(self, desk: Desk) -> None:
        desks = self._desks.get(desk.resource, [])
        if desk in desks:
            desks.remove(desk)
            if not desks:
                del self._desks[desk.resource]
                del self.watch.watched[desk.resource]


class Desk:
    """
    Attributes:
        news: Set when there is something to `take`.
    """

    def __init__(self, deliveries: Deliveries, resource: str, token: int) -> None:
        self.resource = resource
        self.news = asyncio.Event()
        self._deliveries = deliveries
        self._token = token
        self._incarnation = deliveries.incarnation()
        self._told: dict[int, None] = {}

    def told(self, deliveries: Iterable[Delivery]) -> None:
        self._told.update((delivery.event, None) for delivery in deliveries)
        if self._told:
            self.news.set()

    def take(self) -> list[int]:
        """The numbers of events about which there is news; what it is, the state says."""
        self.news.clear()
        told, self._told = self._told, {}
        return list(told)

    def delivery(self, event: int) -> Delivery | None:
        """As it is now, as far as this node knows."""
        return self._deliveries.cluster.state.ledger.delivery(self.resource, event)

    def event(self, number: int) -> Event | None:
        return self._deliveries.cluster.state.ledger.events.get(number)

    def due_at(self, delivery: Delivery) -> float:
        """When to try it, in seconds of the node's clock."""
        return self._deliveries.watch.due_at(delivery)

    async def claim(self, event: int, attempt: int, *, once: bool) -> bool:
        """
        Claim one delivery; True if it is this holder's to try, committed. Then `settle` it.

        Raises:
            DrmError: Nothing can be said any more; whether it was claimed is unknown.
        """
        await self._deliveries.claims.put(Claim(self.resource, 0, self._token, event, attempt, once))
        delivery = self.delivery(event)
        return delivery is not None and delivery.state is DeliveryState.CLAIMED and self._is_mine(delivery, attempt)

    async def settle(
        self, event: int, attempt: int, verdict: Verdict, *, delay_s: float = 0.0, reason: str = ""
    ) -> None:
        """
        Say what became of a claimed attempt; return when that is committed.

        Raises:
            DrmError: Nothing can be said any more; the claim may be left open.
        """
        settlement = Settlement(
            self.resource, self._token, event, attempt, verdict, delay_ms=round(delay_s * 1000), reason=shown(reason)
        )
        await self._deliveries.settlements.put(settlement)

    async def pause(self, reason: str) -> None:
        """
        Have the subscription paused: this hold ends.

        Raises:
            DrmError: It is not known whether it is.
        """
        pause = PauseResources((self.resource,), shown(reason))
        await self._deliveries.cluster.propose(pause, timeout=ANSWER_TIMEOUT_S)

    def close(self) -> None:
        """Idempotent."""
        self._deliveries.close(self)

    def _is_mine(self, delivery: Delivery, attempt: int) -> bool:
        mine = (self._deliveries.node, self._incarnation, self._token, attempt)
        return (delivery.node, delivery.incarnation, delivery.token, delivery.attempt) == mine


class _Counter(Generic[T]):
    """Takes one thing after the other, and has them said together, again and again until they are."""

    def __init__(
        self,
        proposer: Proposer,
        command: Callable[[tuple[T, ...]], Command],
        *,
        clock: Clock,
        backoff: Callable[[], Backoff],
    ) -> None:
        self._proposer = proposer
        self._command = command
        self._clock = clock
        self._backoff = backoff
        self._waiting: dict[asyncio.Future[None], T] = {}
        self._any = asyncio.Event()
        self._life = 0

    async def put(self, item: T) -> None:
        """Return when it was applied here, whatever came of it. Raises DrmError when that will not be known."""
        said: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[said] = item
        self._any.set()
        try:
            await said
        finally:
            # Nobody waits for it any more; what is under way stays so.
            self._waiting.pop(said, None)

    def clear(self) -> None:
        self._life += 1
        waiting, self._waiting = self._waiting, {}
        _fail(waiting, Fenced("the incarnation that this was said for is over"))

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            free = asyncio.Semaphore(PROPOSALS_MAX)
            while True:
                await free.acquire()
                while not self._waiting:
                    self._any.clear()
                    await self._any.wait()
                # As many as one command has room for.
                batch = dict(zip(self._waiting, fitting(self._waiting.values()), strict=False))
                for said in batch:
                    del self._waiting[said]
                say = tasks.create_task(self._say(batch))
                say.add_done_callback(lambda _: free.release())

    async def _say(self, batch: dict[asyncio.Future[None], T]) -> None:
        command = self._command(tuple(batch.values()))
        life, backoff = self._life, self._backoff()
        while life == self._life:
            try:
                answer = await self._proposer.propose(command, timeout=ANSWER_TIMEOUT_S)
            except Unavailable as error:
                logger.warning("%s is not answered, and is repeated: %s", type(command).__name__, error)
                await self._clock.sleep(backoff.next_s())
                continue
            except DrmError as error:
                _fail(batch, error)
                return
            if not isinstance(answer, Done):
                _fail(batch, Fenced(f"{type(command).__name__} was refused: {answer.detail or answer.reason.value}"))
                return
            for said in batch:
                if not said.done():
                    said.set_result(None)
            return
        _fail(batch, Fenced("the incarnation that this was said for is over"))


def _fail(batch: Iterable[asyncio.Future[None]], error: DrmError) -> None:
    for said in batch:
        if not said.done():
            said.set_exception(error)
