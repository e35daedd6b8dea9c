"""
`Timetable`: what is due when, of what there may be very much. Sans I/O.

It costs in proportion to what becomes due and to what changes, not to how much there is: a leader asks at every tick.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Hashable
from itertools import count
from typing import Generic, TypeVar

__all__ = ["Timetable"]

K = TypeVar("K", bound=Hashable)

_ENTRIES_IDLE_MAX = 64


class Timetable(Generic[K]):
    def __init__(self) -> None:
        self._entries: dict[K, tuple[float, int]] = {}
        # What was put again or dropped stays in here until its time, or until it is more than what counts.
        self._heap: list[tuple[float, int, K]] = []
        self._numbers = count()

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    @property
    def next_at(self) -> float:
        """When something may be due: not later than it is."""
        return self._heap[0][0] if self._heap else math.inf

    def put(self, key: K, at: float) -> None:
        """It is due at *at*, and not at any time that was said before."""
        entry = (at, next(self._numbers))
        self._entries[key] = entry
        if len(self._heap) > 2 * len(self._entries) + _ENTRIES_IDLE_MAX:
            self._heap = [(*entry, key) for key, entry in self._entries.items()]
            heapq.heapify(self._heap)
        else:
            heapq.heappush(self._heap, (*entry, key))

    def drop(self, key: K) -> None:
        self._entries.pop(key, None)

    def due(self, now: float, most: int, again_s: float) -> list[K]:
        """Up to *most* whose time has come, the first first; each is due again after so long, until it is dropped."""
        due: list[K] = []
        while self._heap and self._heap[0][0] <= now and len(due) < most:
            at, number, key = heapq.heappop(self._heap)
            if self._entries.get(key) == (at, number):
                due.append(key)
        for key in due:
            self.put(key, now + again_s)
        return due
