"""
`LedgerDraft`: where a decision about events and deliveries collects its changes, within the bounds of the ledger.
"""

from __future__ import annotations

from pydrm.core import events
from pydrm.core.changes import Change
from pydrm.core.events import Delivery, DeliveryKey, DeliveryState
from pydrm.core.ledger_changes import DeliveryChanged, DeliveryDropped
from pydrm.core.records import REASON_CHARACTERS_MAX
from pydrm.core.state import State

__all__ = ["LedgerDraft"]

_GIVES_WAY_MAX = 3000


class LedgerDraft:
    """Reads through to the ledger and over what it has collected so far, and never touches the state."""

    def __init__(self, state: State) -> None:
        self.changes: list[Change] = []
        self._ledger = state.ledger
        self._next_number = state.next_number
        self._deliveries: dict[DeliveryKey, Delivery | None] = {}
        self._dead = len(state.ledger.dead)
        self._oldest_dead = iter(state.ledger.dead.values())

    def number(self) -> int:
        self._next_number += 1
        return self._next_number - 1

    def delivery(self, key: DeliveryKey) -> Delivery | None:
        return self._deliveries[key] if key in self._deliveries else self._ledger.delivery(*key)

    def change(self, delivery: Delivery) -> None:
        self._deliveries[delivery.key] = delivery
        self.changes.append(DeliveryChanged(delivery))

    def drop(self, key: DeliveryKey) -> None:
        self._deliveries[key] = None
        self.changes.append(DeliveryDropped(*key))

    def kill(self, delivery: Delivery, reason: str) -> None:
        """It is not tried any more; where there are too many of those, the oldest goes."""
        self.change(
            Delivery(
                delivery.resource,
                delivery.event,
                DeliveryState.DEAD,
                attempt=delivery.attempt,
                reason=reason[:REASON_CHARACTERS_MAX],
                died=self.number(),
                series=delivery.series,
            )
        )
        self._dead += 1
        if self._dead > events.DEAD_MAX:
            self._bury_oldest()

    def make_room(self, payload_bytes: int, deliveries: int) -> str:
        """Let the dead give way to one more event; returns what it is full of if that does not help, in words."""
        ledger = self._ledger
        size, events_count, count = ledger.payload_bytes, len(ledger.events), ledger.deliveries_count
        released: dict[int, int] = {}
        for _ in range(_GIVES_WAY_MAX):
            full = _full(size + payload_bytes, events_count + 1, count + deliveries)
            if not full:
                return ""
            key = self._bury_oldest()
            if key is None:
                break
            count -= 1
            released[key[1]] = released.get(key[1], 0) + 1
            if released[key[1]] == ledger.references[key[1]]:
                events_count -= 1
                size -= len(ledger.events[key[1]].payload)
        return _full(size + payload_bytes, events_count + 1, count + deliveries)

    def _bury_oldest(self) -> DeliveryKey | None:
        for key in self._oldest_dead:
            delivery = self.delivery(key)
            if delivery is not None and delivery.state is DeliveryState.DEAD:
                self.drop(key)
                self._dead -= 1
                return key
        return None


def _full(size: int, events_count: int, deliveries: int) -> str:
    if size > events.PAYLOADS_BYTES_MAX:
        return f"the ledger is full: all payloads together may have {events.PAYLOADS_BYTES_MAX} bytes"
    if events_count > events.EVENTS_MAX:
        return f"the ledger is full: it holds {events.EVENTS_MAX} events that are not delivered yet"
    if deliveries > events.DELIVERIES_MAX:
        return f"the ledger is full: it holds {events.DELIVERIES_MAX} deliveries that are not over yet"
    return ""
