"""
`Webhooks`: the deliveries that are not tried any more, looked at and tried again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from pydrm.clock import Clock
from pydrm.core.events import DeliveryKey
from pydrm.core.ledger_commands import ReplayDeliveries
from pydrm.core.state import State
from pydrm.node import Node
from pydrm.requests import Requests

__all__ = ["FailedDelivery", "Webhooks"]

REPLAY_PART_MAX = 500


@attrs.frozen
class FailedDelivery:
    """
    Attributes:
        resource: The webhook.
        event: The event's number in this cluster.
        event_id: What the receiver knows it by.
        attempts: How often it was tried, as far as is known.
        reason: Why it is not tried any more.
    """

    resource: str
    event: int
    event_id: str
    topic: str
    attempts: int
    reason: str


class Webhooks:
    """What `ResourceManager.webhooks` is."""

    def __init__(self, running: Callable[[], Node], requests: Requests, clock: Clock) -> None:
        self._running = running
        self._requests = requests
        self._clock = clock

    async def failed(self, resource: str | None = None) -> list[FailedDelivery]:
        """Those of *resource*, or all, as this node knows them; the newest is the last."""
        return await self._running().engine.read(lambda state: _failed(state, resource))

    async def replay(
        self, resource: str | None = None, *, event_ids: Sequence[str] | None = None, timeout: float = 10
    ) -> int:
        """
        Have those of *resource*, or all, tried anew; return how many.

        With `at_most_once` too: whoever asks for it takes it upon themselves that it may be received twice.

        Args:
            event_ids: Only these.

        Raises:
            Unavailable: No majority answered within *timeout* seconds. Some may be tried anew; repeat it.
        """
        wanted = None if event_ids is None else set(event_ids)
        failed = [row for row in await self.failed(resource) if wanted is None or row.event_id in wanted]
        keys: list[DeliveryKey] = [(row.resource, row.event) for row in failed]
        deadline = self._clock.now() + timeout
        replayed = 0
        for start in range(0, len(keys), REPLAY_PART_MAX):
            command = ReplayDeliveries(tuple(keys[start : start + REPLAY_PART_MAX]))
            replayed += (await self._requests.ask(command, deadline - self._clock.now())).updated
        return replayed


def _failed(state: State, resource: str | None) -> list[FailedDelivery]:
    rows = []
    for name, number in state.ledger.dead.values():
        if resource is None or name == resource:
            delivery, event = state.ledger.delivery(name, number), state.ledger.events[number]
            assert delivery is not None
            rows.append(FailedDelivery(name, number, event.id, event.topic, delivery.attempt, delivery.reason))
    return rows
