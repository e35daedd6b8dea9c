"""
`QuarantineWatch`: when what no node could open is to be tried again. Sans I/O.

As with leases, each node counts from when it applied the quarantine itself, and what ends it names it.
"""

from __future__ import annotations

from pydrm.agent.timetable import Timetable
from pydrm.core.changes import Change, Defined, Undefined
from pydrm.core.commands import EndQuarantine
from pydrm.core.records import ParkedCause, Record
from pydrm.core.state import State

__all__ = ["QuarantineWatch"]

_AGAIN_S = 0.5
_ENDS_AT_ONCE_MAX = 100


class QuarantineWatch:
    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._ends: Timetable[tuple[str, int]] = Timetable()

    def note(self, change: Change, now: float) -> None:
        match change:
            case Defined(record=record):
                self._note_record(record, now)
            case Undefined(resource=resource):
                self._forget(resource)

    def restored(self, state: State, now: float) -> None:
        """The state was read from a snapshot at *now*; what was known before counts from when it was."""
        for resource in [known for known in self._numbers if known not in state.quarantined]:
            self._forget(resource)
        for resource in state.quarantined:
            self._note_record(state.records[resource], now)

    def due(self, now: float, leads_since: float | None) -> list[EndQuarantine]:
        """Those that this node, if it leads, should end now; some at a time, for each is another one's to open."""
        if leads_since is None:
            return []
        return [EndQuarantine(*end) for end in self._ends.due(now, _ENDS_AT_ONCE_MAX, _AGAIN_S)]

    @property
    def next_at(self) -> float:
        """When the next one may be over."""
        return self._ends.next_at

    def _note_record(self, record: Record, now: float) -> None:
        parked, resource = record.parked, record.definition.id
        if parked is None or parked.cause is not ParkedCause.QUARANTINED:
            self._forget(resource)
        elif self._numbers.get(resource) != parked.number:
            self._forget(resource)
            self._numbers[resource] = parked.number
            self._ends.put((resource, parked.number), now + parked.duration_ms / 1000)

    def _forget(self, resource: str) -> None:
        number = self._numbers.pop(resource, None)
        if number is not None:
            self._ends.drop((resource, number))
