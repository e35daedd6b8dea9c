"""
Planted faults: each breaks one rule of pydrm, and the simulator must find that it is broken.

They are what shows that a run without violations means something.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from attrs import evolve
from msgspec.structs import replace

from pydrm.agent.checkpoints import Checkpoints
from pydrm.agent.deliveries import Desk
from pydrm.agent.fence import Fence
from pydrm.agent.lease import LeaseKeeper
from pydrm.agent.warden import Warden
from pydrm.agent.watch import LeaseWatch
from pydrm.agent.watermark import RisingWatermark
from pydrm.core import decide_ledger, decide_resources, handoff, machine
from pydrm.core.answers import Done, Reason, Refused
from pydrm.core.changes import Answered, AssignmentChanged, FloorRaised
from pydrm.core.commands import Expire, Renew
from pydrm.core.decide_nodes import end_lease
from pydrm.core.decision import Decision, refused
from pydrm.core.draft import Draft
from pydrm.core.handoff import Event
from pydrm.core.ledger_commands import Publish
from pydrm.core.records import NodeState, Phase
from pydrm.engine import applier, handshake, members
from pydrm.errors import Unavailable
from pydrm.handlers.webhook.courier import Courier
from pydrm.sources import comparison
from pydrm.sources.comparison import compare
from pydrm.sources.entries import Entries
from pydrm.sources.fetching import FetchFailed
from pydrm.sources.holding import Holding
from pydrm.testing.simulation.listing import SimListing

__all__ = ["PLANTS", "Plant", "empty_voter_counts", "expire_waits_in_a_queue", "request_ids_begin_again"]

Plant = Callable[[pytest.MonkeyPatch], None]


def lease_from_the_time_of_apply(patch: pytest.MonkeyPatch) -> None:
    """The holder counts its lease from when it saw the renewal applied, not from when it made it."""
    applied = Warden.applied

    def late(self, request, outcome, now):
        if isinstance(request.command, Renew) and request.command.count in self._keeper._renewals:
            self._keeper._renewals[request.command.count].recorded = now
        applied(self, request, outcome, now)

    patch.setattr(Warden, "applied", late)


def lease_from_the_time_of_the_retry(patch: pytest.MonkeyPatch) -> None:
    """A renewal that is not applied yet is sent again under its count, and the time is recorded anew."""
    due = LeaseKeeper.due

    def again(self, now, state, **circumstances):
        command = due(self, now, state, **circumstances)
        if not isinstance(command, Renew) or command.count - 1 not in self._renewals:
            return command
        self._renewals[command.count - 1].recorded = now
        del self._renewals[command.count]
        self._count -= 1
        return replace(command, count=command.count - 1)

    patch.setattr(LeaseKeeper, "due", again)


def expire_without_compare(patch: pytest.MonkeyPatch) -> None:
    """An Expire ends the lease even if a newer renewal came first in the log."""

    def decide_expire(state, command):
        node = state.nodes.get(command.node)
        if node is None or node.incarnation != command.incarnation or node.state is NodeState.LEFT:
            return refused(Reason.STALE)
        return Decision(Done(), end_lease(node))

    patch.setitem(machine._DECIDERS, Expire, decide_expire)
    expire_waits_in_a_queue(patch)


def expire_waits_in_a_queue(patch: pytest.MonkeyPatch) -> None:
    """Harmless by itself: between the proposal of an Expire and its place in the log there is half a second."""
    due = LeaseWatch.due

    def late(self, now, leads_since):
        waiting = self.__dict__.setdefault("waiting", [])
        waiting += [(now + 0.5, expire) for expire in due(self, now, leads_since)]
        ready = [expire for at, expire in waiting if at <= now]
        waiting[:] = [(at, expire) for at, expire in waiting if at > now]
        return ready

    patch.setattr(LeaseWatch, "due", late)


def release_is_cancelled(patch: pytest.MonkeyPatch) -> None:
    """
    An update of what is being released gives it back to its holder, under the same token.

    As long as a release is believed in every phase that does no harm; so that is taken out as well.
    """

    def keep(assignment, given):
        holder = replace(assignment.holder, revision=given.revision)
        return replace(assignment, phase=Phase.HELD, holder=holder, target=None)

    patch.setitem(handoff.TABLE, (Phase.RELEASING, Event.UPDATED), keep)
    patch.setitem(handoff.TABLE, (Phase.HELD, Event.RELEASED), handoff.IGNORED)


def token_counter_restarts(patch: pytest.MonkeyPatch) -> None:
    """When a lease is expired, tokens begin at 1 again."""
    apply = machine.apply

    def forgetful(state, request):
        outcome = apply(state, request)
        if isinstance(request.command, Expire):
            state.next_number = 1
        return outcome

    patch.setattr(applier, "apply", forgetful)


def holder_goes_on_after_the_lease(patch: pytest.MonkeyPatch) -> None:
    """A node whose lease is over does not cut anything."""
    patch.setattr(Warden, "_cut", lambda self, reason: None)
    patch.setattr(Warden, "_see_that_all_is_cut", lambda self, now: None)


def handle_is_noted_once_it_is_open(patch: pytest.MonkeyPatch) -> None:
    """What is still connecting when the lease ends is not cut, and opens whenever the third party gets round to it."""
    tokens = Fence.tokens

    def open_ones(self):
        return [token for token in tokens(self) if any(getattr(sock, "open", False) for sock in self._handles[token])]

    def shut_open_ones(self):
        for token in open_ones(self):
            for sock in list(self._handles[token]):
                sock.shutdown(2)

    patch.setattr(Fence, "tokens", open_ones)
    patch.setattr(Fence, "shut_sockets", shut_open_ones)


def requests_are_not_deduplicated(patch: pytest.MonkeyPatch) -> None:
    """A request that was sent again, and came twice into the log, is applied twice."""
    patch.setattr(machine, "_already_answered", lambda state, request: None)


def request_ids_begin_again(patch: pytest.MonkeyPatch) -> None:
    """S7: an id is the node's name and a number, which begins at 1 in each process."""

    def already_answered(state, request):
        if request is None:
            return None
        if request.sequence < state.sessions.floor((request.node, 0)):
            return Refused(Reason.FORGOTTEN)
        return state.sessions.answer((request.node, 0), request.sequence)

    def remember(state, request, answer):
        if request is None:
            return []
        changes = [Answered(request.node, 0, request.sequence, answer)]
        if request.floor > state.sessions.floor((request.node, 0)):
            changes.append(FloorRaised(request.node, 0, request.floor))
        return changes

    patch.setattr(machine, "_already_answered", already_answered)
    patch.setattr(machine, "_remember", remember)


def empty_voter_counts(patch: pytest.MonkeyPatch) -> None:
    """A voter that has lost its disk is taken for the one that it was."""
    patch.setattr("pydrm.engine.transport.objection", lambda *_: "")

    def forget_the_replica_id(mine, heard):
        formed = [hello for hello in heard.values() if hello.cluster_id]
        if formed:
            return handshake.Formation(formed[0].cluster_id, dict(formed[0].members))
        return handshake.formation(mine, heard)

    patch.setattr(members, "formation", forget_the_replica_id)
    patch.setattr(members.Members, "voting", property(lambda it: list(it.voters)))


def open_claims_are_tried_again(patch: pytest.MonkeyPatch) -> None:
    """Whatever its mode, what a former holder may have sent is sent again."""
    claim_one = decide_ledger._claim_one

    def again(state, draft, node, incarnation, claim):
        delivery = draft.delivery((claim.resource, claim.event))
        if delivery is not None and delivery.once:
            draft._deliveries[delivery.key] = replace(delivery, once=False)
        claim_one(state, draft, node, incarnation, replace(claim, once=False))

    patch.setattr(decide_ledger, "_claim_one", again)


def request_before_its_claim_is_committed(patch: pytest.MonkeyPatch) -> None:
    """The request leaves while the claim is still on its way into the log."""
    claim = Desk.claim

    async def unheard(self, event, attempt, *, once):
        said = asyncio.ensure_future(claim(self, event, attempt, once=once))
        said.add_done_callback(lambda done: done.cancelled() or done.exception())
        return True

    patch.setattr(Desk, "claim", unheard)


def what_fails_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A result takes the delivery away, whatever it says."""
    patch.setattr(decide_ledger, "_settle_one", lambda draft, delivery, _: draft.drop(delivery.key))


def published_ids_are_not_remembered(patch: pytest.MonkeyPatch) -> None:
    """Whoever publishes an id again publishes another event."""
    decide = decide_ledger.decide_publish
    patch.setitem(machine._DECIDERS, Publish, lambda state, command: decide(state, replace(command, known=False)))


def what_waits_is_overtaken(patch: pytest.MonkeyPatch) -> None:
    """Of an ordered webhook's events the next one is sent while one before it waits for its next try."""
    following = Courier._next

    def passing_over(self):
        found = following(self)
        if found is None or not self._subscription.ordered or found[0] <= self._clock.now():
            return found
        ready = sorted(event for event, at in self._at.items() if at <= self._clock.now())
        if not ready or self._held_back_until > self._clock.now():
            return found
        # To the top of the heap, where the caller takes it from.
        self._queue.insert(0, (float(ready[0]), ready[0]))
        return self._clock.now(), ready[0]

    patch.setattr(Courier, "_next", passing_over)


def ordered_ones_are_sent_together(patch: pytest.MonkeyPatch) -> None:
    """Several events of an ordered webhook are under way at once."""
    patch.setattr(Courier, "_most", property(lambda self: 1 if self._failing_since is not None else 16))


def former_holder_of_a_source_writes(patch: pytest.MonkeyPatch) -> None:
    """
    Whatever comes in the name of a source is done, whoever holds it by now.

    A former holder looks at its hold before, and its requests are those of an incarnation that has ended; so that is
    taken out as well.
    """

    def anybody(state, source):
        return source.resource if source is not None else ""

    def of_any_incarnation(state, request):
        if request is None:
            return None
        return state.sessions.answer((request.node, request.incarnation), request.sequence)

    async def whatever_the_hold(self, command):
        answer = await self._cluster.propose(command, timeout=10.0)
        if not isinstance(answer, Done):
            raise Unavailable(answer.detail)
        return answer

    patch.setattr(decide_resources, "_owner", anybody)
    patch.setattr(machine, "_already_answered", of_any_incarnation)
    patch.setattr(Holding, "_propose", whatever_the_hold)


def list_that_shrinks_is_believed(patch: pytest.MonkeyPatch) -> None:
    """However much of it is missing."""
    patch.setattr("pydrm.sources.holding.compare", _credulous)


def _credulous(source, entries, options, state):
    return compare(source, entries, evolve(options, max_shrink=1.0, allow_empty=True), state)


def list_that_cannot_be_had_is_empty(patch: pytest.MonkeyPatch) -> None:
    """As with a client that gives [] for whatever goes wrong; nobody wonders at an empty list."""
    patch.setattr("pydrm.sources.holding.compare", _credulous)
    patch.setattr(SimListing, "_told", lambda self: [{"id": id, "version": since} for id, since in self.now().items()])
    ask = SimListing.ask

    async def never_failing(self, known):
        try:
            return await ask(self, known)
        except FetchFailed:
            return self.served, []

    patch.setattr(SimListing, "ask", never_failing)


def source_takes_what_the_app_added(patch: pytest.MonkeyPatch) -> None:
    """An entry of the list is put in place of what is there under its id, whoever owns that."""
    patch.setattr(decide_resources, "_is_foreign", lambda state, id, owner: False)
    patch.setattr(comparison, "_kept", lambda state, id: None)


def unusable_entry_counts_as_missing(patch: pytest.MonkeyPatch) -> None:
    """What is held under the id of an entry that cannot be used is removed."""
    reject = Entries._reject

    def forgetting(self, id, why):
        reject(self, id, why)
        self.spared.pop(id)

    patch.setattr(Entries, "_reject", forgetting)


def what_is_gone_from_the_list_stays(patch: pytest.MonkeyPatch) -> None:
    """A source removes nothing."""

    async def nothing(self, ids):
        return []

    patch.setattr(Holding, "_remove", nothing)


def unchanged_list_is_taken_for_done(patch: pytest.MonkeyPatch) -> None:
    """It is asked for on the condition that it changed, although what came of it is not there any more."""
    patch.setattr(Holding, "_trusted", lambda self: self._known.get("validators") or {})


def checkpoint_goes_with_its_holder(patch: pytest.MonkeyPatch) -> None:
    """What a holder saved is forgotten when it lets go or dies."""
    evolve = machine.evolve

    def forgetful(state, change):
        evolve(state, change)
        if isinstance(change, AssignmentChanged) and change.assignment.holder is None:
            state.checkpoints.drop(change.assignment.key)

    patch.setattr(machine, "evolve", forgetful)


def checkpoint_is_acknowledged_too_early(patch: pytest.MonkeyPatch) -> None:
    """A handler is told that its position is saved when that is only on its way."""
    note = Checkpoints.note

    def hasty(self, key, token, value, patience_s, waiter, *, parting):
        note(self, key, token, value, patience_s, parting=parting)
        if waiter is not None:
            waiter.set_result(None)

    patch.setattr(Checkpoints, "note", hasty)


def watermark_dies_with_its_node(patch: pytest.MonkeyPatch) -> None:
    """Who is given what a dead node held, hears nothing of how far that may have acted."""
    patch.setattr(Draft, "left_silently", lambda self, key, claim: None)


def watermark_is_acknowledged_too_early(patch: pytest.MonkeyPatch) -> None:
    """A handler acts when the log is only about to say that it may."""
    raise_to = RisingWatermark.raise_to

    def hasty(self, until_s, patience_s):
        raise_to(self, until_s, patience_s)
        waiter = asyncio.get_running_loop().create_future()
        waiter.set_result(None)
        return waiter

    patch.setattr(RisingWatermark, "raise_to", hasty)


PLANTS: tuple[Plant, ...] = (
    lease_from_the_time_of_apply,
    lease_from_the_time_of_the_retry,
    expire_without_compare,
    release_is_cancelled,
    token_counter_restarts,
    holder_goes_on_after_the_lease,
    handle_is_noted_once_it_is_open,
    requests_are_not_deduplicated,
    request_ids_begin_again,
    empty_voter_counts,
    open_claims_are_tried_again,
    request_before_its_claim_is_committed,
    what_fails_is_forgotten,
    published_ids_are_not_remembered,
    what_waits_is_overtaken,
    ordered_ones_are_sent_together,
    former_holder_of_a_source_writes,
    list_that_shrinks_is_believed,
    list_that_cannot_be_had_is_empty,
    source_takes_what_the_app_added,
    unusable_entry_counts_as_missing,
    what_is_gone_from_the_list_stays,
    unchanged_list_is_taken_for_done,
    checkpoint_goes_with_its_holder,
    checkpoint_is_acknowledged_too_early,
    watermark_dies_with_its_node,
    watermark_is_acknowledged_too_early,
)
