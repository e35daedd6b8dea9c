"""
Planted faults: each breaks one rule of pydrm, and the simulator must find that it is broken.

They are what shows that a run without violations means something.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from pydrm.agent.lease import LeaseKeeper
from pydrm.agent.warden import Warden
from pydrm.agent.watch import LeaseWatch
from pydrm.core import handoff, machine
from pydrm.core.commands import Done, Expire, Reason, Renew
from pydrm.core.decide_nodes import end_lease
from pydrm.core.decision import Decision, refused
from pydrm.core.handoff import Event
from pydrm.core.records import NodeState, Phase
from pydrm.engine import replica

__all__ = ["PLANTS", "Plant"]

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

    patch.setattr(replica, "apply", forgetful)


def holder_goes_on_after_the_lease(patch: pytest.MonkeyPatch) -> None:
    """A node whose lease is over does not cut anything."""
    patch.setattr(Warden, "_cut", lambda self, reason: None)
    patch.setattr(Warden, "_see_that_all_is_cut", lambda self, now: None)


PLANTS: tuple[Plant, ...] = (
    lease_from_the_time_of_apply,
    lease_from_the_time_of_the_retry,
    expire_without_compare,
    release_is_cancelled,
    token_counter_restarts,
    holder_goes_on_after_the_lease,
)
