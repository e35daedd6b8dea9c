"""
`BudgetWatch`: when a holdback is over, and when an hour of sessions is. Sans I/O.

As with leases, each node counts from when it applied them itself, and what ends one names it.
"""

from __future__ import annotations

from itertools import islice

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
        # By number: what ends it, and when that is due.
        self._ends: dict[int, tuple[EndHoldback | EndHour, float]] = {}
        self._numbers: dict[str, tuple[int, ...]] = {}
        self._proposed_at = float("-inf")

    def note(self, change: Change, now: float) -> None:
        match change:
            case BudgetChanged(budget=budget):
                self._note_budget(budget, now)
            case BudgetDropped(group=group):
                self._forget(group, ())

    def restored(self, state: State, now: float) -> None:
        """The state was read from a snapshot at *now*."""
        for group in [group for group in self._numbers if group not in state.budgets]:
            self._forget(group, ())
        for budget in state.budgets.values():
            self._note_budget(budget, now)

    def due(self, now: float, leads_since: float | None) -> list[EndHoldback | EndHour]:
        """What this node, if it leads, should end now."""
        if not self._ends or leads_since is None or now - self._proposed_at < _AGAIN_S:
            return []
        over = list(islice((end for end, at in self._ends.values() if now >= at), _ENDS_AT_ONCE_MAX))
        if over:
            self._proposed_at = now
        return over

    def _note_budget(self, budget: Budget, now: float) -> None:
        ends: dict[int, tuple[EndHoldback | EndHour, float]] = {}
        for holdback in budget.holdbacks:
            ends[holdback.number] = (EndHoldback(budget.group, holdback.number), now + holdback.duration_ms / 1000)
        if budget.hour and any(budget.sessions):
            ends[budget.hour] = (EndHour(budget.group, budget.hour), now + HOUR_S)
        self._forget(budget.group, tuple(ends))
        for number, end in ends.items():
            self._ends.setdefault(number, end)
        if ends:
            self._numbers[budget.group] = tuple(ends)

    def _forget(self, group: str, kept: tuple[int, ...]) -> None:
        for number in self._numbers.pop(group, ()):
            if number not in kept:
                del self._ends[number]
