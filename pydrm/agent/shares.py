"""
`Shares`: which part of a group's rates is this node's. Sans I/O; written on the engine's thread, read from any.

A commit for each request would cost more than most requests. So a rate is parted: each node uses it in proportion to
what it has of the group, which every node knows from the assignments.

    Rule 1.  A share that shrinks is used as it is at once.
    Rule 2.  A share that grows is used one lease_ttl later: the smallest of that time counts. Where one node's grows
             another's shrinks by the same entry of the log; who has not applied that entry by then holds nothing any
             more, because its lease cannot have been renewed by a later one (see `lease`).
    Rule 3.  What the shares were before this node looked is not known, so it begins with nothing, and grows by rule 2.
    Rule 4.  While nobody has anything of a group, it is everybody's: whoever is the first need not wait.

So the shares in use add up to no more than one at any instant, whoever lags.
"""

from __future__ import annotations

from itertools import dropwhile

from pydrm.core.changes import BudgetChanged, BudgetDropped, Change
from pydrm.core.state import State

__all__ = ["Shares"]

# Each share with the time until which it was the one; the newest last, and each larger than those before it.
_Steps = tuple[tuple[float, float], ...]

_FOR_EVER = float("inf")

# Of two shares that together were there for less than this part of a lease_ttl, only the smaller one is noted.
_SHORTEST = 0.05


class Shares:
    def __init__(self, node: str) -> None:
        self._node = node
        self._steps: dict[str, _Steps] = {}

    def of(self, group: str, now: float, lease_ttl_s: float) -> float:
        """This node's part of the group's rates, from 0 to 1."""
        steps = self._steps.get(group, ())
        return next((share for until, share in steps if until > now - lease_ttl_s), 0.0)

    def groups(self) -> list[str]:
        """Those that have a budget, as far as was noted."""
        return list(self._steps)

    def note(self, state: State, change: Change, now: float) -> None:
        """A change was applied at *now*; only those of budgets are of interest."""
        if isinstance(change, BudgetChanged) and change.budget.group not in self._steps:
            self._begin(state, change.budget.group, now)
        elif isinstance(change, BudgetDropped):
            self._steps.pop(change.group, None)

    def update(self, state: State, now: float) -> None:
        """What was applied at *now* has touched groups; the state is as it is after that."""
        touched = state.index.touched
        for group in touched:
            if group in self._steps:
                self._note(state, group, now)
        touched.clear()

    def restored(self, state: State, now: float) -> None:
        """The state was read from a snapshot at *now*."""
        self._steps.clear()
        for group in state.budgets:
            self._begin(state, group, now)
        state.index.touched.clear()

    def _begin(self, state: State, group: str, now: float) -> None:
        self._steps[group] = ((now, 0.0), (_FOR_EVER, self._share(state, group)))

    def _note(self, state: State, group: str, now: float) -> None:
        share = self._share(state, group)
        *before, (_, newest) = self._steps[group]
        if share == newest:
            return
        lease_ttl_s = state.settings.lease_ttl_ms / 1000 if state.settings is not None else 0.0
        if share > newest:
            if len(before) > 1 and now - before[-2][0] < _SHORTEST * lease_ttl_s:
                before[-1] = (now, before[-1][1])
            else:
                before.append((now, newest))
        kept = dropwhile(lambda step: step[0] <= now - lease_ttl_s, before)
        smaller = [step for step in kept if step[1] < share]
        self._steps[group] = (*smaller, (_FOR_EVER, share))

    def _share(self, state: State, group: str) -> float:
        nodes = state.index.groups.get(group)
        return nodes.get(self._node, 0) / sum(nodes.values()) if nodes else 1.0
