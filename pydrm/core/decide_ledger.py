"""
Deciding about events and deliveries.

    Rule 1.  Who gets an event is decided when it is published, once.
    Rule 2.  A delivery is claimed before it is tried. The claim names the token that the subscription is held by, and
             the attempt that it is to be; so of two that claim the same, one is granted.
    Rule 3.  What became of an attempt is taken from who claimed it, also when it has let go of the subscription since:
             it alone knows. Unless somebody else has claimed it meanwhile.
    Rule 4.  A claim that was left open, by a holder that is none any more or by an earlier run of the same one, is
             another attempt; or, where one of the two said `once`, the end.
    Rule 5.  Everything has a bound. The oldest of the dead give way; what is not over yet never does, so then
             publishing is refused. One subscription's share is bounded too, and what it gets beyond that is dead.
"""

from __future__ import annotations

from itertools import islice

from msgspec.structs import replace

from pydrm.core import events
from pydrm.core.answers import Done, Reason, Refused
from pydrm.core.changes import Change
from pydrm.core.decision import Decision, current, refused
from pydrm.core.events import Delivery, DeliveryState, Event, Published
from pydrm.core.ledger_changes import (
    EventKept,
    IdForgotten,
    IdRemembered,
    RemainsCleared,
)
from pydrm.core.ledger_commands import (
    Claim,
    ClaimDeliveries,
    ForgetPublished,
    Publish,
    Publisher,
    ReplayDeliveries,
    SettleDeliveries,
    Settlement,
    Verdict,
)
from pydrm.core.ledger_draft import LedgerDraft
from pydrm.core.records import REASON_CHARACTERS_MAX, Holder, Phase
from pydrm.core.state import State
from pydrm.core.topics import topic_problem

__all__ = [
    "UNKNOWN",
    "clear",
    "decide_claim",
    "decide_forget",
    "decide_publish",
    "decide_replay",
    "decide_settle",
]

UNKNOWN = "unknown: whoever tried it did not say what became of it"
BEHIND = f"the subscription had {events.BACKLOG_MAX} others to deliver already"

_FORGETS_MAX = 1000


def decide_publish(state: State, command: Publish) -> Decision:
    problem = _problem(command)
    if problem:
        return refused(Reason.INVALID, problem)
    if command.by is not None and not _holds(state, command.by):
        return refused(Reason.STALE, f"{command.by.resource} is not held under token {command.by.token} any more")
    ledger = state.ledger
    old = ledger.published.get(command.id)
    if old is not None:
        return Decision(Done(created=old.matched, unchanged=1))
    # Those that are being removed count, too: a million of them would have to be looked at to be left out.
    matched = ledger.topics.match(command.topic, events.FANOUT_MAX)
    if matched is None:
        detail = f"more subscriptions want {command.topic} than one event may be for: {events.FANOUT_MAX}"
        return refused(Reason.INVALID, detail)
    wanted = [name for name in matched if _listens(state, name)]
    draft = LedgerDraft(state)
    number = draft.number()
    if wanted:
        full = draft.make_room(len(command.payload), len(wanted))
        if full:
            return refused(Reason.FULL, full)
        draft.changes.append(EventKept(Event(number, command.id, command.topic, command.payload, command.content_type)))
    for name in wanted:
        delivery = Delivery(name, number)
        if ledger.backlog(name) < events.BACKLOG_MAX:
            draft.change(delivery)
        else:
            draft.kill(delivery, BEHIND)
    if command.known:
        draft.changes.append(IdRemembered(Published(command.id, number, len(wanted))))
        if len(ledger.published) >= events.PUBLISHED_MAX:
            draft.changes.append(IdForgotten(next(iter(ledger.published))))
    return Decision(Done(created=len(wanted)), tuple(draft.changes))


def decide_claim(state: State, command: ClaimDeliveries) -> Decision:
    node = current(state, command.node, command.incarnation)
    if isinstance(node, Refused):
        return Decision(node)
    draft = LedgerDraft(state)
    for claim in command.claims:
        _claim_one(state, draft, command.node, command.incarnation, claim)
    return Decision(Done(), tuple(draft.changes))


def _claim_one(state: State, draft: LedgerDraft, node: str, incarnation: int, claim: Claim) -> None:
    delivery = draft.delivery((claim.resource, claim.event))
    if delivery is None or delivery.state is DeliveryState.DEAD or claim.attempt != delivery.attempt + 1:
        return
    assignment = state.assignments.get((claim.resource, claim.slot))
    if assignment is None or assignment.phase not in (Phase.HELD, Phase.OPENING):
        return
    holders = (assignment.holder, assignment.target)
    if not any(_is(holder, node, incarnation, claim.token) for holder in holders):
        return
    if delivery.state is DeliveryState.CLAIMED:
        mine = delivery.token == claim.token
        if not mine and any(_is(h, delivery.node, delivery.incarnation, delivery.token) for h in holders):
            return  # with overlap there are two, and the other one may be at work
        if delivery.once or claim.once:
            draft.kill(delivery, UNKNOWN)
            return
    draft.change(
        replace(
            delivery,
            state=DeliveryState.CLAIMED,
            attempt=claim.attempt,
            node=node,
            incarnation=incarnation,
            token=claim.token,
            once=claim.once,
            delay_ms=0,
        )
    )


def decide_settle(state: State, command: SettleDeliveries) -> Decision:
    node = current(state, command.node, command.incarnation)
    if isinstance(node, Refused):
        return Decision(node)
    draft = LedgerDraft(state)
    for settlement in command.settlements:
        delivery = draft.delivery((settlement.resource, settlement.event))
        if delivery is not None and _may_settle(delivery, command, settlement):
            _settle_one(draft, delivery, settlement)
    return Decision(Done(), tuple(draft.changes))


def _may_settle(delivery: Delivery, command: SettleDeliveries, settlement: Settlement) -> bool:
    """Rule 3."""
    claimed = (delivery.state, delivery.node, delivery.incarnation, delivery.token, delivery.attempt)
    return claimed == (
        DeliveryState.CLAIMED,
        command.node,
        command.incarnation,
        settlement.token,
        settlement.attempt,
    )


def _settle_one(draft: LedgerDraft, delivery: Delivery, settlement: Settlement) -> None:
    match settlement.verdict:
        case Verdict.DELIVERED:
            draft.drop(delivery.key)
        case Verdict.AGAIN:
            draft.change(
                Delivery(
                    delivery.resource,
                    delivery.event,
                    attempt=delivery.attempt,
                    delay_ms=max(settlement.delay_ms, 0),
                    reason=settlement.reason[:REASON_CHARACTERS_MAX],
                    series=delivery.series,
                )
            )
        case Verdict.DEAD:
            draft.kill(delivery, settlement.reason)


def decide_replay(state: State, command: ReplayDeliveries) -> Decision:
    draft = LedgerDraft(state)
    replayed = 0
    for key in command.deliveries:
        delivery = draft.delivery(key)
        if delivery is not None and delivery.state is DeliveryState.DEAD:
            replayed += 1
            attempt = delivery.attempt
            draft.change(Delivery(*key, attempt=attempt, reason=delivery.reason, series=attempt))
    return Decision(Done(updated=replayed), tuple(draft.changes))


def decide_forget(state: State, command: ForgetPublished) -> Decision:
    oldest = islice(state.ledger.published.values(), _FORGETS_MAX)
    over = [published.id for published in oldest if published.number <= command.through]
    if not over:
        return refused(Reason.STALE, f"no id is left up to number {command.through}")
    return Decision(Done(removed=len(over)), tuple([IdForgotten(id) for id in over]))


def clear(state: State, limit: int) -> list[Change]:
    """One of the stages after a command: clear away some of what subscriptions that ended have left."""
    if not state.ledger.remains:
        return []
    return [RemainsCleared(number) for number in islice(state.ledger.remains, 1)]


def _problem(command: Publish) -> str:
    if not 0 < len(command.id) <= events.EVENT_ID_CHARACTERS_MAX:
        return f"an event's id has 1 to {events.EVENT_ID_CHARACTERS_MAX} characters, not {len(command.id)}"
    if len(command.payload) > events.PAYLOAD_BYTES_MAX:
        return f"the payload has {len(command.payload)} bytes, more than {events.PAYLOAD_BYTES_MAX}"
    wrong = topic_problem(command.topic)
    return f"the topic {command.topic[:100]!r} {wrong}" if wrong else ""


def _holds(state: State, by: Publisher) -> bool:
    assignment = state.assignments.get((by.resource, by.slot))
    if assignment is None:
        return False
    return any(holder is not None and holder.token == by.token for holder in (assignment.holder, assignment.target))


def _listens(state: State, name: str) -> bool:
    """What is being removed gets nothing more, unless it was added again."""
    record = state.records[name]
    return record.following is not None or state.assignments[name, 0].phase is not Phase.REMOVING


def _is(holder: Holder | None, node: str, incarnation: int, token: int) -> bool:
    return holder is not None and (holder.node, holder.incarnation, holder.token) == (node, incarnation, token)
