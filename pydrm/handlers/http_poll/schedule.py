"""
When a poller is due. Pure.

Each id has a phase of its own, from a stable hash, so that ten thousand pollers with the same interval are spread over
it, and stay where they are when another node goes on with them. A poll that was late, such as the first after a
failover, is not followed by the next one too soon: from poll to poll the distance is the interval, less or more by at
most a tenth, and by these tenths a poller finds back to its phase.

The first poll of all is what opens a resource. It waits for nothing, because the agent opens so many at a time only.
"""

from __future__ import annotations

from zlib import crc32

__all__ = ["SLEW", "next_due_s", "phase_after_s"]

SLEW = 0.1


def next_due_s(id: str, interval_s: float, polled_s: float) -> float:
    """When it is due after it was polled at *polled_s*, by the wall clock."""
    plain = polled_s + interval_s
    # How far that is beyond the nearest instant of its phase, from minus to plus half an interval.
    beyond = (plain - _fraction(id) * interval_s + interval_s / 2) % interval_s - interval_s / 2
    return plain - max(-SLEW * interval_s, min(beyond, SLEW * interval_s))


def phase_after_s(id: str, interval_s: float, wall_s: float) -> float:
    """The next instant of its phase, at which it is due if nobody knows when it was polled last."""
    return wall_s + (_fraction(id) * interval_s - wall_s) % interval_s


def _fraction(id: str) -> float:
    return crc32(id.encode()) / 2**32
