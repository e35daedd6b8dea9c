"""
What can be asked of the ledger. See `commands` for the rules, and `decide_ledger` for what becomes of it.
"""

from __future__ import annotations

import enum

import msgspec

__all__ = [
    "Claim",
    "ClaimDeliveries",
    "ForgetPublished",
    "Publish",
    "Publisher",
    "ReplayDeliveries",
    "SettleDeliveries",
    "Settlement",
    "Verdict",
]


class Publisher(msgspec.Struct, frozen=True, gc=False):
    """Names the handler that publishes: what it holds, and the token it holds it by."""

    resource: str
    slot: int
    token: int


class Publish(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """
    Have an event delivered to every subscription that wants its topic now.

    Attributes:
        known: Its id is one that may be published again, and is to be remembered for that; not one made for this call.
        by: Refused when this one's token is over; None: not from within a handler.
    """

    id: str
    topic: str
    payload: bytes
    content_type: str
    known: bool = False
    by: Publisher | None = None


class Claim(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """
    That the holder of a subscription is about to try one delivery.

    Attributes:
        attempt: One more than the newest there was: compare and set.
        once: If this claim is left open, nobody may try it again.
    """

    resource: str
    slot: int
    token: int
    event: int
    attempt: int
    once: bool = False


class ClaimDeliveries(msgspec.Struct, frozen=True, gc=False):
    """Claim these for the node; what was granted shows in the state."""

    node: str
    incarnation: int
    claims: tuple[Claim, ...]


class Verdict(enum.Enum):
    """What became of an attempt."""

    DELIVERED = "delivered"
    AGAIN = "again"
    DEAD = "dead"


class Settlement(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """
    How one claimed attempt ended.

    Attributes:
        delay_ms: AGAIN: how long to leave it alone.
        reason: What went wrong.
    """

    resource: str
    token: int
    event: int
    attempt: int
    verdict: Verdict
    delay_ms: int = 0
    reason: str = ""


class SettleDeliveries(msgspec.Struct, frozen=True, gc=False):
    """End claims of the node's. What it has not claimed, or not any more, is passed over in silence."""

    node: str
    incarnation: int
    settlements: tuple[Settlement, ...]


class ReplayDeliveries(msgspec.Struct, frozen=True, gc=False):
    """Try these dead ones again, each a (resource, event number)."""

    deliveries: tuple[tuple[str, int], ...]


class ForgetPublished(msgspec.Struct, frozen=True, gc=False):
    """The ids of events up to number *through* are older than the window."""

    through: int
