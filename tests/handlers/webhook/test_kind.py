"""The kind "webhook": a cluster of one, a real receiver, and signatures checked by the package `standardwebhooks`."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from standardwebhooks import Webhook as Verifier

from pydrm import Fenced, Hold, Resource, ResourceManager, event_id
from pydrm.core import events
from pydrm.core.events import DeliveryState
from pydrm.core.records import Phase
from pydrm.errors import ClusterRefused, ConfigurationError, InvalidResource
from pydrm.handlers.webhook import schedule as webhook_schedule
from pydrm.handlers.webhook.subscription import Subscription
from pydrm.testing.held import until
from tests.handlers.webhook.receiver import Received, Receiver

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


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The schedule, in a hundredth of a second for each of its steps."""
    monkeypatch.setattr(webhook_schedule, "_DELAYS_S", (0.0, *[0.01] * 9))


def statuses(*wanted: int) -> Callable[[Received], web.Response]:
    """Answers with these, one after the other, then with the last of them."""
    left = list(wanted)
    return lambda received: web.Response(status=left.pop(0) if len(left) > 1 else left[0])


def dead(drm: ResourceManager) -> list[str]:
    return [delivery.reason for delivery in deliveries(drm) if delivery.state is DeliveryState.DEAD]


def state_of(drm: ResourceManager, id: str = "hook") -> str:
    return next(row["state"] for row in drm.resources() if row["id"] == id)


def parked(drm: ResourceManager) -> bool:
    return drm._running().engine.state.assignments["hook", 0].phase is Phase.PARKED


@pytest.mark.parametrize(
    ("payload", "content_type", "body"),
    [
        (b"\x00\xff", "application/octet-stream", b"\x00\xff"),
        ("grün", "text/plain; charset=utf-8", "grün".encode()),
        ({"a": ["ü", 1]}, "application/json", '{"a":["ü",1]}'.encode()),
        (None, "application/json", b"null"),
    ],
)
def test_a_payload_is_sent_as_it_was_given(payload: Any, content_type: str, body: bytes):
    """Bytes as bytes, a string as text, all else as JSON."""

    async def scene(drm: ResourceManager, receiver: Receiver) -> None:
        await drm.add(hook(receiver))
        await drm.publish("orders", payload)
        await delivered(drm)

        [received] = receiver.received
        assert (received.headers["content-type"], received.body) == (content_type, body)

    run(scene)


def test_with_two_secrets_each_of_them_verifies():
    """A receiver changes to the new one when it likes."""

    async def scene(drm: ResourceManager, receiver: Receiver) -> None:
        await drm.add(hook(receiver, secret=None, secrets=[OTHER_SECRET, SECRET]))
        await drm.publish("orders", {"id": 1})
        await delivered(drm)

        [received] = receiver.received
        assert verified(received) == verified(received, OTHER_SECRET) == {"id": 1}

    run(scene)


def test_secrets_are_read_where_the_definition_says_and_not_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """From the environment or a file of the holder's."""
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    (tmp_path / "key").write_text("Bearer xyz\n")

    async def scene(drm: ResourceManager, receiver: Receiver) -> None:
        headers = {"Authorization": f"{{file:{tmp_path}/key}}"}
        await drm.add(hook(receiver, secret="{env:HOOK_SECRET}", headers=headers))
        await drm.publish("orders", {"id": 1})
        await delivered(drm)

        [received] = receiver.received
        assert verified(received) == {"id": 1}
        assert received.headers["authorization"] == "Bearer xyz"
        assert SECRET not in repr(drm.get("hook"))

    run(scene)


@pytest.mark.usefixtures("soon")
def test_what_is_not_answered_with_2xx_is_sent_again_under_the_same_id():
    """A redirect is no success, and is not followed."""

    async def scene(drm: ResourceManager, receiver: Receiver) -> None:
        receiver.answer = statuses(500, 302, 404, 200)
        await drm.add(hook(receiver))
        published = await drm.publish("orders", {"id": 1})
        await delivered(drm)

        assert receiver.ids == [published.event_id] * 4
        await until(lambda: state_of(drm) == "open")

    run(scene)


@pytest.mark.usefixtures("soon")
def test_after_the_last_try_it_is_dead_and_can_be_replayed():
    """Ten tries, as the schedule of Standard Webhooks has them; then somebody has to ask for it."""

    async def scene(drm: ResourceManager, receiver: Receiver) -> None:
        receiver.answer = statuses(500)
        await drm.add(hook(receiver))
        published = await drm.publish("orders", {"id": 1})
        await until(lambda: bool(dead(drm)))
        assert dead(drm) == ["answered with HTTP status 500, in the last of 10 tries"]
        assert len(receiver.received) == 10

        receiver.answer = statuses(200)
        [failed] = await drm.webhooks.failed()
        assert (failed.resource, failed.event_id, failed.topic) == ("hook", published.event_id, "orders")
        assert await drm.webhooks.replay() == 1
        await delivered(drm)
        assert receiver.ids == [published.event_id] * 11

    run(scene)


def test_a_receiver_that_is_gone_for_good_is_not_asked_again():
    """410: the subscription is paused, with the reason, until somebody resumes it."""

    async def scene(drm: ResourceManager, receiver: Receiver) -> None:
        receiver.answer = statuses(410)
        await drm.add(hook(receiver))
        await drm.publish("orders", 1)
        await until(lambda: parked(drm))
        await drm.publish("orders", 2)

        why = drm._running().engine.state.records["hook"].parked
        assert why is not None and why.reason == "disabled: answered with HTTP status 410"
        assert len(receiver.received) == 1

    run(scene)


@pytest.mark.usefixtures("soon")
def test_one_that_fails_for_long_is_disabled():
    """Whoever resumes it begins anew."""

    async def scene(drm: ResourceManager, receiver: Receiver) -> None:
        receiver.answer = statuses(500)
        await drm.add(hook(receiver, disable_after=0.03))
        await drm.publish("orders", 1)
        await until(lambda: parked(drm))

        why = drm._running().engine.state.records["hook"].parked
        assert why is not None and why.reason.startswith("disabled: failing for")

    run(scene)


@pytest.mark.usefixtures("soon")
def test_retry_after_is_heeded_for_all_of_a_subscription():
    """Whatever else is due waits as well."""

    async def scene(drm: ResourceManager, receiver: Receiver) -> None:
        at: list[float] = []

        def answer(received: Received) -> web.Response:
            at.append(asyncio.get_running_loop().time())
            return web.Response(status=429, headers={"Retry-After": "1"}) if len(at) == 1 else web.Response()

        receiver.answer = answer
        await drm.add(hook(receiver))
        await drm.publish("orders", 1)
        await until(lambda: any(delivery.reason for delivery in deliveries(drm)))
        await drm.publish("orders", 2)
        await delivered(drm)

        assert at[1] - at[0] >= 1

    run(scene)


@pytest.mark.usefixtures("soon")
def test_ordered_means_one_after_the_other_in_the_order_of_publication():
    """One that fails holds up those behind it."""

    async def scene(drm: ResourceManager, receiver: Receiver) -> None:
        receiver.answer = statuses(200, 500, 500, 200)
        await drm.add(hook(receiver, ordered=True))
        ids = [(await drm.publish("orders", number)).event_id for number in range(4)]
        await delivered(drm)

        assert receiver.ids == [ids[0], ids[1], ids[1], ids[1], ids[2], ids[3]]

    run(scene)


@pytest.mark.usefixtures("soon")
def test_at_most_once_nothing_that_may_have_left_is_sent_again():
    """Neither after an answer that is no success, nor without any; what never left is tried again."""

    async def scene(drm: ResourceManager, receiver: Receiver) -> None:
        async def hang(received: Received) -> web.Response:
            await asyncio.sleep(60)
            return web.Response()

        receiver.answer = statuses(500)
        await drm.add(hook(receiver, delivery="at_most_once", timeout=0.2))
        await drm.publish("orders", 1)
        await until(lambda: len(dead(drm)) == 1)
        receiver.answer = hang
        await drm.publish("orders", 2)
        await until(lambda: len(dead(drm)) == 2)

        assert len(receiver.ids) == len(set(receiver.ids)) == 2
        assert dead(drm)[0] == "answered with HTTP status 500"
        assert dead(drm)[1].startswith("unknown: ")

    run(scene)


@pytest.mark.usefixtures("soon")
def test_at_most_once_a_connection_that_was_refused_is_tried_again():
    """Nothing can have been received."""

    async def scene(drm: ResourceManager, receiver: Receiver) -> None:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))  # Nobody listens there.
            url = f"http://127.0.0.1:{bound.getsockname()[1]}/"
        await drm.add(hook(receiver, url=url, delivery="at_most_once"))
        await drm.publish("orders", 1)
        await until(lambda: bool(dead(drm)))

        assert dead(drm)[0].startswith("not sent: ")
        assert "in the last of 10 tries" in dead(drm)[0]

    run(scene)


def test_where_it_may_not_be_sent_is_known_at_once_if_the_url_has_an_address():
    """A name is known when it is connected to; then it counts as a failure."""

    async def scene(drm: ResourceManager, receiver: Receiver) -> None:
        with pytest.raises(InvalidResource, match="is not a public address") as refused:
            await drm.add(hook(receiver, allow=None))
        assert refused.value.field == "url"

        await drm.add(hook(receiver, url=receiver.url.replace("127.0.0.1", "localhost"), allow=None))
        await drm.publish("orders", 1)
        await until(lambda: any(delivery.reason for delivery in deliveries(drm)))
        assert "is not a public address" in deliveries(drm)[0].reason
        assert receiver.received == []

    run(scene)


def test_connections_are_shared_only_where_the_same_is_allowed():
    """Or one that may not be connected to would be used because somebody else may."""

    async def scene(drm: ResourceManager, receiver: Receiver) -> None:
        url = receiver.url.replace("127.0.0.1", "localhost")
        await drm.add(hook(receiver, "may", url=url, allow=["127.0.0.0/8", "::1"]))
        await drm.publish("orders", 1)
        await delivered(drm)
        await drm.add(hook(receiver, "may-not", url=url, allow=None, topics="other"))
        await drm.publish("other", 2)
        await until(lambda: any(delivery.reason for delivery in deliveries(drm)))

        assert len(receiver.received) == 1

    run(scene)


def test_a_long_response_is_cut_off():
    """What a receiver says is of no interest."""

    async def scene(drm: ResourceManager, receiver: Receiver) -> None:
        receiver.answer = lambda received: web.Response(body=bytes(5_000_000))
        await drm.add(hook(receiver))
        await drm.publish("orders", 1)
        await delivered(drm)

        assert len(receiver.received) == 1

    run(scene)


def test_a_handler_publishes_under_its_hold():
    """And not any more when that is over."""

    async def scene(drm: ResourceManager, receiver: Receiver) -> None:
        holds: list[Hold] = []

        @drm.handler("feed")
        async def feed(hold: Hold) -> None:
            holds.append(hold)
            hold.ready()
            await hold.publish("orders", {"id": 1}, event_id=event_id("feed", 1))
            await asyncio.Event().wait()

        await drm.add(hook(receiver), Resource("feed", kind="feed"))
        await until(lambda: receiver.ids == [event_id("feed", 1)])
        assert (await drm.publish("orders", {}, hold=holds[0], event_id=event_id("feed", 1))).duplicate

        await drm.remove("feed")
        await until(lambda: not drm.holds("feed"))
        with pytest.raises(Fenced):
            await drm.publish("orders", {"id": 2}, hold=holds[0])

    run(scene)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"topic": "a..b"}, "topic"),
        ({"topic": "a.*"}, "topic"),
        ({"topic": 7}, "topic"),
        ({"payload": {"a": object()}}, "payload"),
        ({"payload": float("nan")}, "payload"),
        ({"payload": bytes(262_145)}, "payload"),
        ({"event_id": "a.b"}, "event_id"),
        ({"event_id": ""}, "event_id"),
        ({"event_id": "ü"}, "event_id"),
    ],
)
def test_what_cannot_be_published_is_refused_before_anything_is_sent(arguments: dict[str, Any], field: str):
    """With what is wrong named."""

    async def scene(drm: ResourceManager, receiver: Receiver) -> None:
        with pytest.raises(ConfigurationError) as refused:
            await drm.publish(**({"topic": "orders", "payload": 1} | arguments))
        assert refused.value.field == field

    run(scene)


def test_a_full_ledger_says_so(monkeypatch: pytest.MonkeyPatch):
    """The app can wait, or do without."""
    monkeypatch.setattr(events, "EVENTS_MAX", 0)

    async def scene(drm: ResourceManager, receiver: Receiver) -> None:
        await drm.add(hook(receiver))
        with pytest.raises(ClusterRefused, match="the ledger is full") as refused:
            await drm.publish("orders", 1)
        assert refused.value.reason == "full"

    run(scene)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"url": None}, "url"),
    ({"url": "ftp://example.com"}, "url"),
    ({"url": "http://user:pass@example.com"}, "url"),
    ({"url": "http://example.com:x"}, "url"),
    ({"url": "http://127.1/"}, "url"),
    ({"url": "http://2130706433/"}, "url"),
    ({"url": "http://[::ffff:10.0.0.1]/"}, "url"),
    ({"topics": None}, "topics"),
    ({"topics": []}, "topics"),
    ({"topics": ["a*"]}, "topics"),
    ({"secret": None}, "secret"),
    ({"secret": "short"}, "secret"),
    ({"secret": "whsec_AAAA"}, "secret"),
    ({"secrets": [SECRET]}, "secrets"),
    ({"secret": None, "secrets": []}, "secrets"),
    ({"delivery": "twice"}, "delivery"),
    ({"ordered": 1}, "ordered"),
    ({"timeout": 0}, "timeout"),
    ({"disable_after": "long"}, "disable_after"),
    ({"allow": ["everything"]}, "allow"),
    ({"allow": "10.0.0.0/8"}, "allow"),
    ({"headers": {"webhook-id": "1"}}, "headers"),
    ({"headers": {"a b": "1"}}, "headers"),
    ({"headers": {"a": "1\r\nb: 2"}}, "headers"),
]


@pytest.mark.parametrize(("fields", "field"), WRONG)
def test_a_field_that_cannot_be_used_is_named(fields: dict[str, Any], field: str):
    """When the resource is added; a secret is not shown."""
    receiver = Receiver()
    receiver.url = "http://127.0.0.1:1/"
    with pytest.raises(InvalidResource) as refused:
        Subscription.of(hook(receiver, **fields))

    assert refused.value.field == field
    assert "AAAA" not in str(refused.value)


def test_a_holder_that_leaves_waits_for_what_is_under_way():
    """So a planned move sends nothing twice."""

    async def scene(drm: ResourceManager, receiver: Receiver) -> None:
        async def slow(received: Received) -> web.Response:
            await asyncio.sleep(0.3)
            return web.Response()

        receiver.answer = slow
        await drm.add(hook(receiver))
        await drm.publish("orders", 1)
        await until(lambda: len(receiver.received) == 1)
        await drm.pause("hook", reason="moved", timeout=5)
        await until(lambda: parked(drm))

        assert deliveries(drm) == []

    run(scene)


def test_nothing_is_sent_under_a_hold_that_is_over():
    """The lease may end between the claim's commit and the request."""

    async def scene(drm: ResourceManager, receiver: Receiver) -> None:
        await drm.add(hook(receiver))
        await until(lambda: state_of(drm) == "open")
        node = drm._running()
        claim = node.deliveries.claims.put

        async def claim_and_lose(item: Any) -> None:
            await claim(item)
            node.lease.deadline = float("-inf")

        node.deliveries.claims.put = claim_and_lose  # type: ignore[method-assign]
        await drm.publish("orders", 1)
        await until(lambda: bool(deliveries(drm)) and deliveries(drm)[0].attempt == 1)
        await asyncio.sleep(0.05)

        assert receiver.received == []

    run(scene)
