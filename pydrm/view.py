"""
What readers see of the state: plain values, made when they are asked for.

Each table is copied as a whole, which is safe from any thread; two tables may be of neighbouring instants.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import attrs

from pydrm.core.records import Assignment, AssignmentKey, Condition, Phase
from pydrm.core.resource import Json
from pydrm.core.state import State

__all__ = [
    "AssignmentView",
    "assignment_views",
    "node_rows",
    "recovery_problem",
    "resource_counts",
    "resource_rows",
]


@attrs.frozen
class AssignmentView:
    """
    Who holds a resource.

    Attributes:
        slot: 0, unless a resource has several holders.
        state: "waiting", "opening", "open", "retrying", "failed", "stuck", "releasing", "removing", "paused" or
            "quarantined".
        holder: A node's name; None while it waits for one, or is not to have one.
        token: The holder's fencing token.
        detail: Why, in words: the last error, or the reason of a pause or quarantine; "".
        next_try: RETRYING: when the holder tries again, in seconds since the epoch; None if it is soon.
    """

    resource: str
    slot: int
    state: str
    holder: str | None
    token: int | None
    detail: str = ""
    next_try: float | None = None


def assignment_views(state: State, keys: Iterable[AssignmentKey] | None = None) -> list[AssignmentView]:
    """All assignments, or those of *keys* that there are, in their order."""
    if keys is None:
        return [_view(assignment, state) for assignment in state.assignments.values()]
    found = [state.assignments.get(key) for key in keys]
    return [_view(assignment, state) for assignment in found if assignment is not None]


def resource_rows(state: State) -> list[dict[str, Json]]:
    """
    {id, kind, state, holder, token, detail, next_try, source} of each resource, by id.

    *source* is the one that owns it; None for what the app has added.
    """
    views = {view.resource: view for view in assignment_views(state)}
    rows: list[dict[str, Json]] = []
    for id, record in sorted(state.records.items()):
        view = views.get(id) or AssignmentView(id, 0, Phase.WAITING.value, None, None)
        rows.append(
            {
                "id": id,
                "kind": record.definition.kind,
                "state": view.state,
                "holder": view.holder,
                "token": view.token,
                "detail": view.detail,
                "next_try": view.next_try,
                "source": record.owner or None,
            }
        )
    return rows


def resource_counts(state: State) -> dict[str, Json]:
    """
    Every resource is held, unheld (it waits for a holder), moving (on its way from one, or out) or parked.

    Of those that are held, *open* work; *failing* are those that retry, failed for good or are stuck.
    """
    assignments = list(state.assignments.values())
    phases = Counter(assignment.phase for assignment in assignments)
    conditions = Counter(
        assignment.holder.condition
        for assignment in assignments
        if assignment.phase is Phase.HELD and assignment.holder is not None
    )
    held, unheld, parked = phases[Phase.HELD], phases[Phase.WAITING], phases[Phase.PARKED]
    total = phases.total()
    moving = total - held - unheld - parked
    failing = conditions[Condition.RETRYING] + conditions[Condition.FAILED] + conditions[Condition.STUCK]
    return {
        "total": total,
        "held": held,
        "open": conditions[Condition.OPEN],
        "failing": failing,
        "unheld": unheld,
        "moving": moving,
        "parked": parked,
    }


def node_rows(state: State, voters: Iterable[str]) -> list[dict[str, Json]]:
    """{node, state, votes, incarnation, held} of each node, by name; a voter that never joined is "absent"."""
    voters = set(voters)
    held = Counter(
        (assignment.holder.node, assignment.holder.incarnation)
        for assignment in state.assignments.values()
        if assignment.holder is not None
    )
    nodes = dict(state.nodes)
    rows: list[dict[str, Json]] = []
    for name in sorted({*nodes, *voters}):
        node = nodes.get(name)
        rows.append(
            {
                "node": name,
                "state": node.state.value if node else "absent",
                "votes": name in voters,
                "incarnation": node.incarnation if node else 0,
                "held": held[name, node.incarnation] if node else 0,
            }
        )
    return rows


def recovery_problem(state: State, leader: str | None) -> str:
    """That nothing is assigned after `pydrm recover`, and when that ends; "" if it is not so."""
    settings = state.settings
    if settings is None or not settings.recovering:
        return ""
    # The leader counts from when it began to lead, so nobody else can name the moment.
    until = f"{leader or 'somebody'} has led for {settings.lease_ttl_ms / 1000:g} s (lease_ttl)"
    return f"recovered as a new cluster: no resource is given a holder, nor moved, until {until}; that ends by itself"


def _view(assignment: Assignment, state: State) -> AssignmentView:
    holder = assignment.holder
    if holder is None:
        shown, reason = Phase.WAITING.value, ""
        # Another thread writes meanwhile: the record may be of another instant than the assignment.
        record = state.records.get(assignment.resource)
        if assignment.phase is Phase.PARKED and record is not None and record.parked is not None:
            shown, reason = record.parked.cause.value, record.parked.reason
        return AssignmentView(assignment.resource, assignment.slot, shown, None, None, reason)
    shown = assignment.phase.value
    if assignment.phase in (Phase.HELD, Phase.OPENING) or holder.condition is Condition.STUCK:
        shown = holder.condition.value
    next_try = holder.next_try_ms / 1000 if holder.next_try_ms else None
    return AssignmentView(
        assignment.resource, assignment.slot, shown, holder.node, holder.token, holder.detail, next_try
    )
