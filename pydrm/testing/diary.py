"""
What a third party's diary proves about a cluster.

The nodes' own word counts for nothing here: a connection is held from when the third party saw it
open until it saw it gone. Pure: takes events, returns values; reads no clock and no file.

All times are seconds on the clock of the third party (`time.monotonic()`, which all processes of
one host share). A moment t belongs to a stay when from_s <= t < until_s.
"""

from __future__ import annotations

import enum
import json
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from itertools import pairwise

import attrs

__all__ = ["Diary", "Event", "Gap", "Move", "Overlap", "Stay", "What"]


class What(enum.Enum):
    CONNECTED = "connected"
    MESSAGE = "message"
    DISCONNECTED = "disconnected"


@attrs.frozen
class Event:
    """
    One line of the diary.

    Attributes:
        connection: Unique in the third party's life; a reconnect has a new one.
        text: What a MESSAGE said, shortened.
    """

    at_s: float
    what: What
    connection: int
    resource: str
    node: str
    token: int
    text: str = ""

    def to_line(self) -> str:
        """One line of JSON, without the newline."""
        flat = {
            "at_s": self.at_s,
            "what": self.what.value,
            "connection": self.connection,
            "resource": self.resource,
            "node": self.node,
            "token": self.token,
        }
        if self.text:
            flat["text"] = self.text
        return json.dumps(flat)

    @classmethod
    def from_line(cls, line: str) -> Event:
        flat = json.loads(line)
        return cls(**(flat | {"what": What(flat["what"])}))


@attrs.frozen
class Stay:
    """One connection; *until_s* is infinite as long as it lasts."""

    connection: int
    resource: str
    node: str
    token: int
    from_s: float
    until_s: float = math.inf

    @property
    def lasts(self) -> bool:
        return self.until_s == math.inf

    def covers(self, moment_s: float) -> bool:
        return self.from_s <= moment_s < self.until_s


@attrs.frozen
class Overlap:
    """A resource held twice; *first* was there before *second*."""

    first: Stay
    second: Stay
    from_s: float
    until_s: float

    @property
    def seconds(self) -> float:
        return self.until_s - self.from_s

    def __str__(self) -> str:
        one, other = self.first, self.second
        return (
            f"{one.resource} held by {one.node} (token {one.token}) and {other.node} (token {other.token}) "
            f"for {self.seconds * 1000:.1f} ms"
        )


@attrs.frozen
class Gap:
    """A resource held by nobody; *until_s* is infinite when nobody has taken it up again."""

    resource: str
    from_s: float
    until_s: float

    @property
    def seconds(self) -> float:
        return self.until_s - self.from_s


@attrs.frozen
class Move:
    """A resource that went from one node to another; *at_s* is when the new one connected."""

    resource: str
    source: str
    target: str
    at_s: float


class Diary:
    """
    The events so far, and the questions that can be asked of them.

    Events are recorded in the order in which the third party wrote them.
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self._stays: dict[int, Stay] = {}
        self._lasting: dict[int, Stay] = {}
        self._messages: list[Event] = []
        for event in events:
            self.record(event)

    def record(self, event: Event) -> None:
        match event.what:
            case What.CONNECTED:
                stay = Stay(event.connection, event.resource, event.node, event.token, event.at_s)
                self._stays[event.connection] = self._lasting[event.connection] = stay
            case What.DISCONNECTED:
                stay = self._lasting.pop(event.connection)
                self._stays[event.connection] = attrs.evolve(stay, until_s=event.at_s)
            case What.MESSAGE:
                self._messages.append(event)

    # Who holds what.

    def stays(self, *, since_s: float = -math.inf, nodes: Collection[str] | None = None) -> list[Stay]:
        """Every connection that was there at *since_s* or later, in the order in which they began."""
        return [
            stay for stay in self._stays.values() if stay.until_s > since_s and (nodes is None or stay.node in nodes)
        ]

    def held(self, at_s: float | None = None) -> dict[str, list[Stay]]:
        """Who is connected for each resource at *at_s*, or now; resources without anyone are left out."""
        if at_s is None:
            stays: Iterable[Stay] = self._lasting.values()
        else:
            stays = (stay for stay in self._stays.values() if stay.covers(at_s))
        held: dict[str, list[Stay]] = {}
        for stay in stays:
            held.setdefault(stay.resource, []).append(stay)
        return held

    def loads(self, nodes: Iterable[str] = (), at_s: float | None = None) -> dict[str, int]:
        """How many connections each node has at *at_s*, or now; *nodes* are there even with none."""
        loads = dict.fromkeys(nodes, 0)
        for stays in self.held(at_s).values():
            for stay in stays:
                loads[stay.node] = loads.get(stay.node, 0) + 1
        return loads

    def messages(self, resource: str) -> list[Event]:
        return [event for event in self._messages if event.resource == resource]

    # The two promises.

    def overlaps(self, since_s: float = -math.inf, until_s: float = math.inf) -> list[Overlap]:
        """Whatever was held twice within the window, by two nodes or twice by one; in order of time."""
        overlaps = []
        for stays in self._by_resource().values():
            for index, second in enumerate(stays):
                for first in stays[:index]:
                    start_s, end_s = max(second.from_s, since_s), min(first.until_s, second.until_s, until_s)
                    if start_s < end_s:
                        overlaps.append(Overlap(first, second, start_s, end_s))
        return sorted(overlaps, key=lambda overlap: overlap.from_s)

    def gaps(self, resources: Iterable[str], since_s: float, until_s: float = math.inf) -> list[Gap]:
        """
        When nobody held one of *resources* within the window; in order of time.

        A gap that is under way at *since_s* begins there. One that has not ended by *until_s*, or by the
        end of the diary, counts as endless: "nobody yet" must fail every bound.
        """
        stays = self._by_resource()
        gaps = [gap for resource in resources for gap in _gaps(resource, stays.get(resource, []), since_s, until_s)]
        return sorted(gaps, key=lambda gap: gap.from_s)

    # What a change of the cluster cost.

    def opened(self, since_s: float, until_s: float = math.inf) -> list[Stay]:
        """The connections that began within the window."""
        return [stay for stay in self._stays.values() if since_s <= stay.from_s < until_s]

    def ended(self, since_s: float, until_s: float = math.inf, *, nodes: Collection[str] | None = None) -> list[Stay]:
        """The connections, of *nodes* or of all, that were there at *since_s* and gone before *until_s*."""
        return [
            stay
            for stay in self._stays.values()
            if stay.covers(since_s) and stay.until_s < until_s and (nodes is None or stay.node in nodes)
        ]

    def moves(self, since_s: float, until_s: float = math.inf) -> list[Move]:
        """Each time, within the window, a resource turned up at another node than before; there and back is two."""
        moves = []
        for resource, stays in self._by_resource().items():
            for before, after in pairwise(stays):
                if before.node != after.node and since_s <= after.from_s < until_s:
                    moves.append(Move(resource, before.node, after.node, after.from_s))
        return sorted(moves, key=lambda move: move.at_s)

    def settled(self, resources: Iterable[str], nodes: Iterable[str], since_s: float) -> float:
        """
        From when on, not before *since_s*, all is well: each resource held once, loads at most one apart.

        Infinite when that is not so at the end of the diary. A connection by a node that is not among
        *nodes*, or for something not among *resources*, is not well.
        """
        wanted, expected = frozenset(resources), frozenset(nodes)
        holders: dict[str, int] = dict.fromkeys(wanted, 0)
        loads = dict.fromkeys(expected, 0)
        wrong = len(wanted)  # resources that are not held exactly once, or not wanted and held
        settled_s = math.inf if wanted else -math.inf
        for at_s, change, stay in self._steps():
            before = holders.get(stay.resource, 0)
            holders[stay.resource] = before + change
            should = 1 if stay.resource in wanted else 0
            wrong += (before + change != should) - (before != should)
            loads[stay.node] = loads.get(stay.node, 0) + change
            if wrong or not _balanced(loads, expected):
                settled_s = math.inf
            elif settled_s == math.inf:
                settled_s = at_s
        return max(settled_s, since_s)

    def tokens_out_of_order(self) -> list[tuple[Stay, Stay]]:
        """
        Where a later connection for a resource did not come with a higher token than an earlier one.

        The same node may come back under the same token: its handle lost the connection and made it again.
        """
        wrong = []
        for stays in self._by_resource().values():
            highest = None
            for stay in stays:
                if highest is not None and stay.token <= highest.token:
                    if (stay.token, stay.node) != (highest.token, highest.node):
                        wrong.append((highest, stay))
                    continue
                highest = stay
        return wrong

    def _by_resource(self) -> dict[str, list[Stay]]:
        stays: dict[str, list[Stay]] = defaultdict(list)
        for stay in self._stays.values():
            stays[stay.resource].append(stay)
        return stays

    def _steps(self) -> Iterator[tuple[float, int, Stay]]:
        """Every beginning (+1) and end (-1) in order of time; at one moment the ends come first."""
        steps = [(stay.from_s, 1, stay) for stay in self._stays.values()]
        steps += [(stay.until_s, -1, stay) for stay in self._stays.values() if not stay.lasts]
        return iter(sorted(steps, key=lambda step: (step[0], step[1])))


def _gaps(resource: str, stays: list[Stay], since_s: float, until_s: float) -> Iterator[Gap]:
    """*stays* in the order in which they began; they may overlap."""
    unheld_from_s = since_s
    for stay in stays:
        if stay.until_s <= unheld_from_s:
            continue
        if stay.from_s >= until_s:
            break
        if stay.from_s > unheld_from_s:
            yield Gap(resource, unheld_from_s, stay.from_s)
        unheld_from_s = stay.until_s
    if unheld_from_s < until_s:
        yield Gap(resource, unheld_from_s, math.inf)


def _balanced(loads: dict[str, int], expected: frozenset[str]) -> bool:
    if any(load for node, load in loads.items() if node not in expected):
        return False
    counts = [loads[node] for node in expected]
    return max(counts, default=0) - min(counts, default=0) <= 1
