"""
`QuarantineWatch`: when what no node could open is to be tried again. Sans I/O.

As with leases, each node counts from when it applied the quarantine itself, and what ends it names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

from pydrm.core.changes import Change, Defined, Undefined
from pydrm.core.commands import EndQuarantine
from pydrm.core.records import ParkedCause, Record
from pydrm.core.state import State

__all__ = ["QuarantineWatch"]

_AGAIN_S = 0.5
_ENDS_AT_ONCE_MAX = 100


class QuarantineWatch:
    def __init__(self) -> None:
        self._ends: dict[str, tuple[int, float]] = {}  # resource -> (its number, when its time is up)
        self._proposed_at = float("-inf")

    def note(self, change: Change, now: float) -> None:
        match change:
            case Defined(record=record):
                self._note_record(record, now)
            case Undefined(resource=resource):
                self._ends.pop(resource, None)

    def restored(self, state: State, now: float) -> None:
        """The state was read from a snapshot at *now*."""
        before, self._ends = self._ends, {}
        for resource, number in state.quarantined.items():
            if before.get(resource, (0, 0.0))[0] == number:
                self._ends[resource] = before[resource]
            else:
                self._note_record(state.records[resource], now)

    def due(self, now: float, leads_since: float | None) -> list[EndQuarantine]:
        """Those that this node, if it leads, should end now."""
        if not self._ends or leads_since is None or now - self._proposed_at < _AGAIN_S:
            return []
        over = _over(self._ends, now)
        if over:
            self._proposed_at = now
        return over

    def _note_record(self, record: Record, now: float) -> None:
        parked, resource = record.parked, record.definition.id
        if parked is None or parked.cause is not ParkedCause.QUARANTINED:
            self._ends.pop(resource, None)
        elif self._ends.get(resource, (0, 0.0))[0] != parked.number:
            self._ends[resource] = (parked.number, now + parked.duration_ms / 1000)


def _over(ends: Mapping[str, tuple[int, float]], now: float) -> list[EndQuarantine]:
    over = (EndQuarantine(resource, number) for resource, (number, at) in ends.items() if now >= at)
    return list(islice(over, _ENDS_AT_ONCE_MAX))
