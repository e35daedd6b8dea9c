"""The kind "webhook": a cluster of one, a real receiver, and signatures checked by the package `standardwebhooks`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from standardwebhooks import Webhook as Verifier

from pydrm import Resource, ResourceManager, event_id
from tests.handlers.held import until
from tests.handlers.receiver import Received, Receiver

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDC2FVsBQIhrs="


def run(scene: Callable[[ResourceManager, Receiver], Any]) -> None:
    async def play() -> None:
        async with Receiver() as receiver, ResourceManager(cluster="c", node="a") as drm, asyncio.timeout(20):
            await scene(drm, receiver)

    asyncio.run(play())


def hook(receiver: Receiver, id: str = "hook", **fields: Any) -> Resource:
    fields = {"url": receiver.url, "topics": "orders.#", "secret": SECRET, "allow": ["127.0.0.0/8"]} | fields
    return Resource(id, kind="webhook", **{name: value for name, value in fields.items() if value is not None})


def deliveries(drm: ResourceManager) -> list[Any]:
    return drm._running().engine.state.ledger.deliveries()


async def delivered(drm: ResourceManager) -> None:
    await until(lambda: not deliveries(drm))


def verified(received: Received, secret: str = SECRET) -> Any:
    return Verifier(secret).verify(received.body, received.headers)


def test_an_event_is_posted_to_every_webhook_that_wants_its_topic_and_signed():
    """By Standard Webhooks, with the token that the subscription is held by."""

    async def scene(drm: ResourceManager, receiver: Receiver) -> None:
        await drm.add(hook(receiver, "one"), hook(receiver, "two"), hook(receiver, "other", topics="users.*"))

        published = await drm.publish("orders.created", {"id": 7})
        await delivered(drm)

        assert (published.matched, published.duplicate) == (2, False)
        assert receiver.ids == [published.event_id] * 2
        for received in receiver.received:
            assert verified(received) == {"id": 7}
            assert received.headers["content-type"] == "application/json"
        tokens = {str(view["token"]) for view in drm.resources() if view["id"] != "other"}
        assert {received.headers["pydrm-token"] for received in receiver.received} == tokens

    run(scene)


def test_an_id_that_was_published_is_not_delivered_again():
    """Whoever repeats it is told, and to how many it went the first time."""

    async def scene(drm: ResourceManager, receiver: Receiver) -> None:
        await drm.add(hook(receiver))
        id = event_id("feed", 42)

        first = await drm.publish("orders.created", b"one", event_id=id)
        again = await drm.publish("orders.created", b"one", event_id=id)
        await delivered(drm)

        assert (first.matched, first.duplicate, again.matched, again.duplicate) == (1, False, 1, True)
        assert receiver.ids == [id]

    run(scene)
