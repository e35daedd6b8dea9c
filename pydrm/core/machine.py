"""
The replicated state machine: `apply(state, request)`, on every node, in the order of the log.

    Rule 1.  Deciding and writing are two steps. `decide_*` looks at the state and returns changes or a refusal;
             `evolve` writes changes and cannot fail. So a command is applied whole or not at all.
    Rule 2.  Apply is total. Whatever a command contains, it is answered; a bug in deciding becomes a refusal
             that changes nothing, on every node alike.
    Rule 3.  No clock, no chance, no I/O: what a command needs to know of the world is in it, and where that
             may be out of date, it names what it saw and is refused if that is no longer so.
    Rule 4.  A request id takes effect once. Only living incarnations have requests.
    Rule 5.  After each command the placement stages run, each on the state that the one before left. What a step
             leaves to do is gone on with by `Place`.

Everything that must be equal on all nodes is here and below; everything that acts on it is above.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from pydrm.core import placement
from pydrm.core.answers import Answer, Reason, Refused
from pydrm.core.budget_commands import EndHoldback, EndHour, HoldBack, ReturnPermits, SetBudget, TakePermits
from pydrm.core.changes import Answered, Change, FloorRaised
from pydrm.core.commands import (
    AddResources,
    AddVoter,
    Command,
    Drain,
    EndQuarantine,
    EndRecovery,
    Expire,
    ForceRelease,
    Form,
    Join,
    PauseResources,
    Place,
    RaiseProtocol,
    RemoveResources,
    RemoveVoter,
    Renew,
    Request,
    RequestId,
    Resign,
    ResumeResources,
)
from pydrm.core.decide_budgets import (
    decide_end_holdback,
    decide_end_hour,
    decide_hold_back,
    decide_return,
    decide_set_budget,
    decide_take,
)
from pydrm.core.decide_checkpoints import decide_raise_watermark, decide_save
from pydrm.core.decide_handles import decide_place, decide_release, decide_report
from pydrm.core.decide_ledger import (
    clear,
    decide_claim,
    decide_forget,
    decide_publish,
    decide_replay,
    decide_settle,
)
from pydrm.core.decide_nodes import (
    decide_drain,
    decide_expire,
    decide_join,
    decide_renew,
    decide_resign,
)
from pydrm.core.decide_parking import decide_end_quarantine, decide_give_up, decide_pause, decide_resume
from pydrm.core.decide_resources import decide_add, decide_force, decide_remove
from pydrm.core.decide_settings import (
    decide_add_voter,
    decide_form,
    decide_raise_protocol,
    decide_remove_voter,
)
from pydrm.core.decision import Decision, refused
from pydrm.core.handle_commands import GiveUp, RaiseWatermark, Release, Report, SaveCheckpoints
from pydrm.core.ledger_commands import (
    ClaimDeliveries,
    ForgetPublished,
    Publish,
    ReplayDeliveries,
    SettleDeliveries,
)
from pydrm.core.protocol import objection
from pydrm.core.recovery import decide_end_recovery
from pydrm.core.state import State, evolve

__all__ = ["Outcome", "apply", "decide"]


class Outcome(msgspec.Struct, frozen=True):
    """
    What a request did, after placement.

    Attributes:
        changes: Everything that was written, in order.
        bug: What deciding or placing raised, if it did; for the log, as nothing of it is replicated.
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
    bug = decision.bug
    changes = list(decision.changes)
    for change in decision.changes:
        evolve(state, change)
    # What these change moves nobody, and renewals are most of an idle cluster's log.
    if type(request.command) not in _MOVES_NOBODY:
        limit = _step(request.command, len(decision.changes))
        for stage in _STAGES:
            try:
                placed = stage(state, limit)
            except Exception as error:  # noqa: BLE001 (rule 2: a bug of ours must not stop every node alike)
                bug = bug or error
                continue
            changes += placed
            for change in placed:
                evolve(state, change)
    for change in _remember(state, request.id, decision.answer):
        changes.append(change)
        evolve(state, change)
    return Outcome(decision.answer, tuple(changes), bug)


def decide(state: State, command: Command) -> Decision:
    """What *command* would do to *state*. Pure, total."""
    decider = _DECIDERS.get(type(command))
    if decider is None:
        return refused(Reason.INVALID, f"unknown command {type(command).__name__}")
    early = objection(state.settings, type(command))
    if early is not None:
        return Decision(early)
    try:
        return decider(state, command)
    except Exception as error:  # noqa: BLE001 (rule 2: the border where a bug of ours becomes a refusal)
        # Always in the same words: an exception's own differ between versions of Python, and answers are replicated.
        return Decision(Refused(Reason.BUG, "a bug in pydrm; please report it"), bug=error)


def _step(command: Command, changes: int) -> int:
    """
    About how many assignments each stage may decide now; `Place` goes on with the rest.

    An entry of the log may hold hundreds of requests, and a node ticks between entries only. So what is about a few
    resources may, while there is much left to do, do not much more than its own part of it.
    """
    most = placement.STEP_ASSIGNMENTS_MAX
    return most if type(command) in _MOVES_MANY else min(most, max(changes, most // 20))


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


_STAGES = (*placement.STAGES, clear)

# Sets of types: each command is looked for in them, and there are many kinds.
_MOVES_MANY = frozenset((Join, Drain, Resign, Expire, EndRecovery, Place))
_LEDGER = (Publish, ClaimDeliveries, SettleDeliveries, ReplayDeliveries, ForgetPublished)
_BUDGETS = (SetBudget, TakePermits, ReturnPermits, HoldBack, EndHoldback, EndHour)
_MOVES_NOBODY = frozenset(
    (Renew, Report, SaveCheckpoints, RaiseWatermark, Form, AddVoter, RemoveVoter, RaiseProtocol, *_LEDGER, *_BUDGETS)
)

_DECIDERS: dict[type, Callable[[State, Any], Decision]] = {
    Form: decide_form,
    Join: decide_join,
    Renew: decide_renew,
    Expire: decide_expire,
    Drain: decide_drain,
    Resign: decide_resign,
    AddResources: decide_add,
    RemoveResources: decide_remove,
    Release: decide_release,
    Report: decide_report,
    ForceRelease: decide_force,
    Place: decide_place,
    AddVoter: decide_add_voter,
    RemoveVoter: decide_remove_voter,
    RaiseProtocol: decide_raise_protocol,
    EndRecovery: decide_end_recovery,
    SaveCheckpoints: decide_save,
    RaiseWatermark: decide_raise_watermark,
    PauseResources: decide_pause,
    ResumeResources: decide_resume,
    GiveUp: decide_give_up,
    EndQuarantine: decide_end_quarantine,
    Publish: decide_publish,
    ClaimDeliveries: decide_claim,
    SettleDeliveries: decide_settle,
    ReplayDeliveries: decide_replay,
    ForgetPublished: decide_forget,
    SetBudget: decide_set_budget,
    TakePermits: decide_take,
    ReturnPermits: decide_return,
    HoldBack: decide_hold_back,
    EndHoldback: decide_end_holdback,
    EndHour: decide_end_hour,
}
