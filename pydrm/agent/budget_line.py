"""
`Line`: the handles of one group on this node that wait for the group's budget, and who is let through next.

    Rule 1.  While the group is held back nobody is let through.
    Rule 2.  Those that have a permit go first, because they cost the third party nothing new; then those of the highest
             priority, and of these whoever has waited longest.
    Rule 3.  Permits are asked for by those that will soon connect, some at a time, and only while this node sees that
             there are any left.
    Rule 4.  The first one of a line begins after a moment by chance, or all nodes would begin at the same instant after
             a failover.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable
from typing import Protocol

import attrs

from pydrm.agent.allowance import Allowance
from pydrm.clock import Clock, Random
from pydrm.core.budget_commands import Take
from pydrm.core.budget_records import Budget
from pydrm.core.records import AssignmentKey
from pydrm.errors import DrmError

__all__ = ["POLL_S", "GroupState", "Line", "Waiter"]

# What ends a wait is not announced, so it is looked for; seldom, if it has been going on for long.
POLL_S = 0.05
_POLL_MAX_S = 1.0

# A wait that is shorter is not worth an entry of the log to announce it.
_WAIT_SHOWN_S = 0.25

# For how long in advance permits are asked for.
_AHEAD_S = 0.1
_AT_ONCE_MAX = 64

_JITTER_MAX_S = 0.5


@attrs.frozen
class GroupState:
    """
    What is known of a group at one moment.

    Attributes:
        share: This node's part of the rates, from 0 to 1.
        connections_left: How many more may be open; None: as many as one likes.
    """

    budget: Budget
    share: float
    connections_left: int | None
    held_back: bool

    @classmethod
    def of(cls, group: str, budget: Budget | None, *, share: float, permits: int, held_back: bool) -> GroupState:
        budget = budget or Budget(group)
        left = max(budget.connections - permits, 0) if budget.connections else None
        return cls(budget, share, left, held_back or bool(budget.holdbacks))


@attrs.define(order=True)
class Waiter:
    """
    Attributes:
        urgency: The lowest goes first, and of equals the lowest number.
        done: Set when it may connect.
        say: Called with what it waits for, once.
    """

    key: AssignmentKey = attrs.field(order=False)
    token: int = attrs.field(order=False)
    urgency: int
    number: int
    since: float = attrs.field(order=False)
    done: asyncio.Future[None] = attrs.field(order=False)
    say: Callable[[str], None] = attrs.field(order=False)


class Office(Protocol):
    """What a line needs to know, and who grants."""

    def state_of(self, group: str) -> GroupState | None: ...

    def has_permit(self, key: AssignmentKey, token: int, group: str) -> bool: ...

    async def ask(self, takes: list[Take]) -> set[int] | None: ...


class Line:
    """
    Attributes:
        task: What serves it, while somebody waits.
    """

    def __init__(self, group: str, office: Office, *, clock: Clock, random: Random) -> None:
        self.task: asyncio.Task[None] | None = None
        self._group = group
        self._office = office
        self._clock = clock
        self._random = random
        self._permitted: list[Waiter] = []
        self._waiting: list[Waiter] = []
        self._unsaid: deque[Waiter] = deque()
        self._connects = Allowance()
        self._blocked_since: float | None = None

    def put(self, waiter: Waiter, *, permitted: bool) -> None:
        heapq.heappush(self._permitted if permitted else self._waiting, waiter)
        self._unsaid.append(waiter)

    async def serve(self) -> None:
        """Let them through until nobody waits."""
        await self._begin()
        while self._someone_waits():
            state = self._office.state_of(self._group)
            if not self._may_go_on(state) or not await self._let_some_through(state):
                await self._pause()
            else:
                self._blocked_since = None
                if state is None or not state.budget.connects_per_s:
                    # So that a holdback that ends does not let a thousand connect at the same instant.
                    await self._clock.sleep(POLL_S)

    async def _begin(self) -> None:
        state = self._office.state_of(self._group)
        rate = state.budget.connects_per_s if state is not None else 0.0
        # A higher rate needs less of it: it is about not being at the same instant.
        await self._clock.sleep(self._random.random() * min(_JITTER_MAX_S, 1 / rate if rate else POLL_S))

    def _someone_waits(self) -> bool:
        for heap in (self._permitted, self._waiting):
            while heap and heap[0].done.done():
                heapq.heappop(heap)
        self._say()
        return bool(self._permitted or self._waiting)

    def _say(self) -> None:
        now = self._clock.now()
        text = ""
        while self._unsaid and (self._unsaid[0].done.done() or now - self._unsaid[0].since >= _WAIT_SHOWN_S):
            waiter = self._unsaid.popleft()
            if not waiter.done.done():
                text = text or self._what_they_wait_for()
                waiter.say(text)

    def _what_they_wait_for(self) -> str:
        state = self._office.state_of(self._group)
        if state is not None and state.held_back:
            return f"waits because {self._group} is held back"
        return f"waits for the budget of {self._group}"

    def _may_go_on(self, state: GroupState | None) -> bool:
        if state is None:
            return True
        return not state.held_back and not self._wait_s(state)

    def _wait_s(self, state: GroupState) -> float:
        rate = state.budget.connects_per_s
        return self._connects.wait_s(self._clock.now(), rate * state.share) if rate else 0.0

    async def _let_some_through(self, state: GroupState | None) -> bool:
        """Whether anybody was."""
        chosen = self._choose(state)
        try:
            granted = await self._permit(chosen, state)
        except DrmError:
            # This node stops, and with it whoever waits.
            granted = []
        for waiter in chosen:
            if waiter not in granted:
                # It may have been granted although no answer came.
                self._put_back(waiter)
        for waiter in granted:
            await self._admit(waiter)
        return bool(granted)

    def _choose(self, state: GroupState | None) -> list[Waiter]:
        """Those that go next, if they are granted it."""
        count, room = _AT_ONCE_MAX, _AT_ONCE_MAX
        if state is not None:
            if not state.budget.sessions_left:
                return []
            if state.budget.connects_per_s:
                count = min(count, max(1, int(state.budget.connects_per_s * state.share * _AHEAD_S)))
            if state.connections_left is not None:
                room = state.connections_left
        chosen = _pop(self._permitted, count)
        return chosen + _pop(self._waiting, min(count - len(chosen), room))

    async def _permit(self, chosen: list[Waiter], state: GroupState | None) -> list[Waiter]:
        """Those of them that may connect."""
        if state is None or not (state.budget.connections or state.budget.sessions_per_day):
            return chosen
        counted = state.budget.sessions_per_day > 0
        asking = [w for w in chosen if counted or not self._office.has_permit(w.key, w.token, self._group)]
        granted: set[int] | None = set()
        if asking:
            granted = await self._office.ask([Take(*waiter.key, waiter.token, self._group) for waiter in asking])
        return [waiter for waiter in chosen if waiter not in asking or (granted and waiter.token in granted)]

    async def _admit(self, waiter: Waiter) -> None:
        """Wait until it is its turn; a holdback that came since counts."""
        while not waiter.done.done():
            state = self._office.state_of(self._group)
            if self._may_go_on(state):
                if state is not None and state.budget.connects_per_s:
                    self._connects.take()
                waiter.done.set_result(None)
                return
            await self._pause()
            self._say()

    def _put_back(self, waiter: Waiter) -> None:
        permitted = self._office.has_permit(waiter.key, waiter.token, self._group)
        heapq.heappush(self._permitted if permitted else self._waiting, waiter)

    async def _pause(self) -> None:
        now = self._clock.now()
        if self._blocked_since is None:
            self._blocked_since = now
        most = min(max(POLL_S, (now - self._blocked_since) / 20), _POLL_MAX_S)
        state = self._office.state_of(self._group)
        wait_s = self._wait_s(state) if state is not None and not state.held_back else 0.0
        # Without a rate to wait for, nodes should not all look at the same instant.
        await self._clock.sleep(min(wait_s, most) if wait_s else most * (0.5 + self._random.random() / 2))


def _pop(heap: list[Waiter], count: int) -> list[Waiter]:
    popped: list[Waiter] = []
    while heap and len(popped) < count:
        waiter = heapq.heappop(heap)
        if not waiter.done.done():
            popped.append(waiter)
    return popped
