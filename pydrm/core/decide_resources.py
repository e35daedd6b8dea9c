"""
Deciding about resources: what is added and removed, and taken from its holder by force.

    Rule 1.  What the app says by call counts, whoever brought the resource before: what it adds is the app's from then
             on, and what it removes is removed.
    Rule 2.  A source writes under the token that it is held by, and only what it owns or nobody has; the rest it is
             told of. So one that was thawed after it had gone to another node changes nothing.
    Rule 3.  A definition that differs in weight, overlap or owner only takes effect in place, under the same revision:
             nothing is open for these, so nothing is closed for them. A handler has the weight that it was given.
"""

from __future__ import annotations

from collections import Counter

from msgspec.structs import replace

from pydrm.core.answers import Done, Reason, Refused
from pydrm.core.changes import Audited, Cause
from pydrm.core.commands import AddResources, ForceRelease, RemoveResources
from pydrm.core.decision import Decision, refused
from pydrm.core.draft import Draft
from pydrm.core.handle_commands import Handle
from pydrm.core.handoff import Event
from pydrm.core.placement import admit
from pydrm.core.records import (
    REASON_CHARACTERS_MAX,
    Assignment,
    AuditEntry,
    Definition,
    Holder,
    NodeState,
    ParkedCause,
    Phase,
    Record,
)
from pydrm.core.resource import WEIGHT_MAX
from pydrm.core.state import State

__all__ = ["decide_add", "decide_force", "decide_remove"]


def decide_add(state: State, command: AddResources) -> Decision:
    ids = Counter(definition.id for definition in command.definitions)
    twice = [name for name, times in ids.items() if times > 1]
    if twice:
        return refused(Reason.INVALID, f"named twice in one command: {twice[0]}")
    heavy = [definition.id for definition in command.definitions if not 1 <= definition.weight <= WEIGHT_MAX]
    if heavy:
        return refused(Reason.INVALID, f"the weight of {heavy[0]} is not from 1 to {WEIGHT_MAX}")
    owner = _owner(state, command.source)
    if isinstance(owner, Refused):
        return Decision(owner)
    draft = Draft(state)
    newcomers: list[Assignment] = []
    foreign = []
    done: Counter[str] = Counter()
    for given in command.definitions:
        if owner and _is_foreign(state, given.id, owner):
            foreign.append(given.id)
            continue
        definition = given if given.source == owner else replace(given, source=owner)
        done[_add_one(state, draft, newcomers, definition, command.if_absent)] += 1
    admit(state, draft, newcomers)
    answer = Done(created=done["created"], updated=done["updated"], unchanged=done["unchanged"], foreign=tuple(foreign))
    return Decision(answer, tuple(draft.changes))


def _owner(state: State, source: Handle | None) -> str | Refused:
    """In whose name it is asked: "" for the app, or that of a source that is held under this very handle."""
    if source is None:
        return ""
    record = state.records.get(source.resource)
    assignment = state.assignments.get((source.resource, source.slot))
    holder = assignment.holder if assignment is not None and assignment.phase is not Phase.REMOVING else None
    if holder is None or holder.token != source.token or not state.is_current((holder.node, holder.incarnation)):
        return Refused(Reason.STALE, f"{source.resource} is not held under token {source.token}")
    if record is None or not record.definition.is_source:
        return Refused(Reason.INVALID, f"{source.resource} is no source")
    return source.resource


def _is_foreign(state: State, id: str, owner: str) -> bool:
    """Whether somebody else owns it; what is being removed for good is nobody's any more."""
    record = state.records.get(id)
    if record is None or record.owner == owner:
        return False
    return record.following is not None or state.assignments[id, 0].phase is not Phase.REMOVING


def _add_one(state: State, draft: Draft, newcomers: list[Assignment], definition: Definition, if_absent: bool) -> str:
    key = (definition.id, 0)
    record = state.records.get(definition.id)
    if record is None:
        draft.define(Record(definition, revision=draft.number()))
        ticket, group = draft.number(), definition.group
        newcomers.append(Assignment(definition.id, 0, Phase.WAITING, definition.weight, ticket=ticket, group=group))
        return "created"
    assignment = state.assignments[key]
    if assignment.phase is Phase.REMOVING:
        if record.following == definition or (record.following is not None and if_absent):
            return "unchanged"
        draft.define(replace(record, following=definition))
        return "created" if record.following is None else "updated"
    if if_absent or record.definition == definition:
        return "unchanged"
    if _needs_no_handle(record.definition, definition):
        draft.define(replace(record, definition=definition))
        if assignment.weight != definition.weight:
            draft.change(replace(assignment, weight=definition.weight), Cause.UPDATED)
        return "updated"
    revision = draft.number()
    paused = record.parked is not None and record.parked.cause is ParkedCause.PAUSED
    draft.define(Record(definition, revision, parked=record.parked if paused else None))
    target = None
    holder = assignment.holder
    if definition.overlap and assignment.phase is Phase.HELD and holder is not None:
        node = state.nodes[holder.node]
        if node.incarnation == holder.incarnation and node.state is NodeState.ALIVE:
            target = Holder(holder.node, holder.incarnation, draft.number(), revision)
    draft.forget_failures(key, Cause.UPDATED)
    draft.happen(key, Event.UPDATED, Cause.UPDATED, target=target)
    return "updated"


def _needs_no_handle(old: Definition, new: Definition) -> bool:
    """Whether they differ in nothing that a handle is opened for."""
    return replace(old, weight=new.weight, overlap=new.overlap, source=new.source) == new


def decide_remove(state: State, command: RemoveResources) -> Decision:
    owner = _owner(state, command.source)
    if isinstance(owner, Refused):
        return Decision(owner)
    draft = Draft(state)
    missing = []
    foreign = []
    removed = 0
    for name in dict.fromkeys(command.ids):
        record = state.records.get(name)
        if record is None:
            missing.append(name)
            continue
        if owner and record.owner != owner:
            foreign.append(name)
            continue
        removed += 1
        if record.following is not None:
            draft.define(replace(record, following=None))
        draft.happen((name, 0), Event.REMOVED, Cause.REMOVED)
    return Decision(Done(removed=removed, missing=tuple(missing), foreign=tuple(foreign)), tuple(draft.changes))


def decide_force(state: State, command: ForceRelease) -> Decision:
    key = (command.resource, command.slot)
    assignment = state.assignments.get(key)
    if assignment is None:
        return refused(Reason.NOT_FOUND, command.resource)
    holder = assignment.holder
    if holder is None or holder.token != command.token:
        return refused(Reason.STALE, f"{command.resource} is not held under token {command.token}")
    draft = Draft(state)
    draft.happen(key, Event.FORCED, Cause.FORCED)
    number = max(state.audit, default=0) + 1
    reason = command.reason[:REASON_CHARACTERS_MAX]
    entry = AuditEntry(number, command.resource, command.slot, holder.node, holder.token, reason)
    return Decision(Done(), (*draft.changes, Audited(entry)))
