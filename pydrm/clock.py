"""
Time and chance, as arguments.

No room below the outermost wiring reads a clock or rolls a die of its own: it is handed a
`Clock` and a `Random`, so that a simulation can replay a whole cluster's life from one seed.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

__all__ = ["Clock", "Random", "SystemClock"]


class Clock(Protocol):
    """What time it is, for lease arithmetic and for waiting."""

    def now(self) -> float:
        """Seconds since an arbitrary start; never goes back, and counts the time spent suspended."""

    def wall(self) -> float:
        """Seconds since the epoch, to be shown to people; nothing is decided by it, because it jumps."""

    async def sleep(self, seconds: float) -> None:
        """Return after *seconds*; other tasks of the caller's loop run meanwhile."""


class Random(Protocol):
    """The one thing that is asked of chance; `random.Random` satisfies it."""

    def random(self) -> float:
        """A float, 0 <= x < 1."""


class SystemClock:
    """
    The host's clock.

    CLOCK_BOOTTIME where it exists (Linux): a lease must not seem fresh after the machine was
    suspended, and CLOCK_MONOTONIC stands still while it is (clock_gettime(2)).
    """

    _source = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

    def now(self) -> float:
        return time.clock_gettime(self._source)

    def wall(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
