"""
`Leading`: what a leader does for the whole cluster besides leading. Sans I/O; on the engine's thread.

    It forms the cluster, and ends its recovery.
    It ends what nobody else may: leases that were not renewed, quarantines, holdbacks, hours of sessions; and has old
        ids forgotten. Every node notes when these are due, because any may be the next leader.
    It goes on with placement where a step left off, and raises the protocol when nobody could be left behind.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator

from pydrm.agent.budget_watch import BudgetWatch
from pydrm.agent.ledger_watch import LedgerWatch
from pydrm.agent.quarantine import QuarantineWatch
from pydrm.agent.watch import LeaseWatch
from pydrm.core.answers import Refused
from pydrm.core.changes import BudgetChanged, BudgetDropped, Change, Defined, LeaseEnded, NodeChanged, Undefined
from pydrm.core.commands import Command, EndRecovery, Form, Place, RaiseProtocol, Request
from pydrm.core.ledger_commands import ForgetPublished
from pydrm.core.machine import Outcome
from pydrm.core.placement import unfinished
from pydrm.core.protocol import raisable
from pydrm.core.state import State
from pydrm.engine import Footing, Membership

__all__ = ["Leading"]

_log = logging.getLogger(__name__)

_FORM_AGAIN_S = 0.5
_END_RECOVERY_AGAIN_S = 0.5
_END_RECOVERY_LATER_S = 0.1
_RAISE_AGAIN_S = 0.5
_PLACE_AGAIN_S = 0.5


class Leading:
    """
    Args:
        ledger: Shared with those who deliver.
    """

    def __init__(self, node: str, lease_ttl_ms: int, ledger: LedgerWatch) -> None:
        self._node = node
        self._lease_ttl_ms = lease_ttl_ms
        self._leases = LeaseWatch()
        self._quarantines = QuarantineWatch()
        self._budgets = BudgetWatch()
        self._ledger = ledger
        self._leads = False
        self._form_at = float("-inf")
        self._end_recovery_at = float("-inf")
        self._looked_for_work_at = -1
        self._place_at = float("-inf")  # not before: the last Place is not applied yet, unless it was lost
        self._looked_for_raise_at = (-1, float("-inf"))

    def note(self, change: Change, now: float) -> None:
        """A change was applied at *now*; those of assignments are of no interest."""
        if isinstance(change, (NodeChanged, LeaseEnded)):
            self._leases.note(change, now)
        elif isinstance(change, (Defined, Undefined)):
            self._quarantines.note(change, now)
        elif isinstance(change, (BudgetChanged, BudgetDropped)):
            self._budgets.note(change, now)
        else:
            self._ledger.note(change, now)

    def applied(self, request: Request, outcome: Outcome) -> None:
        """All changes of a request were noted."""
        if isinstance(request.command, Place):
            self._place_at = float("-inf")
        elif isinstance(request.command, ForgetPublished) and isinstance(outcome.answer, Refused):
            self._ledger.forgot(request.command.through)

    def restored(self, state: State, now: float) -> None:
        """The state was read from a snapshot at *now*."""
        self._leases.restored(state.nodes.values(), now)
        self._quarantines.restored(state, now)
        self._budgets.restored(state, now)
        self._ledger.restored(state, now)

    def due(self, now: float, footing: Footing, state: State, membership: Membership) -> Iterator[Command]:
        """What this node, if it leads, is to put into the log now."""
        # Also asked where this node does not lead, because it drops what is too old then.
        forget = self._ledger.due(now, footing.leads_since)
        self._leads = footing.leads_since is not None
        if footing.leads_since is None:
            return
        yield from self._form(now, state, membership)
        yield from self._end_recovery(now, footing.leads_since, state)
        for expire in self._leases.due(now, footing.leads_since):
            _log.info("the lease of %s ended without renewal", expire.node, extra={"node": expire.node})
            yield expire
        yield from self._quarantines.due(now, footing.leads_since)
        yield from self._budgets.due(now, footing.leads_since)
        if forget is not None:
            yield forget
        yield from self._go_on(now, footing, state)
        yield from self._raise(now, footing, state)

    @property
    def next_at(self) -> float:
        """When the next lease would end, or whatever else this node ends if it leads."""
        if not self._leads:
            return math.inf
        return min(self._leases.next_at, self._quarantines.next_at, self._budgets.next_at)

    def _form(self, now: float, state: State, membership: Membership) -> Iterator[Command]:
        if state.settings is None and now - self._form_at >= _FORM_AGAIN_S:
            self._form_at = now
            yield Form(membership.cluster_id, membership.voters, self._lease_ttl_ms)

    def _end_recovery(self, now: float, leads_since: float, state: State) -> Iterator[Command]:
        settings = state.settings
        if settings is None or not settings.recovering:
            return
        # Whatever lease there was in the log that was lost: it is over for whoever had it, by the rule in `lease`.
        wait_s = settings.lease_ttl_ms / 1000 + _END_RECOVERY_LATER_S
        if now - leads_since >= wait_s and now - self._end_recovery_at >= _END_RECOVERY_AGAIN_S:
            self._end_recovery_at = now
            _log.info("recovered as cluster %s; from now on resources are assigned again", settings.cluster_id)
            yield EndRecovery(settings.cluster_id)

    def _go_on(self, now: float, footing: Footing, state: State) -> Iterator[Command]:
        """
        One step of placement after the other, and never two in the log at a time.

        Each takes tens of milliseconds to apply, and a renewal that comes after it waits for that. Were one added
        whenever anything is applied, there would be more and more of them, and after a failover of tens of thousands
        those who take over would lose their leases too; and the log would have no room for anybody's requests.
        """
        if now < self._place_at or footing.applied == self._looked_for_work_at:
            return
        self._looked_for_work_at = footing.applied
        if unfinished(state):
            self._place_at = now + _PLACE_AGAIN_S
            yield Place()

    def _raise(self, now: float, footing: Footing, state: State) -> Iterator[Command]:
        """The one protocol that nobody could be left behind by is put in force: see `core.protocol`."""
        applied, at = self._looked_for_raise_at
        if footing.applied == applied or now - at < _RAISE_AGAIN_S:
            return
        self._looked_for_raise_at = (footing.applied, now)
        to = raisable(state)
        if to is not None:
            _log.info("all nodes can apply protocol %d; raising it", to, extra={"node": self._node})
            yield RaiseProtocol(to)
