"""
`Warden`: keeps this node's lease, does what a leader has to, and fences. On the engine's thread.

It decides nothing itself: `lease` and `leading` say what is due, and what has to be told to the agent goes to the
app's loop by the mailbox. Whether that loop still answers is found out in the same way.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Protocol

from pydrm.agent.fence import Fence
from pydrm.agent.leading import Leading
from pydrm.agent.lease import Lease, LeaseKeeper, Step, margin_s
from pydrm.agent.ledger_watch import LedgerWatch
from pydrm.agent.shares import Shares
from pydrm.clock import Clock
from pydrm.core.changes import (
    Answered,
    AssignmentChanged,
    AssignmentDropped,
    BudgetChanged,
    BudgetDropped,
    Cause,
    FloorRaised,
    LeaseEnded,
)
from pydrm.core.commands import Join, Renew, Request
from pydrm.core.events import Delivery
from pydrm.core.machine import Outcome
from pydrm.core.records import Assignment, AssignmentKey, Role
from pydrm.engine import Footing, Mailbox, Membership, Port
from pydrm.errors import DrmError

__all__ = ["EXIT_UNFENCED", "Listener", "Warden"]

_log = logging.getLogger(__name__)

EXIT_UNFENCED = 70  # EX_SOFTWARE, sysexits.h

_ASK_APP_S = 0.5


class Listener(Protocol):
    """What is told on the app's loop."""

    def changed(self, keys: Sequence[AssignmentKey]) -> None:
        """Look at these assignments again."""

    def told(self, news: Sequence[Delivery]) -> None:
        """These deliveries of subscriptions that are watched have become due, or wait until they are."""

    def joined(self, incarnation: int) -> None:
        """This node has a new incarnation; nothing of an older one may be left."""

    def fenced(self, reason: str) -> None:
        """The lease is over: cut everything."""

    def unfenced(self) -> None:
        """The lease goes on: what is still this node's may be opened again."""

    def budgeted(self, groups: Sequence[str]) -> None:
        """These groups' budgets are other ones."""


class Warden:
    """The engine's participant."""

    def __init__(
        self,
        node: str,
        lease: Lease,
        fence: Fence,
        *,
        lease_ttl_s: float,
        stall_timeout_s: float,
        on_unfenced: str,
        address: str,
        role: Role,
        app: Mailbox,
        listener: Listener,
        on_failure: Callable[[DrmError], None],
        clock: Clock,
        new_nonce: Callable[[], str],
        exit: Callable[[int], None] = os._exit,
        ledger: LedgerWatch | None = None,
        shares: Shares | None = None,
    ) -> None:
        """
        Args:
            on_unfenced: "exit" ends the process if a handle cannot be cut in time; "token" goes on and relies on
                the third party to refuse old tokens.
            on_failure: Called on the app's loop if this node cannot go on, such as when it is superseded.
        """
        self._node = node
        self._lease = lease
        self._fence = fence
        self._stall_timeout_s = stall_timeout_s
        self._on_unfenced = on_unfenced
        self._app = app
        self._listener = listener
        self._on_failure = on_failure
        self._clock = clock
        self._exit = exit
        self._keeper = LeaseKeeper(lease, node, lease_ttl_s, address=address, new_nonce=new_nonce, role=role)
        self._ledger = ledger or LedgerWatch()
        self._leading = Leading(node, round(lease_ttl_s * 1000), self._ledger)
        self._shares = shares or Shares(node)
        self._mine: set[AssignmentKey] = set()
        self._changed: dict[AssignmentKey, None] = {}
        self._budgeted: dict[str, None] = {}
        self._answered_at = clock.now()
        self._asked_at: float | None = None
        self._unfenced_said = False
        # What was cut and is not known to be gone, and since when; a new incarnation changes nothing about these.
        self._doomed: dict[int, float] = {}

    @property
    def waits_for(self) -> str:
        """What keeps this node from joining, in words; "" if nothing that it knows of. From any thread."""
        return self._keeper.waits_for

    def resign(self) -> None:
        """Stop renewing; the lease ends by a Resign or by itself. From any thread."""
        self._keeper.resign()

    # The engine's side: Participant.

    def formed(self, port: Port, membership: Membership) -> None:
        self._port = port
        self._membership = membership
        self._keeper.directory = membership.directory

    def applied(self, request: Request, outcome: Outcome, now: float) -> None:
        # Before its changes: whoever replaces this process must be seen while its incarnation is still this one's.
        if isinstance(request.command, Join):
            self._act(self._keeper.applied_join(request.command, outcome.answer, now))
        for change in outcome.changes:
            # These are by far the most frequent; what was answered, the engine tells.
            if isinstance(change, AssignmentChanged):
                # What a node said of its handle changes nothing that anybody has to do.
                if change.cause is not Cause.REPORTED:
                    self._note_assignment(change.assignment)
            elif isinstance(change, (Answered, FloorRaised)):
                continue
            elif isinstance(change, AssignmentDropped):
                self._note_dropped((change.resource, change.slot))
            else:
                self._leading.note(change, now)
                if isinstance(change, LeaseEnded):
                    self._act(self._keeper.lease_ended(change.node.name, change.node.incarnation, now))
                elif isinstance(change, (BudgetChanged, BudgetDropped)):
                    self._note_budget(change, now)
        if self._port.state.index.touched:
            self._shares.update(self._port.state, now)
        self._leading.applied(request, outcome)
        if isinstance(request.command, Renew):
            self._act(self._keeper.applied_renew(request.command, outcome.answer))

    def restored(self, now: float) -> None:
        state = self._port.state
        self._leading.restored(state, now)
        # Also those that have none any more.
        self._budgeted.update(dict.fromkeys([*self._shares.groups(), *state.budgets]))
        self._shares.restored(state, now)
        for step in self._keeper.restored(state.nodes.get(self._node), now):
            self._act(step)
        mine = set(state.held_by(self._node, self._lease.incarnation))
        self._changed.update(dict.fromkeys(sorted(self._mine | mine)))
        self._mine = mine

    def tick(self, now: float, footing: Footing) -> None:
        if self._keeper.over(now):
            self._cut("the lease ran out")
        self._see_that_all_is_cut(now)
        self._ask_app(now)
        app_answers = now - self._answered_at <= self._stall_timeout_s
        due = self._keeper.due(now, self._port.state, up_to_date_at=footing.up_to_date_at, app_answers=app_answers)
        if due is not None:
            self._port.submit(due)
        for command in self._leading.due(now, footing, self._port.state, self._membership):
            self._port.submit(command)
        if self._changed:
            self._app.post(self._listener.changed, list(self._changed))
            self._changed.clear()
        if self._budgeted:
            self._app.post(self._listener.budgeted, list(self._budgeted))
            self._budgeted.clear()
        if news := self._ledger.news():
            self._app.post(self._listener.told, news)

    def next_at(self, now: float) -> float:
        # While it is cut what there is, or not joined, more follows from what announces nothing.
        if self._doomed or self._lease.incarnation == 0:
            return now
        return min(self._keeper.next_at, self._leading.next_at)

    async def stopped(self) -> None:
        # Before it is looked what is left: whoever opens now has told the fence, or sees that the lease is over. The
        # data directory's lock goes next, and with it the right to hold anything.
        self._lease.deadline = float("-inf")
        if not self._fence.tokens():
            return
        self._cut("the node stops")
        limit = self._clock.now() + margin_s(self._keeper.ttl_s) / 2
        while self._fence.tokens() and self._clock.now() < limit:
            await self._clock.sleep(0.01)
        self._exit_if_uncut()

    # What follows from what was applied.

    def _act(self, step: Step) -> None:
        match step:
            case Step.JOINED:
                incarnation = self._lease.incarnation
                _log.info("joined as incarnation %d", incarnation, extra={"node": self._node})
                self._mine = set(self._port.state.held_by(self._node, incarnation))
                self._port.speak_as((self._node, incarnation))
                self._app.post(self._listener.joined, incarnation)
            case Step.RESTORED:
                _log.info("the lease goes on", extra={"node": self._node})
                self._doomed.clear()
                self._app.post(self._listener.unfenced)
            case Step.ENDED:
                self._cut("the lease was ended by the cluster")
            case Step.FAILED:
                self._cut("this node cannot go on")
                assert self._keeper.failure is not None
                self._app.post(self._on_failure, self._keeper.failure)
            case Step.RENEWED | Step.NOTHING:
                pass

    def _note_assignment(self, assignment: Assignment) -> None:
        key = assignment.key
        for claim in assignment.claims():
            if claim.node == self._node and claim.incarnation == self._lease.incarnation:
                self._mine.add(key)
                self._changed[key] = None
                return
        self._note_dropped(key)

    def _note_budget(self, change: BudgetChanged | BudgetDropped, now: float) -> None:
        self._shares.note(self._port.state, change, now)
        self._budgeted[change.budget.group if isinstance(change, BudgetChanged) else change.group] = None

    def _note_dropped(self, key: AssignmentKey) -> None:
        if key in self._mine:
            self._mine.discard(key)
            self._changed[key] = None

    # Fencing.

    def _cut(self, reason: str) -> None:
        if self._fence.tokens():
            _log.warning("fenced: %s; cutting all %d handles", reason, len(self._fence.tokens()))
        self._unfenced_said = False
        now = self._clock.now()
        for token in self._fence.tokens():
            self._doomed.setdefault(token, now)
        self._fence.shut_sockets()
        self._app.post(self._listener.fenced, reason)

    def _see_that_all_is_cut(self, now: float) -> None:
        if not self._doomed:
            return
        left = set(self._fence.tokens())
        self._doomed = {token: since for token, since in self._doomed.items() if token in left}
        if any(now - since > margin_s(self._keeper.ttl_s) / 2 for since in self._doomed.values()):
            self._exit_if_uncut()

    def _exit_if_uncut(self) -> None:
        left = [token for token in self._fence.tokens() if token in self._doomed]
        if not left or self._unfenced_said:
            return
        self._unfenced_said = True
        tokens = ", ".join(map(str, left[:10]))
        if self._on_unfenced == "exit":
            why = f"{len(left)} handles could not be cut in time (tokens {tokens}): this process exits"
            _log.critical(why)
            # An app that has not set up logging would be gone without a word.
            sys.stderr.write(f"pydrm: {why} with {EXIT_UNFENCED}; see docs/limits.md\n")
            logging.shutdown()
            self._exit(EXIT_UNFENCED)
        _log.error("%d handles could not be cut in time (tokens %s): their tokens must fence them", len(left), tokens)

    # The app's health.

    def _ask_app(self, now: float) -> None:
        if self._asked_at is None and now - self._answered_at >= _ASK_APP_S:
            self._asked_at = now
            self._app.post(self._app_answers)

    def _app_answers(self) -> None:
        """Runs on the app's loop."""
        self._answered_at = self._clock.now()
        self._asked_at = None
