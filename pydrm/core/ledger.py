"""
`Ledger`: events, and what is still to become of each at each subscription.

    Rule 1.  An event is there once, and for as long as a delivery or remains refer to it.
    Rule 2.  What follows from the records is kept beside them and is not in the digest: how many refer to each event,
             how large all payloads are, who is dead in which order, and which topics are wanted.
    Rule 3.  A subscription's deliveries lie on a shelf of its own, so that all of them go in one step. What they
             referred to is cleared away in many.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from pydrm.core.events import Delivery, DeliveryKey, Event, Published, Remains
from pydrm.core.ledger_changes import (
    DeliveryChanged,
    DeliveryDropped,
    EventKept,
    IdForgotten,
    IdRemembered,
    LedgerChange,
    RemainsCleared,
    SubscriptionEnded,
)
from pydrm.core.records import Record
from pydrm.core.table import MODULUS, ShortTable, Table
from pydrm.core.topics import TopicIndex

__all__ = ["REMAINS_EVENTS_MAX", "Ledger"]

REMAINS_EVENTS_MAX = 500


class Ledger:
    """
    As with tables, single reads and whole copies are safe from any thread; all else is for the one that writes.

    Attributes:
        events: By number, oldest first.
        shelves: Each subscription's deliveries by the event's number; those without any are left out.
        published: The ids in the window, oldest first.
        remains: What is to be cleared away, by number.
        references: How many refer to each event.
        payload_bytes: Of all events.
        deliveries_count, deliveries_digest: Over all shelves.
        dead: The keys of dead deliveries by the number of their death, oldest first.
        dead_on: How many of a shelf are dead.
        topics: What each subscription wants.
    """

    def __init__(self) -> None:
        self.events: ShortTable[int, Event] = ShortTable()
        self.shelves: dict[str, Table[int, Delivery]] = {}
        self.published: Table[str, Published] = Table()
        self.remains: Table[int, Remains] = Table()
        self.references: dict[int, int] = {}
        self.payload_bytes = 0
        self.deliveries_count = 0
        self.deliveries_digest = 0
        self.dead: dict[int, DeliveryKey] = {}
        self.dead_on: dict[str, int] = {}
        self.topics = TopicIndex()
        self._ended: list[Table[int, Delivery]] = []

    @property
    def digest(self) -> tuple[int, int, int, int]:
        return (self.events.digest, self.deliveries_digest, self.published.digest, self.remains.digest)

    # --- reading

    def delivery(self, resource: str, event: int) -> Delivery | None:
        shelf = self.shelves.get(resource)
        return shelf.get(event) if shelf is not None else None

    def of(self, resource: str) -> list[Delivery]:
        """The deliveries of one subscription, oldest event first unless some were replayed."""
        shelf = self.shelves.get(resource)
        return list(shelf.values()) if shelf is not None else []

    def deliveries(self) -> list[Delivery]:
        return [delivery for shelf in list(self.shelves.values()) for delivery in list(shelf.values())]

    def backlog(self, resource: str) -> int:
        """How many of a subscription's are not over."""
        shelf = self.shelves.get(resource)
        return len(shelf) - self.dead_on.get(resource, 0) if shelf is not None else 0

    # --- writing

    def evolve(self, change: LedgerChange) -> int:
        """Write one change; returns the highest number in it, 0 if it has none of its own."""
        match change:
            case EventKept(event=event):
                self.keep(event)
                return event.number
            case DeliveryChanged(delivery=delivery):
                self.put(delivery)
                return delivery.died
            case DeliveryDropped(resource=resource, event=number):
                self._drop(resource, number)
            case SubscriptionEnded(resource=resource, number=number):
                return self._end(resource, number)
            case RemainsCleared(number=number):
                events = self.remains[number].events
                self.remains.drop(number)
                if self._ended:
                    self._ended.pop()
                for event_number in events:
                    self._unrefer(event_number)
            case IdRemembered(published=published):
                self.published.put(published.id, published)
                return published.number
            case IdForgotten(id=id):
                self.published.drop(id)
            case _:
                assert_never(change)
        return 0

    def follow(self, record: Record) -> None:
        """Its topics are those of the definition that is to be in force in the end."""
        self.topics.put(record.definition.id, (record.following or record.definition).topics)

    def keep(self, event: Event) -> None:
        """Also for `restoring`, as are `put`, `leave` and `restored`."""
        self.events.put(event.number, event)
        self.payload_bytes += len(event.payload)

    def put(self, delivery: Delivery) -> None:
        resource, number = delivery.key
        shelf = self.shelves.get(resource)
        if shelf is None:
            shelf = self.shelves[resource] = Table()
        old = shelf.get(number)
        before = shelf.digest
        shelf.put(number, delivery)
        self.deliveries_digest = (self.deliveries_digest + shelf.digest - before) % MODULUS
        if old is None:
            self.deliveries_count += 1
            self.references[number] = self.references.get(number, 0) + 1
        elif old.died:
            self._forget_death(old)
        if delivery.died:
            self.dead[delivery.died] = delivery.key
            self.dead_on[resource] = self.dead_on.get(resource, 0) + 1

    def leave(self, remains: Remains) -> None:
        self.remains.put(remains.number, remains)
        for number in remains.events:
            self.references[number] = self.references.get(number, 0) + 1

    def restored(self) -> None:
        """All is there: what came in the order of shelves is put in the order of deaths."""
        self.dead = dict(sorted(self.dead.items()))

    def empty(self) -> Iterator[None]:
        """Give all of it up, in steps. It is good for nothing afterwards."""
        while self.shelves:
            self.shelves.popitem()
            yield
        while self.events:
            self.events.popitem()
            if len(self.events) % 1000 == 0:
                yield

    def _drop(self, resource: str, number: int) -> None:
        shelf = self.shelves[resource]
        old = shelf[number]
        before = shelf.digest
        shelf.drop(number)
        self.deliveries_digest = (self.deliveries_digest + shelf.digest - before) % MODULUS
        self.deliveries_count -= 1
        if old.died:
            self._forget_death(old)
        if not shelf:
            del self.shelves[resource]
        self._unrefer(number)

    def _end(self, resource: str, number: int) -> int:
        shelf = self.shelves.pop(resource)
        self.deliveries_digest = (self.deliveries_digest - shelf.digest) % MODULUS
        self.deliveries_count -= len(shelf)
        if self.dead_on.get(resource):
            for delivery in shelf.values():
                if delivery.died:
                    self._forget_death(delivery)
        # A hundred thousand records that go at once would be felt: they go as their remains do.
        self._ended.append(shelf)
        events = tuple(shelf)
        for start in range(0, len(events), REMAINS_EVENTS_MAX):
            # The references that they had are these ones' now.
            self.remains.put(number, Remains(number, events[start : start + REMAINS_EVENTS_MAX]))
            number += 1
        return number - 1

    def _forget_death(self, delivery: Delivery) -> None:
        del self.dead[delivery.died]
        left = self.dead_on[delivery.resource] - 1
        if left:
            self.dead_on[delivery.resource] = left
        else:
            del self.dead_on[delivery.resource]

    def _unrefer(self, number: int) -> None:
        left = self.references[number] - 1
        if left:
            self.references[number] = left
            return
        del self.references[number]
        self.payload_bytes -= len(self.events[number].payload)
        self.events.drop(number)
