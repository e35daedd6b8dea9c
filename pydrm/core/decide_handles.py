"""
Deciding about what nodes say of their handles: that they are gone, and how they are.

What is out of date is passed over in silence: releases and reports are repeated until they show in the state.
"""

from __future__ import annotations

from msgspec.structs import replace

from pydrm.core.answers import Done, Refused
from pydrm.core.changes import Cause
from pydrm.core.commands import Place
from pydrm.core.decide_checkpoints import save_one
from pydrm.core.decision import Decision, current
from pydrm.core.draft import Draft
from pydrm.core.handle_commands import Handle, HandleReport, Release, Report
from pydrm.core.handoff import Event
from pydrm.core.records import Condition, Incarnation
from pydrm.core.state import State

__all__ = ["decide_place", "decide_release", "decide_report"]


def decide_release(state: State, command: Release) -> Decision:
    node = current(state, command.node, command.incarnation)
    if isinstance(node, Refused):
        return Decision(node)
    draft = Draft(state)
    for handle in command.handles:
        _release_one(draft, (node.name, node.incarnation), handle)
    return Decision(Done(), tuple(draft.changes))


def _release_one(draft: Draft, by: Incarnation, handle: Handle) -> None:
    key = (handle.resource, handle.slot)
    claimed = draft.claimed(by, key, handle.token)
    if claimed is None:
        return
    assignment, claim = claimed
    if handle.checkpoint:
        save_one(draft, by, key, handle.token, handle.checkpoint)
    if not handle.parting:
        draft.left_silently(key, claim)
    if claim is assignment.holder:
        draft.happen(key, Event.RELEASED, Cause.RELEASED)
    elif claim is assignment.target:
        draft.happen(key, Event.TARGET_RELEASED, Cause.RELEASED)
    else:
        draft.drop_exclusion(key, handle.token, Cause.RELEASED)


def decide_report(state: State, command: Report) -> Decision:
    node = current(state, command.node, command.incarnation)
    if isinstance(node, Refused):
        return Decision(node)
    draft = Draft(state)
    for report in command.reports:
        _report_one(draft, (node.name, node.incarnation), report)
    return Decision(Done(), tuple(draft.changes))


def _report_one(draft: Draft, by: Incarnation, report: HandleReport) -> None:
    key = (report.resource, report.slot)
    claimed = draft.claimed(by, key, report.token)
    if claimed is None:
        return
    assignment, claim = claimed
    if report.proven and claim is assignment.holder and assignment.failed:
        assignment = replace(assignment, failed=())
        draft.change(assignment, Cause.REPORTED)
    reported = replace(claim, condition=report.condition, detail=report.detail, next_try_ms=report.next_try_ms)
    if reported == claim:
        return
    if claim is assignment.holder:
        draft.change(replace(assignment, holder=reported), Cause.REPORTED)
    elif claim is assignment.target:
        draft.change(replace(assignment, target=reported), Cause.REPORTED)
        if report.condition is Condition.OPEN:
            draft.happen(key, Event.OPENED, Cause.OPENED)


def decide_place(state: State, command: Place) -> Decision:
    # The stages that run after every command are all it is for.
    return Decision(Done())
