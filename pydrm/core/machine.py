"""
The replicated state machine: `apply(state, request)`, on every node, in the order of the log.

    Rule 1.  Deciding and writing are two steps. `decide_*` looks at the state and returns changes or a refusal;
             `evolve` writes changes and cannot fail. So a command is applied whole or not at all.
    Rule 2.  Apply is total. Whatever a command contains, it is answered; a bug in deciding becomes a refusal
             that changes nothing, on every node alike.
    Rule 3.  No clock, no chance, no I/O: what a command needs to know of the world is in it, and where that
             may be out of date, it names what it saw and is refused if that is no longer so.
    Rule 4.  A request id takes effect once. Only living incarnations have requests.
    Rule 5.  After each command the placement stages run, each on the state that the one before left.

Everything that must be equal on all nodes is here and below; everything that acts on it is above.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import attrs

from pydrm.core.changes import (
    Answered,
    Audited,
    Cause,
    Change,
    FloorRaised,
    Formed,
    LeaseEnded,
    NodeChanged,
    SessionEnded,
)
from pydrm.core.commands import (
    AddResources,
    Answer,
    Command,
    Done,
    Drain,
    Expire,
    ForceRelease,
    Form,
    Handle,
    HandleReport,
    Join,
    Place,
    Reason,
    Refused,
    Release,
    RemoveResources,
    Renew,
    Report,
    Request,
    RequestId,
    Resign,
)
from pydrm.core.draft import Draft
from pydrm.core.handoff import Event
from pydrm.core.placement import STAGES, STEP_ASSIGNMENTS_MAX
from pydrm.core.records import (
    Assignment,
    AuditEntry,
    Condition,
    Definition,
    Holder,
    Node,
    NodeState,
    Phase,
    Record,
    Settings,
)
from pydrm.core.resource import WEIGHT_MAX
from pydrm.core.state import State, evolve

__all__ = ["Decision", "Outcome", "apply", "decide"]


@attrs.frozen
class Decision:
    """What a command does: its answer and the changes to write, in order."""

    answer: Answer
    changes: tuple[Change, ...] = ()
    bug: Exception | None = None


@attrs.frozen
class Outcome:
    """
    What a request did, after placement.

    Attributes:
        changes: Everything that was written, in order.
        bug: What deciding raised, if it did; for the log, as nothing of it is replicated.
    """

    answer: Answer
    changes: tuple[Change, ...]
    bug: Exception | None = None


def apply(state: State, request: Request) -> Outcome:
    """Apply one request of the log. Never raises."""
    repeated = _already_answered(state, request.id)
    if repeated is not None:
        return Outcome(repeated, ())
    decision = decide(state, request.command)
    changes = list(decision.changes)
    for change in decision.changes:
        evolve(state, change)
    # What these change moves nobody, and they are most of an idle cluster's log.
    if not isinstance(request.command, (Renew, Report, Form)):
        for stage in STAGES:
            placed = stage(state, STEP_ASSIGNMENTS_MAX)
            changes += placed
            for change in placed:
                evolve(state, change)
    for change in _remember(state, request.id, decision.answer):
        changes.append(change)
        evolve(state, change)
    return Outcome(decision.answer, tuple(changes), decision.bug)


def decide(state: State, command: Command) -> Decision:
    """What *command* would do to *state*. Pure, total."""
    decider = _DECIDERS.get(type(command))
    if decider is None:
        return _refused(Reason.INVALID, f"unknown command {type(command).__name__}")
    try:
        return decider(state, command)
    except Exception as error:  # noqa: BLE001 (rule 2: the border where a bug of ours becomes a refusal)
        # Always in the same words: an exception's own differ between versions of Python, and answers are replicated.
        return Decision(Refused(Reason.BUG, "a bug in pydrm; please report it"), bug=error)


def _already_answered(state: State, request: RequestId | None) -> Answer | None:
    if request is None:
        return None
    client = (request.node, request.incarnation)
    if not state.is_current(client):
        return Refused(Reason.EXPIRED, f"{request.node}'s incarnation {request.incarnation} has ended")
    if request.sequence < state.sessions.floor(client):
        return Refused(Reason.FORGOTTEN, "the client had given this request up")
    return state.sessions.answer(client, request.sequence)


def _remember(state: State, request: RequestId | None, answer: Answer) -> list[Change]:
    # A Resign or an Expire may have ended the client itself.
    if request is None or not state.is_current((request.node, request.incarnation)):
        return []
    changes: list[Change] = [Answered(request.node, request.incarnation, request.sequence, answer)]
    if request.floor > state.sessions.floor((request.node, request.incarnation)):
        changes.append(FloorRaised(request.node, request.incarnation, request.floor))
    return changes


def _refused(reason: Reason, detail: str = "") -> Decision:
    return Decision(Refused(reason, detail))


# --- the cluster and its nodes ---------------------------------------------------------------------------------------


def _decide_form(state: State, command: Form) -> Decision:
    settings = Settings(command.cluster_id, command.members, command.lease_ttl_ms)
    if state.settings == settings:
        return Decision(Done())
    if state.settings is not None:
        return _refused(Reason.ALREADY_FORMED, f"as {state.settings.cluster_id}")
    if not command.members or command.lease_ttl_ms <= 0:
        return _refused(Reason.INVALID, "a cluster needs members and a lease_ttl above 0")
    return Decision(Done(), (Formed(settings),))


def _decide_join(state: State, command: Join) -> Decision:
    settings = state.settings
    if settings is None:
        return _refused(Reason.NOT_FORMED)
    if command.node not in dict(settings.members):
        return _refused(Reason.NOT_FOUND, f"{command.node} is not a member of {settings.cluster_id}")
    if command.lease_ttl_ms != settings.lease_ttl_ms:
        return _refused(
            Reason.SETTINGS_DIFFER,
            f"lease_ttl is {settings.lease_ttl_ms / 1000} s in this cluster, not {command.lease_ttl_ms / 1000} s",
        )
    old = state.nodes.get(command.node)
    if old is not None and old.nonce == command.nonce:
        return Decision(Done(number=old.incarnation)) if old.lives else _refused(Reason.STALE, "it joined before")
    if command.replaces != (old.incarnation if old else 0):
        return _refused(Reason.STALE, f"{command.node} is at incarnation {old.incarnation if old else 0}")
    changes: list[Change] = []
    if old is not None and old.lives:
        if not command.directory or command.directory != old.directory:
            return _refused(Reason.LEASE_RUNNING, f"the lease of {command.node}'s former process has not ended")
        changes += _end_lease(old)
    joined = Node(
        name=command.node,
        incarnation=state.next_incarnation,
        nonce=command.nonce,
        state=NodeState.ALIVE,
        count=0,
        ttl_ms=settings.lease_ttl_ms,
        directory=command.directory,
        address=command.address,
    )
    changes.append(NodeChanged(joined))
    return Decision(Done(number=joined.incarnation), tuple(changes))


def _decide_renew(state: State, command: Renew) -> Decision:
    node = _current(state, command.node, command.incarnation)
    if isinstance(node, Refused):
        return Decision(node)
    if command.count <= node.count:
        return _refused(Reason.STALE, f"renewal {node.count} came first")
    return Decision(Done(), (NodeChanged(attrs.evolve(node, count=command.count, ttl_ms=command.ttl_ms)),))


def _decide_expire(state: State, command: Expire) -> Decision:
    node = _current(state, command.node, command.incarnation)
    if isinstance(node, Refused):
        return Decision(node)
    if command.count != node.count:
        return _refused(Reason.STALE, f"renewal {node.count} came first")
    return Decision(Done(), _end_lease(node))


def _decide_drain(state: State, command: Drain) -> Decision:
    node = _current(state, command.node, command.incarnation)
    if isinstance(node, Refused):
        return Decision(node)
    if node.state is NodeState.DRAINING:
        return Decision(Done())
    return Decision(Done(), (NodeChanged(attrs.evolve(node, state=NodeState.DRAINING)),))


def _decide_resign(state: State, command: Resign) -> Decision:
    node = _current(state, command.node, command.incarnation)
    if isinstance(node, Refused):
        return Decision(node)
    return Decision(Done(), _end_lease(node))


def _current(state: State, name: str, incarnation: int) -> Node | Refused:
    node = state.nodes.get(name)
    if node is None or node.incarnation != incarnation:
        return Refused(Reason.SUPERSEDED, f"{name} is at incarnation {node.incarnation if node else 0}")
    if not node.lives:
        return Refused(Reason.EXPIRED, f"incarnation {incarnation} of {name} has ended")
    return node


def _end_lease(node: Node) -> tuple[Change, ...]:
    return (
        LeaseEnded(attrs.evolve(node, state=NodeState.LEFT)),
        SessionEnded(node.name, node.incarnation),
    )


# --- resources -------------------------------------------------------------------------------------------------------


def _decide_add(state: State, command: AddResources) -> Decision:
    ids = Counter(definition.id for definition in command.definitions)
    twice = [name for name, times in ids.items() if times > 1]
    if twice:
        return _refused(Reason.INVALID, f"named twice in one command: {twice[0]}")
    heavy = [definition.id for definition in command.definitions if not 1 <= definition.weight <= WEIGHT_MAX]
    if heavy:
        return _refused(Reason.INVALID, f"the weight of {heavy[0]} is not from 1 to {WEIGHT_MAX}")
    draft = Draft(state)
    done = Counter(_add_one(state, draft, definition, command.if_absent) for definition in command.definitions)
    answer = Done(created=done["created"], updated=done["updated"], unchanged=done["unchanged"])
    return Decision(answer, tuple(draft.changes))


def _add_one(state: State, draft: Draft, definition: Definition, if_absent: bool) -> str:
    key = (definition.id, 0)
    record = state.records.get(definition.id)
    if record is None:
        draft.define(Record(definition, revision=draft.number()))
        waiting = Assignment(definition.id, 0, Phase.WAITING, weight=definition.weight, ticket=draft.number())
        draft.change(waiting, Cause.ADDED)
        return "created"
    assignment = state.assignments[key]
    if assignment.phase is Phase.REMOVING:
        if record.following == definition or (record.following is not None and if_absent):
            return "unchanged"
        draft.define(attrs.evolve(record, following=definition))
        return "created" if record.following is None else "updated"
    if if_absent or record.definition == definition:
        return "unchanged"
    revision = draft.number()
    draft.define(Record(definition, revision))
    target = None
    holder = assignment.holder
    if definition.overlap and assignment.phase is Phase.HELD and holder is not None:
        node = state.nodes[holder.node]
        if node.incarnation == holder.incarnation and node.state is NodeState.ALIVE:
            target = Holder(holder.node, holder.incarnation, draft.number(), revision)
    draft.happen(key, Event.UPDATED, Cause.UPDATED, target=target)
    return "updated"


def _decide_remove(state: State, command: RemoveResources) -> Decision:
    draft = Draft(state)
    missing = []
    removed = 0
    for name in dict.fromkeys(command.ids):
        record = state.records.get(name)
        if record is None:
            missing.append(name)
            continue
        removed += 1
        if record.following is not None:
            draft.define(attrs.evolve(record, following=None))
        draft.happen((name, 0), Event.REMOVED, Cause.REMOVED)
    return Decision(Done(removed=removed, missing=tuple(missing)), tuple(draft.changes))


# --- what nodes say of their handles ---------------------------------------------------------------------------------


def _decide_release(state: State, command: Release) -> Decision:
    node = _current(state, command.node, command.incarnation)
    if isinstance(node, Refused):
        return Decision(node)
    draft = Draft(state)
    for handle in command.handles:
        _release_one(draft, command, handle)
    return Decision(Done(), tuple(draft.changes))


def _release_one(draft: Draft, command: Release, handle: Handle) -> None:
    """What is out of date is passed over in silence: releases are repeated until they show in the state."""
    key = (handle.resource, handle.slot)
    assignment = draft.assignment(key)
    if assignment is None:
        return
    claim = _claim(assignment, command.node, command.incarnation, handle.token)
    if claim is None:
        return
    if claim is assignment.holder:
        draft.happen(key, Event.RELEASED, Cause.RELEASED)
    elif claim is assignment.target:
        draft.happen(key, Event.TARGET_RELEASED, Cause.RELEASED)
    else:
        draft.drop_exclusion(key, handle.token, Cause.RELEASED)


def _decide_report(state: State, command: Report) -> Decision:
    node = _current(state, command.node, command.incarnation)
    if isinstance(node, Refused):
        return Decision(node)
    draft = Draft(state)
    for report in command.reports:
        _report_one(draft, command, report)
    return Decision(Done(), tuple(draft.changes))


def _report_one(draft: Draft, command: Report, report: HandleReport) -> None:
    key = (report.resource, report.slot)
    assignment = draft.assignment(key)
    if assignment is None:
        return
    claim = _claim(assignment, command.node, command.incarnation, report.token)
    if claim is None or (claim.condition, claim.detail) == (report.condition, report.detail):
        return
    reported = attrs.evolve(claim, condition=report.condition, detail=report.detail)
    if claim is assignment.holder:
        draft.change(attrs.evolve(assignment, holder=reported), Cause.REPORTED)
    elif claim is assignment.target:
        draft.change(attrs.evolve(assignment, target=reported), Cause.REPORTED)
        if report.condition is Condition.OPEN:
            draft.happen(key, Event.OPENED, Cause.OPENED)


def _decide_force(state: State, command: ForceRelease) -> Decision:
    key = (command.resource, command.slot)
    assignment = state.assignments.get(key)
    if assignment is None:
        return _refused(Reason.NOT_FOUND, command.resource)
    holder = assignment.holder
    if holder is None or holder.token != command.token:
        return _refused(Reason.STALE, f"{command.resource} is not held under token {command.token}")
    draft = Draft(state)
    draft.happen(key, Event.FORCED, Cause.FORCED)
    number = max(state.audit, default=0) + 1
    entry = AuditEntry(number, command.resource, command.slot, holder.node, holder.token, command.reason)
    return Decision(Done(), (*draft.changes, Audited(entry)))


def _decide_place(state: State, command: Place) -> Decision:
    # The stages that run after every command are all it is for.
    return Decision(Done())


def _claim(assignment: Assignment, node: str, incarnation: int, token: int) -> Holder | None:
    for claim in assignment.claims():
        if (claim.node, claim.incarnation, claim.token) == (node, incarnation, token):
            return claim
    return None


_DECIDERS: dict[type, Callable[[State, Any], Decision]] = {
    Form: _decide_form,
    Join: _decide_join,
    Renew: _decide_renew,
    Expire: _decide_expire,
    Drain: _decide_drain,
    Resign: _decide_resign,
    AddResources: _decide_add,
    RemoveResources: _decide_remove,
    Release: _decide_release,
    Report: _decide_report,
    ForceRelease: _decide_force,
    Place: _decide_place,
}
