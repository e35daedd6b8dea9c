"""
`BudgetWatch`: when a holdback is over, and when an hour of sessions is. Sans I/O.

As with leases, each node counts from when it applied them itself, and what ends one names it.
"""

from __future__ import annotations

from pydrm.agent.timetable import Timetable
from pydrm.core.budget_commands import EndHoldback, EndHour
from pydrm.core.budget_records import Budget
from pydrm.core.changes import BudgetChanged, BudgetDropped, Change
from pydrm.core.state import State

__all__ = ["BudgetWatch"]

HOUR_S = 3600.0

_AGAIN_S = 0.1
_ENDS_AT_ONCE_MAX = 100


class BudgetWatch:
    def __init__(self) -> None:
        self._ends: Timetable[EndHoldback | EndHour] = Timetable()
        self._of: dict[str, dict[EndHoldback | EndHour, None]] = {}

    def note(self, change: Change, now: float) -> None:
        match change:
            case BudgetChanged(budget=budget):
                self._note_budget(budget, now)
            case BudgetDropped(group=group):
                self._put(group, {}, now)

    def restored(self, state: State, now: float) -> None:
        """The state was read from a snapshot at *now*."""
        for group in [group for group in self._of if group not in state.budgets]:
            self._put(group, {}, now)
        for budget in state.budgets.values():
            self._note_budget(budget, now)

    def due(self, now: float, leads_since: float | None) -> list[EndHoldback | EndHour]:
        """What this node, if it leads, should end now."""
        return self._ends.due(now, _ENDS_AT_ONCE_MAX, _AGAIN_S) if leads_since is not None else []

    @property
    def next_at(self) -> float:
        """When the next one may be over."""
        return self._ends.next_at

    def _note_budget(self, budget: Budget, now: float) -> None:
        lasts_s: dict[EndHoldback | EndHour, float] = {}
        for holdback in budget.holdbacks:
            lasts_s[EndHoldback(budget.group, holdback.number)] = holdback.duration_ms / 1000
        if budget.hour and any(budget.sessions):
            lasts_s[EndHour(budget.group, budget.hour)] = HOUR_S
        self._put(budget.group, lasts_s, now)

    def _put(self, group: str, lasts_s: dict[EndHoldback | EndHour, float], now: float) -> None:
        """These are what *group* waits for now; what it waited for already counts from when that began."""
        for end in self._of.pop(group, ()):
            if end not in lasts_s:
                self._ends.drop(end)
        for end, seconds in lasts_s.items():
            if end not in self._ends:
                self._ends.put(end, now + seconds)
        if lasts_s:
            self._of[group] = dict.fromkeys(lasts_s)
