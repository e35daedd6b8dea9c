"""
The records of budgets: what a group of resources may do to a third party, and what of it is used.
"""

from __future__ import annotations

import msgspec

__all__ = ["Budget", "Holdback"]


class Holdback(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """
    A third party wants to be left alone for a while, by all nodes.

    Attributes:
        number: Names this one, for compare and set; from the same counter as the tokens.
        duration_ms: How long, in milliseconds, counted from when it was applied.
        reason: In words, for people.
    """

    number: int
    duration_ms: int
    reason: str = ""

    def parts(self) -> tuple[object, ...]:
        return (self.number, self.duration_ms, self.reason)


class Budget(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """
    What all nodes together may do to the third party that a group of resources is about. 0 is no limit.

    Attributes:
        sessions: How many were begun in this hour, in the one before, and so on; as many hours as count.
        hour: Names this hour, for compare and set; from the same counter as the tokens.
        holdbacks: Those in force, oldest first; each lasts longer than the ones after it.
    """

    group: str
    connects_per_s: float = 0.0
    connections: int = 0
    requests_per_s: float = 0.0
    sessions_per_day: int = 0
    sessions: tuple[int, ...] = ()
    hour: int = 0
    holdbacks: tuple[Holdback, ...] = ()

    @property
    def limits(self) -> bool:
        """Whether there is any limit."""
        return bool(self.connects_per_s or self.connections or self.requests_per_s or self.sessions_per_day)

    @property
    def sessions_left(self) -> bool:
        return not self.sessions_per_day or sum(self.sessions) < self.sessions_per_day

    def parts(self) -> tuple[object, ...]:
        return (
            self.group,
            float(self.connects_per_s),
            self.connections,
            float(self.requests_per_s),
            self.sessions_per_day,
            self.sessions,
            self.hour,
            tuple([holdback.parts() for holdback in self.holdbacks]),
        )
