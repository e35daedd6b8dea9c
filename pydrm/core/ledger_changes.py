"""
What happened to the ledger; see `changes`.

An event has no change of its own for its end: it goes with the last delivery that refers to it.
"""

from __future__ import annotations

import msgspec

from pydrm.core.events import Delivery, Event, Published

__all__ = [
    "DeliveryChanged",
    "DeliveryDropped",
    "EventKept",
    "IdForgotten",
    "IdRemembered",
    "LedgerChange",
    "RemainsCleared",
    "SubscriptionEnded",
]


class EventKept(msgspec.Struct, frozen=True, gc=False):
    """Its deliveries follow."""

    event: Event


class DeliveryChanged(msgspec.Struct, frozen=True, gc=False):
    delivery: Delivery


class DeliveryDropped(msgspec.Struct, frozen=True, gc=False):
    resource: str
    event: int


class SubscriptionEnded(msgspec.Struct, frozen=True, gc=False):
    """Its deliveries are gone at once; what they leave is `Remains`, numbered from *number* on."""

    resource: str
    number: int


class RemainsCleared(msgspec.Struct, frozen=True, gc=False):
    number: int


class IdRemembered(msgspec.Struct, frozen=True, gc=False):
    published: Published


class IdForgotten(msgspec.Struct, frozen=True, gc=False):
    id: str


LedgerChange = (
    EventKept | DeliveryChanged | DeliveryDropped | SubscriptionEnded | RemainsCleared | IdRemembered | IdForgotten
)
