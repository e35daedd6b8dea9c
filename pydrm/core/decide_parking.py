"""
Deciding that nobody is to hold a resource for now, and that somebody is again.

    Rule 1.  A parked record's assignment goes to PARKED by the ways of every release: nothing is taken from a holder
             that has not let go.
    Rule 2.  Who asks for a pause ends it. A quarantine ends by its time too, or by a new definition.
    Rule 3.  A resource that one node gives up is tried by each other node that may hold it, and then it is
             quarantined. Who gave it up is remembered until it was open for good, so after a quarantine one node tries
             it, and if that fails it is quarantined at once.
"""

from __future__ import annotations

from msgspec.structs import replace

from pydrm.core.answers import Done, Reason, Refused
from pydrm.core.changes import Cause
from pydrm.core.commands import EndQuarantine, PauseResources, ResumeResources
from pydrm.core.decision import Decision, current, refused
from pydrm.core.draft import Draft
from pydrm.core.handle_commands import GiveUp
from pydrm.core.handoff import Event
from pydrm.core.placement import excluded_from, placeable
from pydrm.core.records import REASON_CHARACTERS_MAX, Assignment, Parked, ParkedCause, Phase
from pydrm.core.state import State

__all__ = ["decide_end_quarantine", "decide_give_up", "decide_pause", "decide_resume"]


def decide_pause(state: State, command: PauseResources) -> Decision:
    draft = Draft(state)
    missing = []
    paused = 0
    for name in dict.fromkeys(command.ids):
        record = state.records.get(name)
        if record is None or state.assignments[name, 0].phase is Phase.REMOVING:
            missing.append(name)
        elif record.parked is None or record.parked.cause is not ParkedCause.PAUSED:
            paused += 1
            _park(draft, name, ParkedCause.PAUSED, command.reason)
    return Decision(Done(updated=paused, missing=tuple(missing)), tuple(draft.changes))


def decide_resume(state: State, command: ResumeResources) -> Decision:
    draft = Draft(state)
    missing = []
    resumed = 0
    for name in dict.fromkeys(command.ids):
        record = state.records.get(name)
        if record is None or state.assignments[name, 0].phase is Phase.REMOVING:
            missing.append(name)
        elif record.parked is not None:
            resumed += 1
            draft.forget_failures((name, 0), Cause.RESUMED)
            _unpark(draft, name)
    return Decision(Done(updated=resumed, missing=tuple(missing)), tuple(draft.changes))


def decide_end_quarantine(state: State, command: EndQuarantine) -> Decision:
    if state.quarantined.get(command.resource) != command.number:
        return refused(Reason.STALE, f"{command.resource} is not in quarantine {command.number}")
    draft = Draft(state)
    _unpark(draft, command.resource)
    return Decision(Done(), tuple(draft.changes))


def decide_give_up(state: State, command: GiveUp) -> Decision:
    """What is not this one's any more, or on its way already, is passed over in silence."""
    node = current(state, command.node, command.incarnation)
    if isinstance(node, Refused):
        return Decision(node)
    draft = Draft(state)
    for failure in command.failures:
        key = (failure.resource, failure.slot)
        mine = (node.name, node.incarnation)
        claimed = draft.claimed(mine, key, failure.token)
        if claimed is None or claimed[1] is not claimed[0].holder or claimed[0].phase is not Phase.HELD:
            continue
        assignment = claimed[0]
        living = tuple([incarnation for incarnation in assignment.failed if state.is_current(incarnation)])
        if living != assignment.failed:
            draft.change(replace(assignment, failed=living), Cause.GIVEN_UP)
        if _others(state, assignment, mine):
            draft.happen(key, Event.GIVEN_UP, Cause.GIVEN_UP)
        else:
            duration_ms = max(command.quarantine_ms, 0)
            _park(draft, failure.resource, ParkedCause.QUARANTINED, failure.reason, duration_ms, Event.GIVEN_UP)
    return Decision(Done(), tuple(draft.changes))


def _others(state: State, assignment: Assignment, mine: tuple[str, int]) -> list[str]:
    """Nodes that may hold it and have not given it up."""
    nodes = placeable(state)
    tried = {*assignment.failed, mine}
    barred = excluded_from(assignment, nodes)
    return [name for name, node in nodes.items() if (name, node.incarnation) not in tried and name not in barred]


def _park(
    draft: Draft, name: str, cause: ParkedCause, reason: str, duration_ms: int = 0, event: Event = Event.PARKED
) -> None:
    record = draft.record(name)
    assert record is not None
    parked = Parked(cause, reason[:REASON_CHARACTERS_MAX], draft.number(), duration_ms)
    draft.define(replace(record, parked=parked))
    draft.happen((name, 0), event, Cause.PARKED)


def _unpark(draft: Draft, name: str) -> None:
    record = draft.record(name)
    assert record is not None
    draft.define(replace(record, parked=None))
    draft.happen((name, 0), Event.RESUMED, Cause.RESUMED)
