"""
`Agent`: makes what this node holds agree with what the state says it should hold.

All of it runs on the app's loop. It is told which assignments to look at again and reads what they are from
the state; `reconcile` says what to do; here it is done, paced. Nothing here decides who holds what.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Coroutine, Iterable
from itertools import islice
from typing import Any, TypeVar

from pydrm.agent.backoff import Backoff
from pydrm.agent.budgets import Budgets
from pydrm.agent.checkpoints import Checkpoints
from pydrm.agent.cluster import Cluster
from pydrm.agent.fence import Fence
from pydrm.agent.handle import CUT_TIMEOUT_S, Handle
from pydrm.agent.hold import Hold, LedgerAccess
from pydrm.agent.kind import Kinds
from pydrm.agent.lease import Lease
from pydrm.agent.readable import Guarded, Readable
from pydrm.agent.reconcile import Deed, Stage, Wish, reconcile, wishes
from pydrm.agent.reporter import Reporter
from pydrm.agent.shares import Shares
from pydrm.agent.turns import Turns
from pydrm.clock import Clock, Random
from pydrm.core import handle_commands
from pydrm.core.handle_commands import Failure, HandleReport
from pydrm.core.records import Assignment, AssignmentKey, Condition, Incarnation, Phase
from pydrm.core.resource import Resource
from pydrm.engine.codec import resource_of

__all__ = ["Agent"]

T = TypeVar("T")

logger = logging.getLogger(__name__)

LOOK_BATCH = 200
CLOSE_BATCH = 200
POLL_S = 0.005


class Agent:
    """
    Args:
        close_timeout_s: How long a handler may take to close politely before it is cut off.
        open_concurrency: How many first tries to open may be under way.
        close_concurrency: How many polite closes may be under way.
        handoff_window: How many resources may be between this node and their next holder.
        give_up_after: How many failures in a row make this node ask that another one tries; 0: never. A resource's
            field of that name goes before it.
        quarantine_s: How long what no node could open is left alone.
        checkpoint_interval_s: How often one resource's checkpoint may be saved.
        ledger: What holds have of it; without one, nothing is published or delivered.
        shares: Kept by the engine's thread.
        readable: What definitions may have this node read.
    """

    def __init__(
        self,
        node: str,
        cluster: Cluster,
        lease: Lease,
        fence: Fence,
        kinds: Kinds,
        *,
        clock: Clock,
        random: Random,
        close_timeout_s: float = 2.0,
        open_concurrency: int = 64,
        close_concurrency: int = 16,
        handoff_window: int = 16,
        give_up_after: int = 10,
        quarantine_s: float = 60.0,
        checkpoint_interval_s: float = 1.0,
        ledger: LedgerAccess | None = None,
        shares: Shares | None = None,
        readable: Readable | None = None,
    ) -> None:
        self._node = node
        self._cluster = cluster
        self._lease = lease
        self._fence = fence
        self._kinds = kinds
        self._clock = clock
        self._random = random
        self._close_timeout_s = close_timeout_s
        self._give_up_after = give_up_after
        self._ledger = ledger
        self._readable = readable or Readable()

        self._incarnation = 0
        self._may_open = False
        self._closed = False
        self._dirty: dict[AssignmentKey, None] = {}
        self._woken = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None

        self._handles: dict[AssignmentKey, dict[int, Handle]] = {}
        self._handle_of: dict[asyncio.Task[None], Handle] = {}
        # One of each, for all: what is made for each handle is looked at by each full run of Python's collector.
        self._on_told, self._on_gave_up, self._on_gone = self._told, self._gave_up, self._gone
        self._context = contextvars.copy_context()
        self._let_go: dict[AssignmentKey, set[int]] = {}
        self._turns = Turns(
            open_concurrency=open_concurrency, close_concurrency=close_concurrency, handoff_window=handoff_window
        )
        self._reporter = Reporter(
            node,
            cluster,
            let_go=lambda handle: handle.token in self._let_go.get((handle.resource, handle.slot), ()),
            said=self.changed,
            clock=clock,
            random=random,
            quarantine_s=quarantine_s,
        )
        self._checkpoints = Checkpoints(
            node,
            lambda: self._incarnation,
            cluster,
            lambda: cluster.state,
            clock=clock,
            backoff=Backoff(random, base_s=0.05, cap_s=1.0),
            interval_s=checkpoint_interval_s,
        )
        self._budgets = Budgets(
            node,
            lambda: self._incarnation,
            cluster,
            shares or Shares(node),
            clock=clock,
            random=random,
            parts=self._parts_with_slot,
            goes_on=self._opens_again,
        )

    # --- what the warden calls ---------------------------------------------------------------------------------------

    def changed(self, keys: Iterable[AssignmentKey]) -> None:
        """Look at these again. A hint: what they are now is read from the state."""
        self._dirty.update(dict.fromkeys(keys))
        self._woken.set()

    def joined(self, incarnation: int) -> None:
        """This node is *incarnation* now; what it had as an older one is lost already: cut it, and release nothing."""
        self._incarnation = incarnation
        self._cut_all()
        self._let_go.clear()
        self._reporter.joined(incarnation)
        self._checkpoints.clear()
        if self._ledger is not None:
            self._ledger.deliveries.clear()
        self._budgets.clear()
        self._turns.joined()
        self._may_open = not self._closed
        self._look_at_all()

    def fenced(self, reason: str) -> None:
        """The lease is over: cut everything now. What is gone is told to the Fence, as it goes."""
        self._may_open = False
        if self._handles:
            logger.warning(
                "fenced: %s; %d resources are cut off", reason, self.handle_count, extra={"node": self._node}
            )
        self._cut_all()

    def unfenced(self) -> None:
        """The same incarnation has a lease again: open what is still ours."""
        self._may_open = not self._closed
        self._look_at_all()

    def budgeted(self, groups: Iterable[str]) -> None:
        """These groups' budgets are other ones."""
        for group in groups:
            self._budgets.changed(group)

    # --- what the manager calls --------------------------------------------------------------------------------------

    @property
    def incarnation(self) -> int:
        """The incarnation it works for; 0 before the first `joined`."""
        return self._incarnation

    @property
    def handle_count(self) -> int:
        return sum(len(handles) for handles in self._handles.values())

    def holds(self, resource: str) -> bool:
        """Whether this node has a handle for *resource*, open or being opened, under a lease valid at this instant."""
        return any(handle.valid for handle in self._handles.get((resource, 0), {}).values())

    def handle(self, resource: str, token: int) -> Handle | None:
        """What this node has for *resource* under *token*, if that is under a lease valid at this instant."""
        handle = self._handles.get((resource, 0), {}).get(token)
        return handle if handle is not None and handle.valid else None

    def spawn(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T] | None:
        """Have *work*, which must not raise, done until `run` ends; None if there is nobody to do it."""
        if self._tasks is None or self._closed:
            work.close()
            return None
        return self._tasks.create_task(work, name=name)

    async def run(self) -> None:
        """Work until cancelled; owns every handler's task."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            tasks.create_task(self._reporter.run(), name="pydrm reports")
            tasks.create_task(self._checkpoints.run(), name="pydrm checkpoints")
            tasks.create_task(self._checkpoints.rising.run(), name="pydrm watermark")
            if self._ledger is not None:
                tasks.create_task(self._ledger.deliveries.run(), name="pydrm deliveries")
            tasks.create_task(self._budgets.run(), name="pydrm budgets")
            while True:
                await self._wait_for_work()
                for key in list(islice(self._dirty, LOOK_BATCH)):
                    del self._dirty[key]
                    self._look(key)
                self._take_turns(self._clock.now())

    async def close(self) -> int:
        """
        Open nothing more and close what is left, all at once; returns how many handles would not go.

        Takes no longer than the close timeout and a little more. Those that are left stay with the Fence.
        """
        self._closed = True
        self._may_open = False
        handles = [handle for handles in self._handles.values() for handle in handles.values()]
        for first in range(0, len(handles), CLOSE_BATCH):
            for handle in handles[first : first + CLOSE_BATCH]:
                self._end(handle)
            # The loop goes round between them. So what was begun ends, and does not wait for tens of thousands of
            # others to begin; and the engine, which lets the lease end if this loop does not answer, has its answer.
            await asyncio.sleep(0)
        deadline = self._clock.now() + self._close_timeout_s + 2 * CUT_TIMEOUT_S
        while self._handles and self._clock.now() < deadline:
            await self._clock.sleep(POLL_S)
        if self._lease.valid(self._clock.now()):
            await self._checkpoints.flush()
        return self.handle_count

    # --- one assignment ----------------------------------------------------------------------------------------------

    def _look(self, key: AssignmentKey) -> None:
        """Bring one assignment up to date, as far as that can be done now; the rest is queued."""
        handles = self._handles.get(key, {})
        had = {token: handle.stage for token, handle in handles.items()}
        if key in self._let_go:
            had = dict.fromkeys(self._let_go[key], Stage.GONE) | had
        state = self._cluster.state
        assignment = state.assignments.get(key)
        wanted = wishes(assignment, state.records.get(key[0]), (self._node, self._incarnation))
        self._turns.unqueue({*had, *wanted})
        if assignment is not None and any(wish in (Wish.OPEN, Wish.KEEP) for wish in wanted.values()):
            # With what is released it is given back anyway.
            self._budgets.look(assignment)
        for action in reconcile(wanted, had):
            match action.deed:
                case Deed.OPEN:
                    self._turns.wants_open(key, action.token)
                case Deed.CLOSE:
                    assert assignment is not None
                    moves = assignment.phase is Phase.RELEASING and assignment.target is None
                    self._turns.wants_close(key, action.token, moves=moves)
                case Deed.CUT:
                    handles[action.token].cut()
                case Deed.RELEASE:
                    self._let_go.setdefault(key, set()).add(action.token)
                    self._reporter.released(
                        handle_commands.Handle(*key, action.token, *self._checkpoints.last_word(action.token))
                    )
                case Deed.FORGET:
                    self._forget(key, action.token)

    def _forget(self, key: AssignmentKey, token: int) -> None:
        self._checkpoints.forget(token)
        self._let_go[key].discard(token)
        if not self._let_go[key]:
            del self._let_go[key]

    def _look_at_all(self) -> None:
        self.changed([*self._cluster.state.held_by(self._node, self._incarnation), *self._handles])

    # --- in turn -----------------------------------------------------------------------------------------------------

    async def _wait_for_work(self) -> None:
        if self._dirty:
            await asyncio.sleep(0)
            return
        self._woken.clear()
        # Room in a window is not announced by an event of this node's own, so it is looked for.
        blocked = self._may_open and self._turns.wait_for_others
        try:
            async with asyncio.timeout(POLL_S if blocked else None):
                await self._woken.wait()
        except TimeoutError:
            pass

    def _take_turns(self, now: float) -> None:
        self._turns.update(self._cluster.state, now)
        while (turn := self._turns.next_to_close(now)) is not None:
            key, token = turn
            self._end(self._handles[key][token])
        while self._may_open and self._lease.valid(now) and (turn := self._turns.next_to_open()) is not None:
            self._open(*turn, now)

    # --- one handle --------------------------------------------------------------------------------------------------

    def _open(self, key: AssignmentKey, token: int, now: float) -> None:
        assert self._tasks is not None
        state = self._cluster.state
        record = state.records.get(key[0])
        # It has waited in a queue, and the state may have gone on without this loop having heard of it yet.
        assignment = state.assignments.get(key)
        wanted = wishes(assignment, record, (self._node, self._incarnation))
        if record is None or assignment is None or wanted.get(token) is not Wish.OPEN:
            self.changed([key])
            return
        resource = resource_of(record.definition)
        gate = self._budgets.gate(key, token, record.definition.group, resource.get("priority"))
        handle = Handle(
            key,
            token,
            fence=self._fence,
            clock=self._clock,
            backoff=Backoff(self._random),
            checkpoints=self._checkpoints,
            give_up_after=self._patience(assignment, resource),
            told=self._on_told,
            gave_up=self._on_gave_up,
            gate=gate,
        )
        hold = Hold(
            resource,
            token,
            self._node,
            self._incarnation,
            lease=self._lease,
            fence=self._fence,
            clock=self._clock,
            owner=handle,
            ledger=self._ledger,
            budget=gate,
        )
        kind = self._kinds.here(resource.kind, self._node)
        if self._readable.is_limited:
            kind = Guarded(kind, self._readable)
        self._turns.opening(token, now)
        self._handles.setdefault(key, {})[token] = handle
        task = self._tasks.create_task(handle.live(kind, hold), name=f"pydrm {resource.id}")
        handle.owns(task)
        self._handle_of[task] = handle
        task.add_done_callback(self._on_gone, context=self._context)
        # After a fence the cluster may still think of it as open.
        self._reporter.reopened(HandleReport(*key, token, handle.condition))

    def _end(self, handle: Handle) -> None:
        assert self._tasks is not None
        if handle.stage is Stage.LIVE:
            self._turns.closing(handle.token)
            self._tasks.create_task(handle.end(self._close_timeout_s), name=f"pydrm close {handle.key[0]}")

    def _cut_all(self) -> None:
        self._turns.unqueue_all()
        for handles in self._handles.values():
            for handle in handles.values():
                handle.cut()

    def _gone(self, task: asyncio.Task[None]) -> None:
        handle = self._handle_of.pop(task)
        self._budgets.forget(handle.token)
        handles = self._handles[handle.key]
        del handles[handle.token]
        if not handles:
            del self._handles[handle.key]
        self._turns.gone(handle.token)
        self.changed([handle.key])

    def _told(self, handle: Handle) -> None:
        if handle.settled and self._turns.settled(handle.token):
            self._woken.set()
        if handle.stage is Stage.CLOSING:
            self._turns.stuck(handle.token)
            self._woken.set()
        self._reporter.reported(
            HandleReport(
                *handle.key,
                handle.token,
                handle.condition,
                handle.detail,
                next_try_ms=handle.next_try_ms,
                proven=handle.proven,
            )
        )
        if handle.condition is Condition.OPEN and not handle.proven and self._failed(handle.key):
            assert self._tasks is not None
            self._tasks.create_task(handle.prove(), name=f"pydrm prove {handle.key[0]}")

    def _gave_up(self, handle: Handle) -> None:
        self._reporter.gave_up(Failure(*handle.key, handle.token, handle.detail))

    def _parts_with_slot(self, token: int) -> bool:
        """What waits for its budget must not keep others from being opened."""
        self._woken.set()
        return self._turns.settled(token)

    def _opens_again(self, token: int) -> None:
        self._turns.opening(token, self._clock.now())

    def _failed(self, key: AssignmentKey) -> tuple[Incarnation, ...]:
        assignment = self._cluster.state.assignments.get(key)
        return assignment.failed if assignment is not None else ()

    def _patience(self, assignment: Assignment, resource: Resource) -> int:
        """How many failures in a row are enough; 0: never."""
        number = resource.get("give_up_after", self._give_up_after)
        limit = number if isinstance(number, int) else self._give_up_after
        # It was here before, and all others had it since.
        return min(limit, 1) if (self._node, self._incarnation) in assignment.failed else limit
