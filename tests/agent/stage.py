"""
A stage for the tests of the agent: a real state machine, agents of several nodes, and virtual time.

Nothing here waits for real: when no callback is ready, the loop's clock jumps to the next timer. A
`Company` applies what the agents propose a few milliseconds later, as a cluster would, and tells every agent
which assignments changed. `Actor` is a kind whose handlers do as the test says.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from msgspec.structs import replace

from pydrm.agent.agent import Agent
from pydrm.agent.budget_watch import BudgetWatch
from pydrm.agent.fence import Fence
from pydrm.agent.hold import Hold
from pydrm.agent.kind import Kinds
from pydrm.agent.lease import Lease
from pydrm.agent.shares import Shares
from pydrm.core.answers import Answer, Reason, Refused
from pydrm.core.budget_commands import SetBudget
from pydrm.core.changes import AssignmentChanged, AssignmentDropped, BudgetChanged, BudgetDropped, Cause
from pydrm.core.commands import AddResources, Command, Drain, Expire, ForceRelease, Form, Join, RemoveResources, Request
from pydrm.core.handle_commands import Release, Report
from pydrm.core.machine import Outcome, apply
from pydrm.core.records import Assignment, Condition, Holder
from pydrm.core.resource import Resource
from pydrm.core.settings import Voter
from pydrm.core.state import State
from pydrm.engine import REQUEST_BYTES_MAX
from pydrm.engine.codec import definition_of, encode_command
from pydrm.errors import ClusterRefused, DrmError, Unavailable

LATENCY_S = 0.003


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its time stands still while there is work, and jumps to the next timer when there is none."""

    def __init__(self) -> None:
        self._now_s = 1000.0
        super().__init__()

    def time(self) -> float:
        return self._now_s

    def _run_once(self) -> None:
        while self._scheduled and self._scheduled[0]._cancelled:
            heapq.heappop(self._scheduled)._scheduled = False
            self._timer_cancelled_count -= 1
        if not self._ready and self._scheduled:
            self._now_s = max(self._now_s, self._scheduled[0]._when)
        super()._run_once()


class LoopClock:
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def wall(self) -> float:
        return self.now()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def play(scene: Callable[[], Awaitable[None]]) -> None:
    """Run *scene* in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scene())


async def until(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.001)


def refusing(kind: type) -> Callable[[Command], bool]:
    """For `Company.refuse`: commands of that kind are refused by the engine, before they are proposed."""

    def refuse(command: Command) -> bool:
        if isinstance(command, kind):
            raise ClusterRefused("says the test", reason="invalid")
        return False

    return refuse


class Actor:
    """
    A kind: by default a handler is ready after *opens_in_s* and ends as soon as it is cancelled.

    Attributes:
        open: Tokens that are open, by resource; a list, so that holding twice shows.
        runs: How often a handler was run, by resource.
        busiest: The most handlers that were opening at once.
    """

    def __init__(self, opens_in_s: float = 0.001) -> None:
        self.opens_in_s = opens_in_s
        self.open: dict[str, list[int]] = {}
        self.runs: Counter[str] = Counter()
        self.opening = 0
        self.busiest = 0
        self.script: Callable[[Hold], Awaitable[None]] | None = None

    def validate(self, resource: Resource) -> None:
        """Everything goes."""

    async def run(self, hold: Hold) -> None:
        self.runs[hold.resource.id] += 1
        if self.script is not None:
            await self.script(hold)
            return
        with self._opening():
            await asyncio.sleep(self.opens_in_s)
        await self.keep(hold)

    async def keep(self, hold: Hold) -> None:
        hold.ready()
        tokens = self.open.setdefault(hold.resource.id, [])
        tokens.append(hold.token)
        try:
            await asyncio.Event().wait()
        finally:
            tokens.remove(hold.token)

    @contextmanager
    def _opening(self) -> Iterator[None]:
        self.opening += 1
        self.busiest = max(self.busiest, self.opening)
        try:
            yield
        finally:
            self.opening -= 1


class NodeOnStage:
    """
    A node's agent and what it shares with the engine's thread, without that thread.

    Attributes:
        reachable: Whether a majority answers it.
        failure: Why its engine has stopped.
        asked: How many times its agent has proposed something.
    """

    def __init__(self, company: Company, name: str, actor: Actor, **options: Any) -> None:
        self.name = name
        self.actor = actor
        self.lease = Lease()
        self.fence = Fence()
        self.shares = Shares(name)
        self.reachable = True
        self.asked = 0
        self.failure: DrmError | None = None
        kinds = Kinds(options.pop("find", lambda name: None))
        kinds.register("actor", actor)
        self._company = company
        clock = LoopClock()
        dice = random.Random(f"7{name}")
        self.agent = Agent(
            name, self, self.lease, self.fence, kinds, clock=clock, random=dice, shares=self.shares, **options
        )
        self.task = asyncio.create_task(self.agent.run())

    @property
    def state(self) -> State:
        return self._company.state

    async def propose(self, command: Command, *, timeout: float) -> Answer:
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        if not self.reachable:
            await asyncio.sleep(timeout)
            raise Unavailable("no majority")
        await asyncio.sleep(LATENCY_S)
        if len(encode_command(command)) > REQUEST_BYTES_MAX:
            raise ClusterRefused("it is too long", reason="too-large")
        return self._company.do(command)

    def join(self) -> int:
        former = self.state.nodes.get(self.name)
        replaces = former.incarnation if former else 0
        answer = self._company.do(Join(self.name, f"boot-{replaces}", replaces, 2000, f"disk-{self.name}"))
        self.lease.deadline = float("inf")
        self.lease.incarnation = answer.number
        self.agent.joined(answer.number)
        return answer.number

    def expire(self) -> None:
        """The cluster ends its lease, and the node hears of it."""
        node = self.state.nodes[self.name]
        self._company.do(Expire(self.name, node.incarnation, node.count))
        self.lease.deadline = float("-inf")
        self.lease.incarnation = 0
        self.agent.fenced("the lease was ended by the cluster")

    def lose_lease(self) -> None:
        self.lease.deadline = float("-inf")
        self.agent.fenced("the lease ran out")

    def regain_lease(self) -> None:
        self.lease.deadline = float("inf")
        self.agent.unfenced()


class Company:
    """
    The nodes of one cluster.

    Attributes:
        commands: Everything that was applied.
        refuse: Called with each command before it is applied; True loses it.
    """

    def __init__(self) -> None:
        self.state = State()
        self.commands: list[Command] = []
        self.refuse: Callable[[Command], bool] = lambda command: False
        self.nodes: dict[str, NodeOnStage] = {}
        self._budgets = BudgetWatch()
        self.do(Form("orders", tuple(Voter(name, f"replica-{name}") for name in "abc"), 2000))

    def add_node(self, name: str, actor: Actor | None = None, **options: Any) -> NodeOnStage:
        node = self.nodes[name] = NodeOnStage(self, name, actor or Actor(), **options)
        node.shares.restored(self.state, asyncio.get_running_loop().time())
        node.join()
        return node

    def do(self, command: Command) -> Answer:
        if self.refuse(command):
            return Refused(Reason.STALE, "lost, says the test")
        self.commands.append(command)
        outcome = apply(self.state, Request(command))
        keys = []
        for change in outcome.changes:
            if isinstance(change, AssignmentChanged):
                # As the warden does, which tells nobody of what a node has said itself.
                if change.cause is not Cause.REPORTED:
                    keys.append(change.assignment.key)
            elif isinstance(change, AssignmentDropped):
                keys.append((change.resource, change.slot))
        for node in self.nodes.values():
            asyncio.get_running_loop().call_soon(node.agent.changed, keys)
        self._note_budgets(outcome)
        return outcome.answer

    def _note_budgets(self, outcome: Outcome) -> None:
        """What each node's engine notes, and what it tells its agent."""
        loop = asyncio.get_running_loop()
        touched = dict(self.state.index.touched)
        for node in self.nodes.values():
            for change in outcome.changes:
                node.shares.note(self.state, change, loop.time())
            self.state.index.touched.update(touched)
            node.shares.update(self.state, loop.time())
        self.state.index.touched.clear()
        for change in outcome.changes:
            self._budgets.note(change, loop.time())
            if isinstance(change, (BudgetChanged, BudgetDropped)):
                group = change.budget.group if isinstance(change, BudgetChanged) else change.group
                for node in self.nodes.values():
                    loop.call_soon(node.agent.budgeted, [group])

    def lead(self, every_s: float = 0.02) -> asyncio.Task[None]:
        """End what is over, as a leader does, from now on."""

        async def leading() -> None:
            while True:
                for command in self._budgets.due(asyncio.get_running_loop().time(), 0.0):
                    self.do(command)
                await asyncio.sleep(every_s)

        return asyncio.create_task(leading())

    def limit(self, group: str, **limits: float) -> None:
        self.do(SetBudget(group, **limits))

    def add(self, *ids: str, group: str = "", **fields: object) -> None:
        definitions = (definition_of(Resource(id, **{"kind": "actor", **fields})) for id in ids)
        self.do(AddResources(tuple(replace(definition, group=group) for definition in definitions)))

    def remove(self, *ids: str) -> None:
        self.do(RemoveResources(ids))

    def drain(self, name: str) -> None:
        self.do(Drain(name, self.state.nodes[name].incarnation))

    def force(self, id: str) -> None:
        self.do(ForceRelease(id, 0, self.claim(id).token, "says the test"))

    def assignment(self, id: str) -> Assignment:
        return self.state.assignments[id, 0]

    def claim(self, id: str) -> Holder:
        holder = self.assignment(id).holder
        assert holder is not None
        return holder

    def condition(self, id: str) -> Condition:
        return self.claim(id).condition

    def is_open(self, *ids: str, by: str | None = None) -> bool:
        """Whether each is held and reported open, by *by* if that is given."""
        claims = [self.assignment(id).holder for id in ids]
        return all(
            claim is not None and claim.condition is Condition.OPEN and by in (None, claim.node) for claim in claims
        )

    def released(self) -> list[int]:
        """Tokens, in the order in which their release was applied."""
        return [handle.token for c in self.commands if isinstance(c, Release) for handle in c.handles]

    def reports(self) -> list[Report]:
        return [command for command in self.commands if isinstance(command, Report)]
