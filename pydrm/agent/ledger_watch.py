"""
`LedgerWatch`: what this node has to know of the ledger in time. Sans I/O; on the engine's thread, but for `watched`.

    When a delivery is due. As with leases, each node counts from when it applied that it is to wait, so the next
        holder of a subscription need not begin to count anew.
    What is news to the subscriptions that this node holds, for the app's loop.
    When an id that was published is older than the window. Then the leader has it forgotten.
"""

from __future__ import annotations

from collections import deque

from pydrm.core.changes import Change
from pydrm.core.events import Delivery, DeliveryState
from pydrm.core.ledger_changes import (
    DeliveryChanged,
    DeliveryDropped,
    IdRemembered,
    SubscriptionEnded,
)
from pydrm.core.ledger_commands import ForgetPublished
from pydrm.core.state import State

__all__ = ["PUBLISHED_WINDOW_S", "LedgerWatch"]

PUBLISHED_WINDOW_S = 24 * 3600.0

_AGAIN_S = 0.5
# So that what is remembered about a day of ids is no longer than a day's minutes.
_GRAIN_S = 60.0


class LedgerWatch:
    """
    Attributes:
        watched: The subscriptions that this node's app wants to hear of. Written by the app's loop; how many for each.
    """

    def __init__(self) -> None:
        self.watched: dict[str, int] = {}
        # resource -> event -> (attempt that it followed, when)
        self._due_at: dict[str, dict[int, tuple[int, float]]] = {}
        self._news: list[Delivery] = []
        self._published: deque[tuple[int, float]] = deque()  # (number of an event, when it was known here)
        self._proposed_at = float("-inf")

    def due_at(self, delivery: Delivery) -> float:
        """When to try it, in seconds of the node's clock; long past if it need not wait. From any thread."""
        attempt, at = self._due_at.get(delivery.resource, {}).get(delivery.event, (-1, 0.0))
        return at if attempt == delivery.attempt else float("-inf")

    def note(self, change: Change, now: float) -> None:
        match change:
            case DeliveryChanged(delivery=delivery):
                self._note_delivery(delivery, now)
            case DeliveryDropped(resource=resource, event=event):
                self._need_not_wait(resource, event)
            case SubscriptionEnded(resource=resource):
                self._due_at.pop(resource, None)
            case IdRemembered(published=published):
                self._note_published(published.number, now)

    def restored(self, state: State, now: float) -> None:
        """The state was read from a snapshot at *now*."""
        before, self._due_at = self._due_at, {}
        for delivery in state.ledger.deliveries():
            self._note_delivery(delivery, now)
            old = before.get(delivery.resource, {}).get(delivery.event)
            if old is not None and old[0] == delivery.attempt and delivery.delay_ms:
                self._due_at[delivery.resource][delivery.event] = old
        newest = next(reversed(state.ledger.published.values()), None)
        if newest is not None and (not self._published or self._published[-1][0] < newest.number):
            self._published.append((newest.number, now))

    def news(self) -> list[Delivery]:
        """What has become due at watched subscriptions since this was last asked."""
        news, self._news = self._news, []
        return news

    def due(self, now: float, leads_since: float | None) -> ForgetPublished | None:
        """What this node, if it leads, should have forgotten now."""
        while len(self._published) > 1 and now - self._published[1][1] >= PUBLISHED_WINDOW_S:
            self._published.popleft()
        if leads_since is None or not self._published or now - self._proposed_at < _AGAIN_S:
            return None
        number, at = self._published[0]
        if now - at < PUBLISHED_WINDOW_S:
            return None
        self._proposed_at = now
        return ForgetPublished(number)

    def forgot(self, through: int) -> None:
        """No id up to this number is left."""
        while self._published and self._published[0][0] <= through:
            self._published.popleft()

    def _note_delivery(self, delivery: Delivery, now: float) -> None:
        if delivery.state is DeliveryState.DUE and delivery.delay_ms:
            waits = self._due_at.setdefault(delivery.resource, {})
            waits[delivery.event] = (delivery.attempt, now + delivery.delay_ms / 1000)
        else:
            self._need_not_wait(*delivery.key)
        if delivery.state is DeliveryState.DUE and delivery.resource in self.watched:
            self._news.append(delivery)

    def _need_not_wait(self, resource: str, event: int) -> None:
        waits = self._due_at.get(resource)
        if waits is not None and waits.pop(event, None) is not None and not waits:
            del self._due_at[resource]

    def _note_published(self, number: int, now: float) -> None:
        # The newest of a minute stands for all of it, from when the minute is over.
        if len(self._published) > 1 and now - self._published[-2][1] < _GRAIN_S:
            self._published.pop()
        self._published.append((number, now))
