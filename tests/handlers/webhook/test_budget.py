"""Deliveries are requests of the group that a webhook's field `budget` names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from pydrm import Resource, ResourceManager
from pydrm.core.events import DeliveryState
from pydrm.testing.held import until
from tests.handlers.webhook.receiver import Receiver

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NEVER_PER_S = 0.001


def run(scene: Callable[[ResourceManager, Receiver], Any]) -> None:
    async def play() -> None:
        # Whoever does not end when it is told to shows by that: longer than any test waits.
        drm = ResourceManager(cluster="c", node="a", close_timeout=60)
        async with Receiver() as receiver, asyncio.timeout(50), drm:
            await scene(drm, receiver)

    asyncio.run(play())


def hook(receiver: Receiver, id: str, **fields: Any) -> Resource:
    return Resource(
        id, kind="webhook", url=receiver.url, topics=f"{id}.#", secret=SECRET, allow=["127.0.0.0/8"], **fields
    )


def due(drm: ResourceManager, id: str) -> list[DeliveryState]:
    return [delivery.state for delivery in drm._running().engine.state.ledger.of(id)]


def test_all_webhooks_of_a_group_together_keep_to_its_rate():
    """One at once, and then one in a twentieth of a second."""

    async def scene(drm: ResourceManager, receiver: Receiver) -> None:
        await drm.budgets.set("customers", requests_per_second=20)
        await drm.add(hook(receiver, "one", budget="customers"), hook(receiver, "two", budget="customers"))
        began = asyncio.get_running_loop().time()
        for _ in range(8):
            await drm.publish("one.x", b"")
            await drm.publish("two.x", b"")
        await until(lambda: len(receiver.received) == 16)

        assert asyncio.get_running_loop().time() - began >= 15 / 20

    run(scene)


def test_what_waits_for_the_budget_is_not_claimed_and_is_let_go_of_at_once():
    """So nothing of it is unknown to whoever has it next."""

    async def scene(drm: ResourceManager, receiver: Receiver) -> None:
        await drm.budgets.set("customers", requests_per_second=NEVER_PER_S)
        await drm.add(hook(receiver, "one", budget="customers", delivery="at_most_once"))
        for _ in range(3):
            await drm.publish("one.x", b"")
        await until(lambda: len(due(drm, "one")) == 2)
        await drm.pause("one")
        await until(lambda: next(row["state"] for row in drm.resources()) == "paused")

        assert due(drm, "one") == [DeliveryState.DUE] * 2
        assert len(receiver.received) == 1

    run(scene)


def test_what_waits_for_the_budget_takes_no_room_from_the_others(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pydrm.handlers.webhook.kind.POSTS_MAX", 1)

    async def scene(drm: ResourceManager, receiver: Receiver) -> None:
        await drm.budgets.set("customers", requests_per_second=NEVER_PER_S)
        await drm.add(hook(receiver, "one", budget="customers"), hook(receiver, "free"))
        for _ in range(3):
            await drm.publish("one.x", b"")
        await until(lambda: len(due(drm, "one")) == 2)
        await drm.publish("free.x", b"")
        await until(lambda: not due(drm, "free"))

        assert len(receiver.received) == 2

    run(scene)


def test_a_webhook_that_is_told_to_wait_makes_the_others_of_its_group_wait():
    async def scene(drm: ResourceManager, receiver: Receiver) -> None:
        receiver.answer = lambda received: web.Response(status=429, headers={"Retry-After": "3600"})
        await drm.add(hook(receiver, "one", budget="customers"), hook(receiver, "two", budget="customers"))
        await drm.publish("one.x", b"")
        await until(lambda: any(row["held_back"] for row in drm.budgets.list()))
        await drm.publish("two.x", b"")
        await until(lambda: len(due(drm, "two")) == 1)
        await asyncio.sleep(0.3)

        assert len(receiver.received) == 1
        assert due(drm, "two") == [DeliveryState.DUE]

    run(scene)
