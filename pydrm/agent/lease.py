"""
The lease rule: when this node may hold anything at all. Sans I/O; its caller is the engine's thread.

A node holds resources only under a lease, and others take them over only when that lease is over. No two
clocks are ever compared. What is compared are durations on two clocks whose rates differ by less than 1 %:

    the holder      records the time, then sends Renew(count)            r
                    sees that renewal applied; its lease runs until      r + ttl - margin
    every voter     applies that renewal, at some time a >= r            a
                    proposes Expire(count) not before                    a + ttl

    So whoever expires the lease does so later than the holder, by its own clock, stopped: a >= r because nothing
    is applied before it was sent, and the margin is larger than 1 % of ttl. And Expire names the count, so
    if a newer renewal came first in the log, it does nothing: the log's order decides, and no clock does.

    Rule 1.  The time is recorded before any queue, by the thread that makes the renewal. A renewal is never sent
             again: each try has a count and a time of its own, and so the time recorded is that of its first
             record. A Join is renewal 0 under the same rule; each try has a nonce of its own.
    Rule 2.  Only the well renew. A node that does not hear the leader, or has not applied what it heard of, or
             whose app does not answer, could not learn that it lost something; so it must let its lease end.
    Rule 3.  Validity is read at the point of use, as now < deadline. It is never a flag that somebody would
             have to clear in time.
    Rule 4.  A lease that ended is fenced: everything under it is cut. It goes on only by a renewal that was
             recorded after the fence. An incarnation that was expired is over for ever; the node joins anew.

This follows Gray and Cheriton, "Leases: An Efficient Fault-Tolerant Mechanism for Distributed File Cache
Consistency" (SOSP 1989), with the grant timed on the holder's side from the request.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable

import attrs

from pydrm.core.answers import Done, Reason, Refused
from pydrm.core.commands import Command, Join, Renew
from pydrm.core.protocol import PROTOCOL
from pydrm.core.records import Node, Role
from pydrm.core.state import State
from pydrm.errors import ClusterRefused, ConfigurationError, DrmError, Outdated, Superseded

__all__ = ["Lease", "LeaseKeeper", "Step", "margin_s"]

_RENEWALS_PER_TTL = 5
_JOIN_AGAIN_S = 0.2


def margin_s(ttl_s: float) -> float:
    """
    How long before its lease is over a node stops: for clock rates, and for the time to cut everything.

    At least 0.3 s, which is enough to abort the handles of a node (benchmarks/failover.py measures it).
    """
    return max(0.15 * ttl_s, 0.3)


class Lease:
    """
    Whether this node may hold anything. Written by the engine's thread, read by all.

    Attributes:
        incarnation: 0 while the node has not joined.
        deadline: When the lease is over, in seconds of the node's clock.
    """

    def __init__(self) -> None:
        self.incarnation = 0
        self.deadline = float("-inf")

    def valid(self, now: float) -> bool:
        return now < self.deadline


class Step(enum.Enum):
    """What an applied command meant for this node's lease."""

    NOTHING = "nothing"
    JOINED = "joined"
    RENEWED = "renewed"
    RESTORED = "restored"  # it had been fenced, and goes on
    ENDED = "ended"  # this incarnation is dead; the node may join anew
    FAILED = "failed"  # it cannot go on at all: see `LeaseKeeper.failure`


@attrs.define
class _Renewal:
    recorded: float
    ttl_s: float


class LeaseKeeper:
    """Joins, renews, and says when the lease is over."""

    def __init__(
        self,
        lease: Lease,
        node: str,
        ttl_s: float,
        *,
        address: str,
        new_nonce: Callable[[], str],
        role: Role = Role.VOTER,
    ) -> None:
        """*ttl_s* is what this node's configuration says; the cluster's own counts once it is known."""
        self.failure: DrmError | None = None
        self.waits_for = ""
        self.directory = ""
        self._lease = lease
        self._node = node
        self._ttl_ms = round(ttl_s * 1000)
        self._address = address
        self._role = role
        self._new_nonce = new_nonce
        self._joins: dict[str, float] = {}
        self._join_at = float("-inf")
        self._renewals: dict[int, _Renewal] = {}
        self._renewed_at = float("-inf")
        self._count = 0
        self._fenced_at: float | None = None
        self._resigned = False

    @property
    def ttl_s(self) -> float:
        return self._ttl_ms / 1000

    @property
    def fenced_at(self) -> float | None:
        """When the lease was found to be over; None while it runs."""
        return self._fenced_at

    def resign(self) -> None:
        """Do not join or renew any more."""
        self._resigned = True

    def due(self, now: float, state: State, *, up_to_date_at: float, app_answers: bool) -> Command | None:
        """What to put into the log now. The caller must do so at once, and must not repeat it."""
        if self._resigned or self.failure is not None or state.settings is None:
            return None
        if now - up_to_date_at > self.ttl_s / 2 or not app_answers:
            return None  # rule 2
        if self._lease.incarnation == 0:
            return self._join(now, state)
        if now - self._renewed_at < self.ttl_s / _RENEWALS_PER_TTL:
            return None
        self._count += 1
        self._renewed_at = now
        self._renewals[self._count] = _Renewal(now, self.ttl_s)
        return Renew(self._node, self._lease.incarnation, self._count, self._ttl_ms)

    @property
    def next_at(self) -> float:
        """When the lease is to be renewed, or is over."""
        renewed_at = self._renewed_at + self.ttl_s / _RENEWALS_PER_TTL
        if self._resigned or self.failure is not None:
            renewed_at = math.inf
        return min(renewed_at, self._lease.deadline if self._fenced_at is None else math.inf)

    def over(self, now: float) -> bool:
        """Whether the lease has just ended: true once for each end, and then everything must be cut."""
        if self._lease.incarnation == 0 or self._fenced_at is not None or self._lease.valid(now):
            return False
        self._fenced_at = now
        return True

    def applied_join(self, command: Join, answer: Done | Refused, now: float) -> Step:
        if command.node != self._node:
            return Step.NOTHING
        recorded = self._joins.pop(command.nonce, None)
        if recorded is None:
            # Of a former process of this node, seen while the log is replayed; or of another process now.
            if isinstance(answer, Done) and self._lease.incarnation:
                return self._fail(Superseded(f"another process has joined as {self._node}", reason="superseded"))
            return Step.NOTHING
        if isinstance(answer, Refused):
            return self._join_refused(answer)
        if self._lease.incarnation:
            return Step.NOTHING
        self.waits_for = ""
        self._joins.clear()
        self._renewals.clear()
        self._count = 0
        self._renewed_at = recorded
        self._fenced_at = None
        self._lease.deadline = recorded + self.ttl_s - margin_s(self.ttl_s)
        self._lease.incarnation = answer.number
        return Step.JOINED

    def applied_renew(self, command: Renew, answer: Done | Refused) -> Step:
        if (command.node, command.incarnation) != (self._node, self._lease.incarnation):
            return Step.NOTHING
        renewal = self._renewals.pop(command.count, None)
        for older in [count for count in self._renewals if count < command.count]:
            del self._renewals[older]
        if renewal is None or isinstance(answer, Refused):
            return Step.NOTHING
        if self._fenced_at is not None and renewal.recorded <= self._fenced_at:
            return Step.NOTHING  # rule 4
        self._lease.deadline = renewal.recorded + renewal.ttl_s - margin_s(renewal.ttl_s)
        if self._fenced_at is None:
            return Step.RENEWED
        self._fenced_at = None
        return Step.RESTORED

    def lease_ended(self, node: str, incarnation: int, now: float) -> Step:
        """An incarnation was expired, has resigned or was replaced."""
        if (node, incarnation) != (self._node, self._lease.incarnation):
            return Step.NOTHING
        self._lease.deadline = float("-inf")
        self._lease.incarnation = 0
        self._fenced_at = now
        self._renewals.clear()
        return Step.ENDED

    def restored(self, node: Node | None, now: float) -> list[Step]:
        """The state was read from a snapshot: *node* is what it says of this one, whatever led to that."""
        steps = []
        mine = self._lease.incarnation
        if mine and (node is None or node.incarnation != mine or not node.lives):
            steps.append(self.lease_ended(self._node, mine, now))
        if node is None or not node.lives:
            return steps
        if node.incarnation == mine:
            # The renewals before it need not have been seen one by one: the newest says all.
            steps.append(self.applied_renew(Renew(node.name, mine, node.count, node.ttl_ms), Done()))
        elif node.nonce in self._joins:
            join = Join(node.name, node.nonce, 0, node.ttl_ms)
            steps.append(self.applied_join(join, Done(number=node.incarnation), now))
        elif mine:
            steps.append(self._fail(Superseded(f"another process has joined as {self._node}", reason="superseded")))
        return steps

    def _join(self, now: float, state: State) -> Command | None:
        if now - self._join_at < _JOIN_AGAIN_S:
            return None
        self._join_at = now
        nonce = self._new_nonce()
        self._joins[nonce] = now
        former = state.nodes.get(self._node)
        replaces = former.incarnation if former else 0
        return Join(self._node, nonce, replaces, self._ttl_ms, self.directory, self._address, PROTOCOL, self._role)

    def _join_refused(self, refused: Refused) -> Step:
        match refused.reason:
            case Reason.SETTINGS_DIFFER:
                return self._fail(ConfigurationError(refused.detail, field="lease_ttl"))
            case Reason.STALE | Reason.NOT_FORMED:
                return Step.NOTHING
            case Reason.LEASE_RUNNING:
                self.waits_for = refused.detail
                return Step.NOTHING
            case Reason.TOO_OLD:
                return self._fail(Outdated(f"cannot join: {refused.detail}"))
            case reason:
                return self._fail(ClusterRefused(f"cannot join: {refused.detail}", reason=reason.value))

    def _fail(self, failure: DrmError) -> Step:
        self.failure = failure
        return Step.FAILED
