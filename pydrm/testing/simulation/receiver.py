"""
`SimReceiver`: what webhooks are sent to, and the judge of them: it writes down what arrives, and who was promised what.

What has left a process arrives, whatever becomes of the process; what is answered reaches it only if it still runs.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable

import attrs

from pydrm.agent.hold import Hold
from pydrm.core.events import DeliveryState
from pydrm.core.state import State
from pydrm.engine import resource_of
from pydrm.handlers.webhook.poster import Lost, NotSent, Post, Reply
from pydrm.testing.simulation.order import Order
from pydrm.testing.simulation.third_party import CallLater, Host

__all__ = ["SimPoster", "SimReceiver"]

_WAY_S = 0.004

Key = tuple[str, str]  # (subscription, webhook-id)


@attrs.frozen
class Promise:
    """
    Attributes:
        once: That nothing comes twice.
        ordered: That one event comes after the other.
    """

    once: bool
    ordered: bool


class SimReceiver:
    """
    Attributes:
        refuses: Nobody can connect.
        fails: Answers 500, after it has written down what came.
        silent: Answers nobody.
        arrived: How often each came.
        violations: What went against the promise, in words.
    """

    def __init__(
        self,
        now: Callable[[], float],
        trace: Callable[[str], None],
        *,
        call_later: CallLater,
        random: Callable[[], float],
        states: Callable[[], Iterable[State]],
    ) -> None:
        self.refuses = False
        self.fails = False
        self.silent = False
        self.arrived: Counter[Key] = Counter()
        self.violations: list[str] = []
        self._promised: dict[Key, bool] = {}  # -> whether it is to be sent once
        self._now = now
        self._trace = trace
        self._call_later = call_later
        self._order = Order(states)
        self.random = random

    def works(self) -> None:
        self.refuses = self.fails = self.silent = False

    def promised(self, subscriptions: Iterable[tuple[str, bool]], id: str) -> None:
        """An event was acknowledged; each (subscription, once) was there before it was published."""
        self._promised.update(((name, id), once) for name, once in subscriptions)

    def sent(self, host: Host, key: Key, promise: Promise, answer: Callable[[int], None]) -> None:
        """Something leaves *host*."""
        if promise.ordered:
            self._object(self._order.problem(*key))

        def arrive() -> None:
            self.arrived[key] += 1
            self._trace(f"{host.name} posts {key[1]} to {key[0]}")
            if promise.once and self.arrived[key] > 1:
                self._object(f"{key[1]} was posted to {key[0]} {self.arrived[key]} times")
            if self.silent:
                return
            if not self.fails:
                self._order.accepted(*key)
            status = 500 if self.fails else 204
            self._call_later(_WAY_S * self.random(), lambda: answer(status))

        self._call_later(_WAY_S * self.random(), arrive)

    def _object(self, problem: str) -> None:
        if problem:
            self.violations.append(f"{self._now():.4f} {problem}")
            self._trace(f"VIOLATION {problem}")

    def problems(self, states: Iterable[State]) -> list[str]:
        """What is lost, by the ledgers of all nodes; at rest."""
        found = list(self.violations)
        for state in states:
            ids = {event.number: event.id for event in state.ledger.events.values()}
            there = {(d.resource, ids[d.event]): d for d in state.ledger.deliveries()}
            for key, once in self._promised.items():
                delivery = there.get(key)
                if not self.arrived[key] and delivery is None:
                    found.append(f"{key[1]} never came to {key[0]}, and no ledger knows of it")
                if delivery is not None and not once and delivery.state is DeliveryState.DEAD:
                    found.append(f"{key[1]} is dead at {key[0]}: {delivery.reason}")
        return found

    def unsettled(self, state: State) -> str:
        """What is still under way; "" if nothing is."""
        waiting = {d.resource for d in state.ledger.deliveries() if d.delay_ms > 0}
        for delivery in state.ledger.deliveries():
            ordered = resource_of(state.records[delivery.resource].definition).get("ordered")
            if ordered and delivery.resource in waiting and delivery.state is DeliveryState.DUE:
                continue  # It is behind one that waits.
            waits = delivery.state is DeliveryState.DUE and delivery.delay_ms > 0
            if delivery.state is not DeliveryState.DEAD and not waits:
                return f"event {delivery.event} is {delivery.state.value} at {delivery.resource}"
        return ""


@attrs.define(slots=False)
class SimPoster:
    """The way from one host to the receiver."""

    receiver: SimReceiver
    host: Host

    async def post(self, hold: Hold, post: Post) -> Reply:
        receiver = self.receiver
        await asyncio.sleep(_WAY_S * receiver.random())
        if receiver.refuses:
            raise NotSent("the receiver refuses")
        if not hold.valid:
            raise NotSent("the hold is over")
        answered: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def answer(status: int) -> None:
            answered.get_loop().call_soon_threadsafe(_resolve, answered, status)

        key = (post.url.rpartition("/")[2], post.headers["webhook-id"])
        promise = Promise(once=post.fresh, ordered=bool(hold.resource.get("ordered")))
        receiver.sent(self.host, key, promise, answer)
        try:
            async with asyncio.timeout(post.timeout_s):
                return Reply(await answered)
        except TimeoutError:
            raise Lost(f"no answer within {post.timeout_s:g} s") from None

    async def close(self) -> None:
        """It keeps nothing."""


def _resolve(answered: asyncio.Future[int], status: int) -> None:
    if not answered.done():
        answered.set_result(status)
