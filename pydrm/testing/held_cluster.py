"""
`HeldCluster`: what a kind that delivers events, or a source, has to do with beside its hold; for `Held`.

A cluster of one, in memory, that answers at once. The state machine and the ledger are the real ones; only nothing of
it is on a disk, and what a source brings is opened by nobody. To be made on a running loop.
"""

from __future__ import annotations

import asyncio
import random

from pydrm.agent.backoff import Backoff
from pydrm.agent.deliveries import Deliveries
from pydrm.agent.hold import LedgerAccess
from pydrm.agent.kind import Kind, Kinds
from pydrm.agent.ledger_watch import LedgerWatch
from pydrm.agent.publishing import Publishing
from pydrm.clock import SystemClock
from pydrm.core.answers import Answer
from pydrm.core.commands import AddResources, Command, Form, Join, Request
from pydrm.core.machine import apply
from pydrm.core.resource import Resource
from pydrm.core.settings import Voter
from pydrm.core.state import State
from pydrm.engine import SystemHost
from pydrm.intake import Intake

__all__ = ["HeldCluster"]

LEASE_TTL_MS = 2000
EVERY_S = 0.05


class HeldCluster:
    """
    *resource*, of *kind*, added and held by node "a" under `token`.

    If it is given events, there is one each twentieth of a second, of a topic that it wants, until this is closed.

    Attributes:
        incarnation, token: What it is held under.
    """

    def __init__(self, kind: Kind, resource: Resource) -> None:
        self.state = State()
        self._clock = SystemClock()
        self._watch = LedgerWatch()
        kinds = Kinds(lambda name: None)
        kinds.register(resource.kind, kind)
        definition = Intake(kinds).definition(resource)
        self._apply(Form("held", (Voter("a", "replica-a", "a.example:7000"),), LEASE_TTL_MS))
        self._apply(Join("a", "boot", 0, LEASE_TTL_MS))
        self._apply(AddResources((definition,)))
        holder = self.state.assignments[resource.id, 0].holder
        assert holder is not None, "there is nobody else to hold it"
        self.incarnation, self.token = holder.incarnation, holder.token
        self._deliveries = Deliveries(
            "a",
            lambda: self.incarnation,
            self,
            self._watch,
            clock=self._clock,
            backoff=lambda: Backoff(random.Random(7), base_s=0.01, cap_s=0.05),
        )
        self._publishing = Publishing(self, SystemHost().new_id)
        self.access = LedgerAccess(self._deliveries, self._publishing)
        self._tasks = [asyncio.create_task(self._deliveries.run())]
        self._tasks += [asyncio.create_task(self._publish(_topic(pattern))) for pattern in definition.topics[:1]]

    async def propose(self, command: Command, *, timeout: float) -> Answer:
        # What is said on a real node takes a moment, in which others have something to do.
        await asyncio.sleep(0)
        return self._apply(command)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _apply(self, command: Command) -> Answer:
        outcome = apply(self.state, Request(command))
        for change in outcome.changes:
            self._watch.note(change, self._clock.now())
        if news := self._watch.news():
            self._deliveries.told(news)
        return outcome.answer

    async def _publish(self, topic: str) -> None:
        while True:
            await self._publishing.publish(topic, {}, event_id=None, by=None, timeout=1.0)
            await self._clock.sleep(EVERY_S)


def _topic(pattern: str) -> str:
    """One that *pattern* is for."""
    words = ["any" if word == "*" else word for word in pattern.split(".") if word != "#"]
    return ".".join(words) or "any"
