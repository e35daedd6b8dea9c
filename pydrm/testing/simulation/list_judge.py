"""
`ListJudge`: what must be so of all that a source brings, by the list and not by the source.

    at every look    an entry is never there, or gone, by an older list than the one that it was there by before;
                     nothing is gone that no list has left out; nothing is there that no list had
    at rest          everything is there as the list has it, and nothing else of the source

What the app adds over an entry is judged as the app's: see `Judge`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from pydrm.core.records import Phase
from pydrm.core.state import State
from pydrm.engine import resource_of
from pydrm.testing.simulation.listing import SimListing
from pydrm.testing.simulation.node import SimulatedNode

__all__ = ["ListJudge"]


class ListJudge:
    """
    Args:
        source: The id of the source that brings what *listing* has.
        added: The ids that the app has added, or may have.

    Attributes:
        removed: Those that it may have removed from under the list.
    """

    def __init__(
        self, source: str, listing: SimListing, nodes: Collection[SimulatedNode], added: Callable[[], Collection[str]]
    ) -> None:
        self.violations: list[str] = []
        self.removed: set[str] = set()
        self._source = source
        self._listing = listing
        self._nodes = nodes
        self._added = added
        self._index = 0
        # By which list each entry is there, or gone: the serial of its last change that has come through.
        self._by: dict[str, int] = {}

    def look(self) -> None:
        """At whoever has applied the most, if that is more than at the last look."""
        newest = max(self._nodes, key=lambda node: node.applied)
        state = newest.state
        if newest.applied <= self._index or state is None or not self._listing.served:
            return
        self._index = newest.applied
        added = self._added()
        for id in self._listing.past:
            if id not in added:
                problem = self._problem(id, _version(state, id, self._source))
                if problem and problem not in self.violations:
                    self.violations.append(problem)

    def unsettled(self, state: State) -> str:
        """What is not as the list has it; "" if nothing is. For a cluster that has the source."""
        if self._source not in state.records:
            return ""
        wanted, added = self._listing.now(), self._added()
        for id in self._listing.past:
            there = _version(state, id, self._source)
            if there != wanted.get(id) and id not in added:
                return f"{id} is there as of {there}, and the list has it as of {wanted.get(id)}"
        return ""

    def _problem(self, id: str, version: int | None) -> str:
        past, by, served = self._listing.past[id], self._by.get(id), self._listing.served
        if version is not None:
            if (version, True) not in past or version > served:
                return f"{id} is there as of {version}, which no list had"
            if by is not None and version < by:
                return f"{id} is there again as of {version}, after a list of {by}"
            self._by[id] = version
        elif by is not None:
            gone = [since for since, there in past if not there and by <= since <= served]
            if not gone and id not in self.removed:
                return f"{id} is gone, and every list from {by} to {served} had it"
            self._by[id] = gone[0] if gone else by
        return ""


def _version(state: State, id: str, source: str) -> int | None:
    """Since when, as the source brought it; None if it is not there, or is to go."""
    record = state.records.get(id)
    if record is None or record.owner != source:
        return None
    # By value: a node may run another version of pydrm, with classes of its own.
    if record.following is None and state.assignments[id, 0].phase.value == Phase.REMOVING.value:
        return None
    version = resource_of(record.following or record.definition).get("version")
    assert isinstance(version, int), "every entry of the list has one"
    return version
