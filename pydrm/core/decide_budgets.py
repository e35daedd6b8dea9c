"""
Deciding about budgets: what all nodes together may do to the third party that a group of resources is about.

    Rule 1.  What is counted at once, or by the day, is granted by the log's order: `TakePermits` is refused while the
             group has none left. Rates are not decided here: see `agent.shares`.
    Rule 2.  A permit is a part of a claim. So it ends with the claim, in whatever way that ends: released, expired or,
             taken by force, once the handle is known to be gone.
    Rule 3.  A limit that is set, or lowered, closes nothing. What is open by then is granted its permit, over the limit
             if need be, and nothing more is until there is room.
    Rule 4.  A day is the last 24 full hours and the one that runs. `EndHour` is proposed when an hour has passed, never
             sooner, so within any 24 hours no more sessions than the limit are begun.
    Rule 5.  Of several holdbacks the last to end counts. Which that is depends on when each was applied, so all are
             kept that an older or a newer one does not outlast for certain.
"""

from __future__ import annotations

from math import isfinite

from msgspec.structs import replace

from pydrm.core.answers import Done, Reason, Refused
from pydrm.core.budget_commands import EndHoldback, EndHour, HoldBack, ReturnPermits, SetBudget, Take, TakePermits
from pydrm.core.budget_records import Budget, Holdback
from pydrm.core.changes import BudgetChanged, BudgetDropped, Cause, Change
from pydrm.core.decision import Decision, current, refused
from pydrm.core.draft import Draft
from pydrm.core.records import REASON_CHARACTERS_MAX, Assignment, Holder
from pydrm.core.state import State

__all__ = [
    "GROUP_CHARACTERS_MAX",
    "HOLDBACK_MS_MAX",
    "SESSION_HOURS",
    "decide_end_holdback",
    "decide_end_hour",
    "decide_hold_back",
    "decide_return",
    "decide_set_budget",
    "decide_take",
]

GROUP_CHARACTERS_MAX = 256
HOLDBACK_MS_MAX = 24 * 3600 * 1000
SESSION_HOURS = 25

# More than one arrives only while what was under way comes to an end.
_HOLDBACKS_MAX = 8


def decide_set_budget(state: State, command: SetBudget) -> Decision:
    if not 1 <= len(command.group) <= GROUP_CHARACTERS_MAX:
        return refused(Reason.INVALID, f"the name of a group has 1 to {GROUP_CHARACTERS_MAX} characters")
    limits = (command.connects_per_s, command.connections, command.requests_per_s, command.sessions_per_day)
    if not all(isfinite(limit) and limit >= 0 for limit in limits):
        return refused(Reason.INVALID, f"a limit of {command.group} is no number from 0 up")
    old = state.budgets.get(command.group)
    if command.if_absent and old is not None and old.limits:
        return Decision(Done(unchanged=1))
    new = Budget(command.group, *limits, holdbacks=old.holdbacks if old is not None else ())
    if new.sessions_per_day:
        draft = Draft(state)
        counted = old is not None and old.hour
        new = replace(new, hour=old.hour if old is not None and counted else draft.number())
        new = replace(new, sessions=old.sessions if old is not None and counted else (0,))
    if new == old or (old is None and not new.limits):
        return Decision(Done(unchanged=1))
    return Decision(Done(updated=1), (_kept(new),))


def decide_take(state: State, command: TakePermits) -> Decision:
    node = current(state, command.node, command.incarnation)
    if isinstance(node, Refused):
        return Decision(node)
    draft = Draft(state)
    purse = _Purse(state)
    missing = []
    for take in command.takes:
        claimed = draft.claimed((node.name, node.incarnation), (take.resource, take.slot), take.token)
        if claimed is None or claimed[1] in claimed[0].excluded or not purse.grant(claimed[1], take):
            missing.append(take.resource)
        elif purse.limits_connections(take.group):
            # Counted each time, so that what was given back before comes too late.
            assignment, claim = claimed
            permitted = replace(claim, permit=take.group, permitted=claim.permitted + 1)
            _put(draft, assignment, claim, permitted)
    return Decision(Done(missing=tuple(missing)), (*draft.changes, *purse.changes()))


def decide_return(state: State, command: ReturnPermits) -> Decision:
    """What is over already is passed over in silence."""
    node = current(state, command.node, command.incarnation)
    if isinstance(node, Refused):
        return Decision(node)
    draft = Draft(state)
    for given in command.returns:
        claimed = draft.claimed((node.name, node.incarnation), (given.resource, given.slot), given.token)
        if claimed is not None and claimed[1].permit and claimed[1].permitted == given.permitted:
            _put(draft, *claimed, replace(claimed[1], permit=""))
    return Decision(Done(), tuple(draft.changes))


def decide_hold_back(state: State, command: HoldBack) -> Decision:
    node = current(state, command.node, command.incarnation)
    if isinstance(node, Refused):
        return Decision(node)
    if not 1 <= len(command.group) <= GROUP_CHARACTERS_MAX:
        return refused(Reason.INVALID, f"the name of a group has 1 to {GROUP_CHARACTERS_MAX} characters")
    if not 0 < command.duration_ms <= HOLDBACK_MS_MAX:
        return refused(Reason.INVALID, f"{command.group} can be held back for up to {HOLDBACK_MS_MAX} ms")
    budget = state.budgets.get(command.group) or Budget(command.group)
    duration_ms = command.duration_ms
    if len(budget.holdbacks) == _HOLDBACKS_MAX:
        duration_ms = max(duration_ms, budget.holdbacks[-1].duration_ms)
    new = Holdback(Draft(state).number(), duration_ms, command.reason[:REASON_CHARACTERS_MAX])
    # Whoever applies the new one has applied the older ones before it: those that are no longer end sooner.
    longer = tuple(holdback for holdback in budget.holdbacks if holdback.duration_ms > duration_ms)
    return Decision(Done(number=new.number), (BudgetChanged(replace(budget, holdbacks=(*longer, new))),))


def decide_end_holdback(state: State, command: EndHoldback) -> Decision:
    budget = state.budgets.get(command.group)
    holdbacks = budget.holdbacks if budget is not None else ()
    left = tuple(holdback for holdback in holdbacks if holdback.number != command.number)
    if budget is None or left == holdbacks:
        return refused(Reason.STALE, f"{command.group} is not held back by {command.number}")
    return Decision(Done(), (_kept(replace(budget, holdbacks=left)),))


def decide_end_hour(state: State, command: EndHour) -> Decision:
    budget = state.budgets.get(command.group)
    if budget is None or not budget.hour or budget.hour != command.hour:
        return refused(Reason.STALE, f"hour {command.hour} of {command.group} does not run")
    sessions = (0, *budget.sessions)[:SESSION_HOURS]
    return Decision(Done(), (BudgetChanged(replace(budget, sessions=sessions, hour=Draft(state).number())),))


class _Purse:
    """What is left of each group's budget, while one command takes from it."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._budgets: dict[str, Budget] = {}
        self._permits: dict[str, int] = {}

    def limits_connections(self, group: str) -> bool:
        budget = self._budget(group)
        return budget is not None and budget.connections > 0

    def grant(self, claim: Holder, take: Take) -> bool:
        """Whether *claim* may connect; if so, that it does is counted."""
        budget = self._budget(take.group)
        if budget is None:
            return True
        new = budget.connections > 0 and claim.permit != take.group
        permits = self._permits.get(take.group, self._state.index.permits.get(take.group, 0))
        if not take.opened:
            if budget.holdbacks or not budget.sessions_left or (new and permits >= budget.connections):
                return False
            if budget.sessions_per_day:
                now, *before = budget.sessions
                self._budgets[take.group] = replace(budget, sessions=(now + 1, *before))
        if new:
            self._permits[take.group] = permits + 1
        return True

    def changes(self) -> list[Change]:
        return [BudgetChanged(budget) for budget in self._budgets.values()]

    def _budget(self, group: str) -> Budget | None:
        return self._budgets.get(group) or self._state.budgets.get(group)


def _put(draft: Draft, assignment: Assignment, claim: Holder, new: Holder) -> None:
    if claim is assignment.holder:
        draft.change(replace(assignment, holder=new), Cause.PERMITTED)
    elif claim is assignment.target:
        draft.change(replace(assignment, target=new), Cause.PERMITTED)
    else:
        excluded = tuple(new if other is claim else other for other in assignment.excluded)
        draft.change(replace(assignment, excluded=excluded), Cause.PERMITTED)


def _kept(budget: Budget) -> Change:
    return BudgetChanged(budget) if budget.limits or budget.holdbacks else BudgetDropped(budget.group)
