"""
What can be asked of the cluster about budgets: see `decide_budgets`.
"""

from __future__ import annotations

import msgspec

__all__ = ["EndHoldback", "EndHour", "HoldBack", "Return", "ReturnPermits", "SetBudget", "Take", "TakePermits"]


class SetBudget(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """
    Limit what all nodes together do to a group's third party, in place of older limits. 0 is no limit.

    Attributes:
        if_absent: Leave a group as it is that has any limit.
    """

    group: str
    connects_per_s: float = 0.0
    connections: int = 0
    requests_per_s: float = 0.0
    sessions_per_day: int = 0
    if_absent: bool = False


class Take(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """
    Names a handle that is about to connect, and whose budget that goes by.

    Attributes:
        opened: It has been open since before there was a limit: it is granted, even over the limit, and is no session.
    """

    resource: str
    slot: int
    token: int
    group: str
    opened: bool = False


class TakePermits(msgspec.Struct, frozen=True, gc=False):
    """
    Begin a session for each of these, and have one of the group's connections until it is returned or the claim ends.

    Those that were not granted are named in `Done.missing`: nothing is left, or the claim is over.
    """

    node: str
    incarnation: int
    takes: tuple[Take, ...]


class Return(msgspec.Struct, frozen=True, gc=False):
    """
    Names a handle that has no connection.

    Attributes:
        permitted: How many times it had been granted one; once it was granted another, this one says nothing.
    """

    resource: str
    slot: int
    token: int
    permitted: int


class ReturnPermits(msgspec.Struct, frozen=True, gc=False):
    """These have no connection for now, though their claims go on."""

    node: str
    incarnation: int
    returns: tuple[Return, ...]


class HoldBack(msgspec.Struct, frozen=True, gc=False):
    """A third party has asked to be left alone: nobody connects for the group, or requests anything, for so long."""

    node: str
    incarnation: int
    group: str
    duration_ms: int
    reason: str = ""


class EndHoldback(msgspec.Struct, frozen=True, gc=False):
    """The time of holdback *number* is over."""

    group: str
    number: int


class EndHour(msgspec.Struct, frozen=True, gc=False):
    """An hour has passed since *hour* of the group's sessions began."""

    group: str
    hour: int
