"""
`Loads`: how much each node has, and who has least, while assignments are given out one after the other.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

__all__ = ["Loads", "pour"]


class Loads:
    """The least loaded of some nodes, again and again."""

    def __init__(self, loads: dict[str, int]) -> None:
        self._loads = loads
        self._heap = [(load, name) for name, load in loads.items()]
        heapq.heapify(self._heap)

    def least(self, previous: str, excluded: Iterable[str] = ()) -> str | None:
        """The least loaded node; of equals *previous*, then the first by name. None if all are excluded."""
        while self._loads[self._heap[0][1]] != self._heap[0][0]:
            heapq.heapreplace(self._heap, (self._loads[self._heap[0][1]], self._heap[0][1]))
        load, name = self._heap[0]
        barred = set(excluded)
        if barred:
            free = [(load, name != previous, name) for name, load in self._loads.items() if name not in barred]
            return min(free)[2] if free else None
        if self._loads.get(previous) == load:
            return previous
        return name

    def add(self, name: str, weight: int) -> None:
        self._loads[name] += weight


def pour(loads: dict[str, int], weight: int, count: int) -> None:
    """
    Add *count* times *weight* to the least loaded, as rule 1 would one by one.

    One by one, every load below a level is filled before any at or above it gets more; so the level
    is found by bisection and only the last few are placed singly.
    """

    def needed(level: int) -> int:
        return sum(-(-(level - load) // weight) for load in loads.values() if load < level)

    low = min(loads.values())
    high = low + weight * count + 1
    while high - low > 1:
        middle = (low + high) // 2
        if needed(middle) <= count:
            low = middle
        else:
            high = middle
    rest = count - needed(low)
    for name, load in loads.items():
        if load < low:
            loads[name] = load + weight * -(-(low - load) // weight)
    heap = Loads(loads)
    for _ in range(rest):
        least = heap.least("")
        assert least is not None
        heap.add(least, weight)
