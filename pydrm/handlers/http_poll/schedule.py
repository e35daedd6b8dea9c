"""
When a poller is due. Pure.

Each id has a phase of its own, from a stable hash, so that ten thousand pollers with the same interval are spread over
it, and stay where they are when another node goes on with them. A poll that was late, such as the first after a
failover, is not followed by the next one too soon: from poll to poll the distance is the interval, less or more by at
most a tenth, and by these tenths a poller finds back to its phase.

The first poll of all is what opens a resource. It waits for nothing, because the agent opens so many at a time only.

All is reckoned in whole microseconds: so who knows one due time, and that each poll since was at its time, comes to the
very same times as who polled.
"""

from __future__ import annotations

from zlib import crc32

__all__ = ["SLEW", "due_after_s", "next_due_s", "phase_after_s"]

SLEW = 0.1


def next_due_s(id: str, interval_s: float, polled_s: float) -> float:
    """When it is due after it was polled at *polled_s*, by the wall clock."""
    interval = _us(interval_s)
    plain = _us(polled_s) + interval
    # How far that is beyond the nearest instant of its phase, from minus to plus half an interval.
    half = interval // 2
    beyond = (plain - _phase(id, interval) + half) % interval - half
    slew = int(interval * SLEW)
    return (plain - max(-slew, min(beyond, slew))) / 1e6


def due_after_s(id: str, interval_s: float, due_s: float, until_s: float) -> float:
    """The first due time after *until_s*, if it was due at *due_s*, and each poll since was at its time."""
    interval = _us(interval_s)
    while due_s <= until_s:
        if (_us(due_s) - _phase(id, interval)) % interval == 0:
            # It has found back to its phase, and stays there.
            passed = (_us(until_s) - _us(due_s)) // interval
            return (_us(due_s) + (passed + 1) * interval) / 1e6
        due_s = next_due_s(id, interval_s, due_s)
    return due_s


def phase_after_s(id: str, interval_s: float, wall_s: float) -> float:
    """The next instant of its phase, at which it is due if nobody knows when it was polled last."""
    interval, wall = _us(interval_s), _us(wall_s)
    return (wall + (_phase(id, interval) - wall) % interval) / 1e6


def _phase(id: str, interval: int) -> int:
    return crc32(id.encode()) * interval >> 32


def _us(seconds: float) -> int:
    return round(seconds * 1e6)
