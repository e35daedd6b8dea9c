"""`FakeManager`: what the admin API asks of a node, answered from memory; it can be told to fail."""

from __future__ import annotations

from typing import Any

from pydrm.agent.courier import Delivered
from pydrm.core.resource import Resource
from pydrm.errors import ClusterRefused, DrmError, Unavailable


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
        self.timeouts: list[float] = []
        self.sent: list[tuple[str, str | bytes]] = []
        self.voters = FakeVoters()

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
            "resources": {"total": len(self.kept), "held": len(self.kept), "unheld": 0, "moving": 0},
            "lease": {"valid": self.has_majority, "incarnation": 1},
            "messages": {"callback_failures": 3, "dropped_messages": 1},
            "problem": self.problem,
        }

    def resources(self) -> list[dict[str, Any]]:
        return [
            {"id": kept.id, "kind": kept.kind, "state": "open", "holder": "a", "token": token}
            for token, kept in enumerate(self.kept.values(), 1)
        ]

    async def add(self, *resources: Resource, timeout: float) -> None:
        self._note(timeout)
        self.kept |= {resource.id: resource for resource in resources}

    async def remove(self, *ids: str, timeout: float) -> list[str]:
        self._note(timeout)
        return [name for name in ids if self.kept.pop(name, None) is not None]

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
