"""
`Budgets`: what this node's handlers may do within the budgets of their groups.

    Rule 1.  A resource of a group that nothing limits or holds back waits for nothing.
    Rule 2.  A run of a handler waits until its group is not held back, until it has a permit, where connections or
             sessions are counted, and until this node's share of the rate has room for it (see `budget_line`).
    Rule 3.  A permit is kept over a short wait for the next try: the third party often counts it that long too, and a
             commit takes time. It is given back before a longer one, and for good after the last try, so that others
             can connect meanwhile. And whenever it is seen that there is no handle that could use it, such as when one
             was cut between the grant and the connection.
    Rule 4.  What is open when connections begin to be counted is counted too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from itertools import count

import attrs

from pydrm.agent.allowance import Allowance
from pydrm.agent.backoff import Backoff
from pydrm.agent.budget_line import POLL_S, GroupState, Line, Waiter
from pydrm.agent.cluster import Cluster, ask
from pydrm.agent.holdbacks import Holdbacks
from pydrm.agent.outbox import Outbox
from pydrm.agent.shares import Shares
from pydrm.clock import Clock, Random
from pydrm.core.answers import Done
from pydrm.core.budget_commands import Return, ReturnPermits, Take, TakePermits
from pydrm.core.records import Assignment, AssignmentKey
from pydrm.errors import Unavailable

__all__ = ["PERMIT_KEPT_S", "Budgets", "Gate"]

logger = logging.getLogger(__name__)

# A handle that tries again sooner keeps its permit.
PERMIT_KEPT_S = 1.0


class Budgets:
    """
    Args:
        incarnation: The one that this node works for now.
        parts: Called with a token when it begins to wait; whether it must be told when that is over.
        goes_on: Called then.
    """

    def __init__(
        self,
        node: str,
        incarnation: Callable[[], int],
        cluster: Cluster,
        shares: Shares,
        *,
        clock: Clock,
        random: Random,
        parts: Callable[[int], bool],
        goes_on: Callable[[int], None],
    ) -> None:
        self._node = node
        self._incarnation = incarnation
        self._cluster = cluster
        self._shares = shares
        self._clock = clock
        self._random = random
        self._parts = parts
        self._goes_on = goes_on
        self._numbers = count()
        self._tasks: asyncio.TaskGroup | None = None
        self._lines: dict[str, Line] = {}
        self._requests: dict[str, tuple[asyncio.Lock, Allowance]] = {}
        self._gates: dict[int, Gate] = {}
        self._of_group: dict[str, dict[int, Gate]] = {}
        self._counted: set[str] = set()  # Groups whose connections are counted; what was open by then is, too.
        backoff = partial(Backoff, random, base_s=0.05, cap_s=1.0)
        self.holdbacks = Holdbacks(node, incarnation, cluster, clock=clock, backoff=backoff())
        self._returns: Outbox[Return] = Outbox(
            cluster,
            command=lambda returns: ReturnPermits(node, incarnation(), returns),
            due=self._is_kept,
            said=lambda returns: None,
            clock=clock,
            backoff=backoff(),
        )
        self._adoptions: Outbox[Take] = Outbox(
            cluster,
            command=lambda takes: TakePermits(node, incarnation(), takes),
            due=self._is_uncounted,
            said=lambda takes: None,
            clock=clock,
            backoff=backoff(),
        )

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            tasks.create_task(self._returns.run(), name="pydrm permits returned")
            tasks.create_task(self._adoptions.run(), name="pydrm permits of what is open")
            tasks.create_task(self.holdbacks.run(), name="pydrm holdbacks")

    # --- what the agent calls ----------------------------------------------------------------------------------------

    def gate(self, key: AssignmentKey, token: int, group: str, priority: object) -> Gate | None:
        """For the handle under *token*, until `forget`; None for a resource of no group, which waits for nothing."""
        if not group:
            return None
        gate = Gate(self, key, token, group, priority if isinstance(priority, int) else 0)
        self._gates[token] = self._of_group.setdefault(group, {})[token] = gate
        return gate

    def forget(self, token: int) -> None:
        """Nothing is left of the handle under *token*."""
        gate = self._gates.pop(token, None)
        if gate is not None:
            del self._of_group[gate.group][token]
            if not self._of_group[gate.group]:
                del self._of_group[gate.group]

    def look(self, assignment: Assignment) -> None:
        """Give back what this node has of permits for *assignment* though nothing can use them."""
        for claim in assignment.claims():
            if claim.permit and (claim.node, claim.incarnation) == (self._node, self._incarnation()):
                gate = self._gates.get(claim.token)
                if gate is None or gate.rests:
                    self._returns.put(Return(*assignment.key, claim.token, claim.permitted))

    def changed(self, group: str) -> None:
        """The group's budget is another one."""
        budget = self._cluster.state.budgets.get(group)
        if budget is None:
            self._requests.pop(group, None)
            if group in self._lines and self._lines[group].task is None:
                del self._lines[group]
        if budget is None or not budget.connections:
            self._counted.discard(group)
        elif group not in self._counted:
            self._counted.add(group)
            for gate in self._of_group.get(group, {}).values():
                self.entered(gate)

    def clear(self) -> None:
        """This node has a new incarnation."""
        self._returns.clear()
        self._adoptions.clear()

    # --- what gates call ---------------------------------------------------------------------------------------------

    async def enter(self, gate: Gate, waits: Callable[[str], None]) -> None:
        group = gate.group
        line = self._lines.get(group)
        if (line is None or line.task is None) and self.state_of(group) is None:
            return
        if line is None:
            line = self._lines[group] = Line(group, self, clock=self._clock, random=self._random)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = Waiter(gate.key, gate.token, -gate.priority, next(self._numbers), self._clock.now(), done, waits)
        line.put(waiter, permitted=self.has_permit(gate.key, gate.token, group))
        if line.task is None:
            assert self._tasks is not None
            line.task = self._tasks.create_task(self._serve(line), name=f"pydrm budget {group}")
        parted = self._parts(gate.token)
        try:
            await done
        finally:
            done.cancel()
        if parted:
            self._goes_on(gate.token)

    def entered(self, gate: Gate) -> None:
        """If it may have something open that is to be counted, and is not, have it counted."""
        budget = self._cluster.state.budgets.get(gate.group)
        counts = budget is not None and budget.connections > 0
        if counts and gate.inside and not self.has_permit(gate.key, gate.token, gate.group):
            self._adoptions.put(Take(*gate.key, gate.token, gate.group, opened=True))

    async def _serve(self, line: Line) -> None:
        # It is left where it is: what it knows of the last opens counts for the next ones.
        try:
            await line.serve()
        finally:
            line.task = None

    def limits(self, group: str) -> bool:
        return group in self._cluster.state.budgets or self.holdbacks.runs(group)

    async def may_request(self, group: str) -> None:
        lock, allowance = self._requests.setdefault(group, (asyncio.Lock(), Allowance()))
        # First come, first served.
        async with lock:
            while (state := self.state_of(group)) is not None:
                now = self._clock.now()
                wait_s = POLL_S if state.held_back else 0.0
                if not wait_s and state.budget.requests_per_s:
                    wait_s = allowance.wait_s(now, state.budget.requests_per_s * state.share)
                    if not wait_s:
                        allowance.take()
                if not wait_s:
                    return
                await self._clock.sleep(min(wait_s, POLL_S))

    def left(self, gate: Gate) -> None:
        assignment = self._cluster.state.assignments.get(gate.key)
        if assignment is not None:
            self.look(assignment)

    def held_back(self, group: str) -> bool:
        state = self.state_of(group)
        return state is not None and state.held_back

    # --- what lines call ---------------------------------------------------------------------------------------------

    def state_of(self, group: str) -> GroupState | None:
        """What is known of a group now; None if nothing limits it or holds it back."""
        state = self._cluster.state
        budget = state.budgets.get(group)
        held_back = self.holdbacks.runs(group)
        if budget is None and not held_back:
            return None
        lease_ttl_s = state.settings.lease_ttl_ms / 1000 if state.settings is not None else 0.0
        return GroupState.of(
            group,
            budget,
            share=self._shares.of(group, self._clock.now(), lease_ttl_s),
            permits=state.index.permits.get(group, 0),
            held_back=held_back,
        )

    def has_permit(self, key: AssignmentKey, token: int, group: str) -> bool:
        claim = self._cluster.state.claim(key, token)
        return claim is not None and claim.permit == group and not self._returns.holds(token)

    async def ask(self, takes: list[Take]) -> set[int] | None:
        """
        The tokens that were granted; None if there was no answer.

        Raises:
            DrmError: This node stops; but not Unavailable.
        """
        try:
            command = TakePermits(self._node, self._incarnation(), tuple(takes))
            answer = await ask(self._cluster, command)
        except Unavailable as error:
            logger.warning("permits are not granted so far: %s", error, extra={"node": self._node})
            return None
        if not isinstance(answer, Done):
            return None
        return {take.token for take in takes if take.resource not in answer.missing}

    # --- how ---------------------------------------------------------------------------------------------------------

    def _is_kept(self, given: Return) -> bool:
        claim = self._cluster.state.claim((given.resource, given.slot), given.token)
        return claim is not None and claim.permit != "" and claim.permitted == given.permitted

    def _is_uncounted(self, take: Take) -> bool:
        gate = self._gates.get(take.token)
        return gate is not None and gate.inside and not self.has_permit(gate.key, take.token, take.group)


@attrs.define(eq=False)
class Gate:
    """
    One handle's way to its group's budget.

    Attributes:
        priority: The higher goes first, among those that wait on this node.
        inside: Whether it may have something open.
        rests: Whether it will not for a while.
    """

    _budgets: Budgets
    key: AssignmentKey
    token: int
    group: str
    priority: int
    inside: bool = False
    rests: bool = False

    async def enter(self, waits: Callable[[str], None]) -> None:
        self.rests = False
        await self._budgets.enter(self, waits)
        self.inside = True
        self._budgets.entered(self)

    def leave(self, delay: float | None) -> None:
        self.inside = False
        self.rests = delay is None or delay > PERMIT_KEPT_S
        self._budgets.left(self)

    @property
    def limits(self) -> bool:
        return self._budgets.limits(self.group)

    async def may_request(self) -> None:
        await self._budgets.may_request(self.group)

    @property
    def held_back(self) -> bool:
        return self._budgets.held_back(self.group)

    def hold_back(self, seconds: float, reason: str) -> None:
        self._budgets.holdbacks.begin(self.group, seconds, reason)
