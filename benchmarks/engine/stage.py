"""
Where a figure is measured, and the table it is printed in.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.cluster import Cluster, Node

__all__ = ["Stage", "Watch", "percentile"]


class Watch:
    """
    What the nodes went through, over all rounds.

    Attributes:
        stall_ms: The longest that any engine's loop stood still.
        collection_ms: The longest that a garbage collection took.
        repeats: How many requests had to be made again, because their node had lost its lease.
    """

    def __init__(self) -> None:
        self.stall_ms = self.collection_ms = 0.0
        self.repeats = 0

    @contextmanager
    def over(self, nodes: Iterable[Node]) -> Iterator[None]:
        nodes = list(nodes)
        for node in nodes:
            node.ask("watch")
        yield
        for node in nodes:
            self.note(node.ask("watched"))

    def note(self, seen: Mapping[str, float]) -> None:
        self.stall_ms = max(self.stall_ms, seen["stall_ms"])
        self.collection_ms = max(self.collection_ms, seen["collection_ms"])
        self.repeats += int(seen["repeats"])


class Stage:
    """
    Attributes:
        rounds: How often each thing is measured.
        restart_resources: How many there are when a node comes back.
    """

    def __init__(self, directory: Path, rounds: int, restart_resources: int) -> None:
        self.directory = directory
        self.rounds = rounds
        self.restart_resources = restart_resources
        self._clusters = itertools.count(1)

    def cluster(self, role: str, **settings: Any) -> Cluster:
        return Cluster(self.directory / f"{next(self._clusters)}-{role}", role, **settings)

    def head(self, title: str) -> None:
        columns = ("aim", "least", "median", "most", "stall ms", "gc ms")
        print(f"\n{title}\n{'':<62}" + "".join(f"{column:>10}" for column in columns), flush=True)

    def show(self, what: str, values: Sequence[float], aim: str = "", watch: Watch | None = None) -> None:
        """One line; with *watch*, also what the loops went through while these *values* were measured."""
        numbers = [min(values), statistics.median(values), max(values)]
        if watch is not None:
            numbers += [watch.stall_ms, watch.collection_ms]
            what += f" ({watch.repeats} repeated)" if watch.repeats else ""
        print(f"  {what:<60}{aim:>10}" + "".join(f"{_short(number):>10}" for number in numbers), flush=True)


def percentile(values: Sequence[float], percent: int) -> float:
    """By the nearest rank."""
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.1f}" if number >= 10 else f"{number:.2f}"
