"""
A cluster of one in memory with a source in it, and what its tests wait for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pydrm import Hold, InvalidResource, Resource, ResourceManager

__all__ = ["detail", "entry", "ids", "manager", "play", "state", "until"]


def play(scene: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scene())


def manager(**options: Any) -> ResourceManager:
    """Node a of a cluster of one; its kind "idle" is open at once, and has a field `color` that must be a string."""
    drm = ResourceManager(**{"cluster": "orders", "node": "a", "checkpoint_interval": 0.05, **options})

    @drm.handler("idle")
    class Idle:
        @staticmethod
        def validate(resource: Resource) -> None:
            if not isinstance(resource.get("color", ""), str):
                raise InvalidResource("must be a string", resource=resource.id, field="color")

        def open(self, hold: Hold) -> None: ...

        def close(self, hold: Hold) -> None: ...

    return drm


def entry(id: str, **fields: Any) -> dict[str, Any]:
    return {"id": id, "kind": "idle", **fields}


async def until(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


def ids(drm: ResourceManager) -> list[str]:
    """What is under management besides sources."""
    return [row["id"] for row in drm.resources() if not row["kind"].startswith("source.") and drm.get(row["id"])]


def _row(drm: ResourceManager, id: str) -> Mapping[str, Any]:
    return next((row for row in drm.resources() if row["id"] == id), {})


def state(drm: ResourceManager, id: str = "feed") -> str:
    return str(_row(drm, id).get("state"))


def detail(drm: ResourceManager, id: str = "feed") -> str:
    return str(_row(drm, id).get("detail"))
