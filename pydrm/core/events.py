"""
The ledger's records: events, what becomes of each at each subscription, and the ids that were published.

As in `records`: frozen, with `parts()` for the digest, and not seen by Python's collector.
"""

from __future__ import annotations

import enum

import msgspec

__all__ = [
    "BACKLOG_MAX",
    "DEAD_MAX",
    "DELIVERIES_MAX",
    "EVENTS_MAX",
    "EVENT_ID_CHARACTERS_MAX",
    "FANOUT_MAX",
    "PAYLOADS_BYTES_MAX",
    "PAYLOAD_BYTES_MAX",
    "PUBLISHED_MAX",
    "Delivery",
    "DeliveryKey",
    "DeliveryState",
    "Event",
    "Published",
    "Remains",
]

PAYLOAD_BYTES_MAX = 256 * 1024
PAYLOADS_BYTES_MAX = 64 * 1024 * 1024
EVENT_ID_CHARACTERS_MAX = 128
EVENTS_MAX = 50_000
DELIVERIES_MAX = 100_000
# One subscription's, that are not over: one receiver that is away must not stop what is published for the others.
BACKLOG_MAX = 10_000
DEAD_MAX = 10_000
# How many subscriptions one event may be for: it becomes that many records in one apply.
FANOUT_MAX = 1_000
PUBLISHED_MAX = 100_000

DeliveryKey = tuple[str, int]  # (subscription's resource id, event number)


class Event(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """
    Something that was published, kept until the last of its deliveries is over.

    Attributes:
        number: From the same counter as the tokens; a later event has a higher one.
        id: What the receiver knows it by, the same at every try.
        content_type: Of *payload*.
    """

    number: int
    id: str
    topic: str
    payload: bytes
    content_type: str

    def parts(self) -> tuple[object, ...]:
        return (self.number, self.id, self.topic, self.payload, self.content_type)


class DeliveryState(enum.Enum):
    DUE = "due"
    CLAIMED = "claimed"  # a holder may be sending it, or may have sent it
    DEAD = "dead"  # not tried any more; kept for people


class Delivery(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """
    One event at one subscription. When it is delivered its record goes.

    Attributes:
        attempt: The number of the newest claim; grows by one with each, for ever. 0: none yet.
        node, incarnation, token: CLAIMED: who claimed it.
        once: CLAIMED: that it must not be claimed by anybody else.
        delay_ms: DUE: how long to leave it alone, in milliseconds, counted from when it was applied.
        reason: What went wrong last, in words.
        died: DEAD: names its death, in the order of deaths; from the same counter as the tokens.
        series: The attempt after which somebody asked for it to be tried anew.
    """

    resource: str
    event: int
    state: DeliveryState = DeliveryState.DUE
    attempt: int = 0
    node: str = ""
    incarnation: int = 0
    token: int = 0
    once: bool = False
    delay_ms: int = 0
    reason: str = ""
    died: int = 0
    series: int = 0

    @property
    def key(self) -> DeliveryKey:
        return (self.resource, self.event)

    def parts(self) -> tuple[object, ...]:
        return (
            self.resource,
            self.event,
            self.state.value,
            self.attempt,
            self.node,
            self.incarnation,
            self.token,
            self.once,
            self.delay_ms,
            self.reason,
            self.died,
            self.series,
        )


class Published(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """
    An id that was published, so that it is not published again.

    Attributes:
        number: The event's, or what it would have been had anybody wanted it.
        matched: For how many subscriptions it was.
    """

    id: str
    number: int
    matched: int

    def parts(self) -> tuple[object, ...]:
        return (self.id, self.number, self.matched)


class Remains(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Deliveries of a subscription that ended: each still keeps its event, until somebody clears them away."""

    number: int
    events: tuple[int, ...]

    def parts(self) -> tuple[object, ...]:
        return (self.number, self.events)
