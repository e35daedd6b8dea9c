"""`FakeManager`: what the admin API asks of a node, answered from memory; it can be told to fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pydrm.agent.courier import Delivered
from pydrm.agent.publishing import Publication
from pydrm.core.resource import Resource
from pydrm.errors import ClusterRefused, DrmError, Unavailable
from pydrm.limits import LIMITS, budget_of
from pydrm.webhooks import FailedDelivery


class FakeVoters:
    """
    Attributes:
        names: Who has a vote.
    """

    def __init__(self) -> None:
        self.names = ["a", "b", "c"]
        self.failure: Exception | None = None

    async def add(self, name: str, *, timeout: float) -> None:
        self._fail()
        self.names = sorted({*self.names, name})

    async def remove(self, name: str, *, timeout: float) -> None:
        self._fail()
        self.names.remove(name)

    async def replace(self, name: str, *, timeout: float) -> None:
        self._fail()

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure


class FakeBudgets:
    """
    Attributes:
        limits: By group.
    """

    def __init__(self, note: Callable[[float], None]) -> None:
        self.limits: dict[str, dict[str, Any]] = {}
        self._note = note

    async def set(self, group: str, *, timeout: float = 10, **limits: Any) -> None:
        self._note(timeout)
        budget_of(group, limits)
        self.limits[group] = limits

    async def remove(self, group: str, *, timeout: float = 10) -> bool:
        self._note(timeout)
        return self.limits.pop(group, None) is not None

    def list(self) -> list[dict[str, Any]]:
        used = {"resources": 4, "connected": 3, "sessions": 0, "held_back": None}
        none = dict.fromkeys(LIMITS)
        return [{"group": group, **none, **limits, **used} for group, limits in self.limits.items()]


class FakeWebhooks:
    """
    Attributes:
        replayed: What was asked for.
    """

    def __init__(self) -> None:
        self.dead = [
            FailedDelivery("hook", 7, "evt_7", "orders", 10, "answered with HTTP status 500"),
            FailedDelivery("other", 8, "evt_8", "orders", 1, "unknown"),
        ]
        self.replayed: list[tuple[str | None, list[str] | None]] = []

    async def failed(self, resource: str | None = None) -> list[FailedDelivery]:
        return [row for row in self.dead if resource in (None, row.resource)]

    async def replay(
        self, resource: str | None = None, *, event_ids: Sequence[str] | None = None, timeout: float = 10
    ) -> int:
        self.replayed.append((resource, None if event_ids is None else list(event_ids)))
        return len(await self.failed(resource))


class FakeManager:
    """
    Attributes:
        problem: What its status shows as such.
        sent: (resource, data), in order.
    """

    def __init__(self, *, has_majority: bool = True, failure: Exception | None = None) -> None:
        self.problem = ""
        self.has_majority = has_majority
        self.failure = failure
        self.kept: dict[str, Resource] = {}
        self.paused: dict[str, str] = {}
        self.brought_by: dict[str, str] = {}
        self.timeouts: list[float] = []
        self.sent: list[tuple[str, str | bytes]] = []
        self.voters = FakeVoters()
        self.webhooks = FakeWebhooks()
        self.published: list[tuple[str, Any]] = []
        self.budgets = FakeBudgets(self._note)

    async def publish(
        self, topic: str, payload: Any, *, event_id: str | None = None, timeout: float = 10
    ) -> Publication:
        self._note(timeout)
        self.published.append((topic, payload))
        return Publication(event_id or "evt_1", 2, duplicate=len(self.published) > 1)

    def status(self) -> dict[str, Any]:
        return {
            "node": "a",
            "cluster": "orders",
            "leader": "a" if self.has_majority else None,
            "term": 3,
            "applied": 17,
            "has_majority": self.has_majority,
            "voters": self.voters.names,
            "nodes": [{"node": "a", "state": "alive", "votes": True, "incarnation": 1, "held": len(self.kept)}],
            "resources": {
                "total": len(self.kept),
                "held": len(self.kept),
                "open": len(self.kept),
                "failing": 0,
                "unheld": 0,
                "moving": 0,
                "parked": 0,
            },
            "lease": {"valid": self.has_majority, "incarnation": 1},
            "messages": {"callback_failures": 3, "dropped_messages": 1, "overflowed_messages": 0, "cut_off_entries": 7},
            "problem": self.problem,
        }

    def resources(self) -> list[dict[str, Any]]:
        return [
            {"id": kept.id, "kind": kept.kind, "holder": "a", "token": token, "next_try": None, **self._shown(kept.id)}
            for token, kept in enumerate(self.kept.values(), 1)
        ]

    async def add(self, *resources: Resource, timeout: float) -> None:
        self._note(timeout)
        self.kept |= {resource.id: resource for resource in resources}

    async def remove(self, *ids: str, timeout: float) -> list[str]:
        self._note(timeout)
        return [name for name in ids if self.kept.pop(name, None) is not None]

    async def pause(self, *ids: str, reason: str, timeout: float) -> list[str]:
        self._note(timeout)
        there = [name for name in ids if name in self.kept]
        self.paused |= dict.fromkeys(there, reason)
        return there

    async def resume(self, *ids: str, timeout: float) -> list[str]:
        self._note(timeout)
        there = [name for name in ids if name in self.kept]
        for name in there:
            self.paused.pop(name, None)
        return there

    def _shown(self, id: str) -> dict[str, str | None]:
        source = self.brought_by.get(id)
        if id in self.paused:
            return {"state": "paused", "detail": self.paused[id], "source": source}
        return {"state": "open", "detail": "", "source": source}

    async def send(self, id: str, data: str | bytes, *, timeout: float) -> Delivered:
        self._note(timeout)
        if id not in self.kept:
            raise ClusterRefused(f"there is no resource {id!r}", reason="not-found")
        self.sent.append((id, data))
        return Delivered("b", 7)

    def _note(self, timeout: float) -> None:
        self.timeouts.append(timeout)
        if self.failure is not None:
            raise self.failure


def minority(message: str = "no majority answered within 10 s") -> FakeManager:
    return FakeManager(has_majority=False, failure=Unavailable(message))


def failing(error: DrmError) -> FakeManager:
    return FakeManager(failure=error)
