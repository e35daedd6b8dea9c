"""The redis_pubsub kind against a real redis-server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from pydrm.clock import SystemClock
from pydrm.core.records import Condition
from pydrm.core.resource import Resource
from pydrm.errors import InvalidResource
from pydrm.handlers.callbacks import Callbacks
from pydrm.handlers.redis.pubsub import ChannelMessage, RedisPubsub
from pydrm.testing.held import Held, until
from tests.counterparts import Server, redis_server


class Inbox:
    """A kind whose callback "inbox" keeps what is published."""

    def __init__(self) -> None:
        self.messages: list[ChannelMessage] = []
        self.callbacks = Callbacks()
        self.callbacks.register("inbox", self.receive)
        self.kind = RedisPubsub(self.callbacks, clock=SystemClock(), random=random.Random(7))

    async def receive(self, message: ChannelMessage) -> None:
        self.messages.append(message)

    @property
    def heard(self) -> list[tuple[str, Any]]:
        return [(message.channel, message.data) for message in self.messages]


Scene = Callable[[Server, Any, Inbox], Awaitable[None]]


def play(directory: Path, scene: Scene) -> None:
    async def run(server: Server) -> None:
        async with Redis(port=server.port) as publisher:
            await scene(server, publisher, Inbox())

    with redis_server(directory) as server:
        asyncio.run(run(server))


def resource(server: Server, id: str = "r1", **fields: Any) -> Resource:
    fields = {"url": f"redis://127.0.0.1:{server.port}", "on_message": "inbox"} | fields
    return Resource(id, kind="redis_pubsub", **fields)


async def clients(publisher: Any) -> int:
    """How many connections the server has, without the publisher's own."""
    return len(await publisher.client_list()) - 1


def test_it_is_open_once_confirmed_and_delivers_what_is_published_with_its_token(tmp_path: Path) -> None:
    async def scene(server: Server, publisher: Any, inbox: Inbox) -> None:
        subject = resource(server, channels="news-{id}", patterns=["price.*"], decode="text")
        held = Held(inbox.kind, subject, token=17)
        await held.until_open()
        # Whoever publishes from now on is heard: the server says by how many.
        assert await publisher.publish("news-r1", "hello") == 1
        assert await publisher.publish("price.btc", "1") == 1
        assert await publisher.publish("elsewhere", "no") == 0
        await until(lambda: len(inbox.messages) == 2)
        await held.release()

        assert inbox.messages == [
            ChannelMessage("hello", held.hold, "news-r1", ""),
            ChannelMessage("1", held.hold, "price.btc", "price.*"),
        ]
        assert await publisher.publish("news-r1", "too late") == 0

    play(tmp_path, scene)


def test_many_resources_share_one_connection_and_each_hears_its_own(tmp_path: Path) -> None:
    async def scene(server: Server, publisher: Any, inbox: Inbox) -> None:
        many = [
            Held(inbox.kind, resource(server, f"r{number}", channels=["all", f"c{number}"]), token=number)
            for number in range(1, 101)
        ]
        await until(lambda: all(held.is_open for held in many))
        assert await clients(publisher) == 1

        await publisher.publish("c7", "for one")
        await until(lambda: len(inbox.messages) == 1)
        await many[0].release()
        await publisher.publish("all", "for the rest")
        await until(lambda: len(inbox.messages) == 100)
        await asyncio.gather(*(held.release() for held in many[1:]))

        assert inbox.messages[0].resource.id == "r7"
        assert {message.token for message in inbox.messages[1:]} == set(range(2, 101))
        await until_async(lambda: clients(publisher), 0)

    play(tmp_path, scene)


async def until_async(ask: Callable[[], Awaitable[int]], wanted: int) -> None:
    async with asyncio.timeout(10):
        while await ask() != wanted:
            await asyncio.sleep(0.01)


def test_sharded_channels_are_heard_too(tmp_path: Path) -> None:
    async def scene(server: Server, publisher: Any, inbox: Inbox) -> None:
        held = Held(inbox.kind, resource(server, sharded=["s1", "s2"]))
        await held.until_open()
        await publisher.execute_command("SPUBLISH", "s2", "hello")
        await until(lambda: inbox.heard == [("s2", b"hello")])
        await held.release()

    play(tmp_path, scene)


def test_when_the_server_is_killed_it_shows_and_when_it_is_back_all_hear_again(tmp_path: Path) -> None:
    async def scene(server: Server, publisher: Any, inbox: Inbox) -> None:
        many = [Held(inbox.kind, resource(server, f"r{n}", channels=[f"c{n}"]), token=n) for n in range(1, 11)]
        await until(lambda: all(held.is_open for held in many))
        await asyncio.to_thread(server.kill)
        await until(lambda: all(held.handle.condition is Condition.RETRYING for held in many))
        await asyncio.to_thread(server.start)
        await until(lambda: all(held.is_open for held in many), timeout_s=30)
        async with Redis(port=server.port) as again:
            assert await again.publish("c3", "back") == 1
            assert await clients(again) == 1
        await until(lambda: inbox.heard == [("c3", b"back")])
        await asyncio.gather(*(held.release() for held in many))

    play(tmp_path, scene)


def test_while_a_server_does_not_answer_it_is_not_open(tmp_path: Path) -> None:
    async def scene(server: Server, publisher: Any, inbox: Inbox) -> None:
        await publisher.execute_command("CLIENT", "PAUSE", "1000", "ALL")
        held = Held(inbox.kind, resource(server, channels=["c"]))
        await asyncio.sleep(0.5)
        assert not held.is_open
        await held.until_open()
        await held.release()

    play(tmp_path, scene)


def test_what_the_server_refuses_is_shown_and_costs_nobody_else_anything(tmp_path: Path) -> None:
    async def scene(server: Server, publisher: Any, inbox: Inbox) -> None:
        await publisher.execute_command("ACL", "SETUSER", "guest", "on", ">sesame", "resetchannels", "&open", "+@all")
        as_guest = {"username": "guest", "password": "sesame"}
        well = Held(inbox.kind, resource(server, "r1", channels=["open"], **as_guest), token=1)
        await well.until_open()
        ill = Held(inbox.kind, resource(server, "r2", channels=["secret"], **as_guest), token=2)
        wrong = Held(inbox.kind, resource(server, "r3", channels=["open"], username="guest", password="x"), token=3)
        await until(lambda: "NOPERM" in ill.handle.detail or "permission" in ill.handle.detail.lower())
        await until(lambda: wrong.handle.condition is Condition.RETRYING)
        await publisher.publish("open", "still here")
        await until(lambda: inbox.heard == [("open", b"still here")])

        assert well.conditions == [Condition.OPEN]
        assert "sesame" not in repr(ill.told + wrong.told)
        await asyncio.gather(well.release(), ill.release(), wrong.release())

    play(tmp_path, scene)


def test_what_comes_when_the_lease_is_over_is_not_delivered(tmp_path: Path) -> None:
    async def scene(server: Server, publisher: Any, inbox: Inbox) -> None:
        held = Held(inbox.kind, resource(server, channels=["c"]))
        await held.until_open()
        held.lease.deadline = 0.0
        await publisher.publish("c", "too late")
        await until(lambda: inbox.kind.counts.dropped_messages == 1)
        await held.end_lease()

        assert inbox.messages == []
        await until_async(lambda: clients(publisher), 0)

    play(tmp_path, scene)


def test_a_slow_callback_costs_its_own_oldest_messages_and_nobody_elses(tmp_path: Path) -> None:
    async def scene(server: Server, publisher: Any, inbox: Inbox) -> None:
        told: list[bytes] = []
        go = asyncio.Event()

        async def slow(message: ChannelMessage) -> None:
            told.append(message.data)
            await go.wait()

        inbox.callbacks.register("slow", slow)
        late = Held(inbox.kind, resource(server, "r1", channels=["c"], on_message="slow", queue=3), token=1)
        quick = Held(inbox.kind, resource(server, "r2", channels=["c"]), token=2)
        await late.until_open()
        await quick.until_open()
        await publisher.publish("c", "0")
        await until(lambda: told == [b"0"])
        for number in range(1, 11):
            await publisher.publish("c", str(number))
        await until(lambda: len(inbox.messages) == 11)
        go.set()
        await until(lambda: told == [b"0", b"8", b"9", b"10"])

        assert inbox.kind.counts.overflowed_messages == 7
        await asyncio.gather(late.release(), quick.release())

    play(tmp_path, scene)


def test_a_callback_that_raises_costs_its_message_only(tmp_path: Path) -> None:
    async def scene(server: Server, publisher: Any, inbox: Inbox) -> None:
        held = Held(inbox.kind, resource(server, channels=["c"], decode="json"))
        await held.until_open()
        await publisher.publish("c", "{")
        await publisher.publish("c", '{"a": 1}')
        await until(lambda: inbox.heard == [("c", {"a": 1})])

        assert inbox.kind.counts.callback_failures == 1
        assert held.conditions == [Condition.OPEN]
        await held.release()

    play(tmp_path, scene)


def test_where_nobody_listens_it_is_tried_again_and_shown() -> None:
    async def run() -> None:
        inbox = Inbox()
        held = Held(inbox.kind, Resource("r1", kind="redis_pubsub", url="redis://127.0.0.1:1", channels=["c"]))
        await until(lambda: held.handle.condition is Condition.RETRYING)
        assert "Redis at 127.0.0.1:1 cannot be reached" in held.handle.detail
        await held.release()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("url", None),
        ("url", "http://x"),
        ("url", "redis://x/database"),
        ("channels", None),
        ("channels", []),
        ("channels", ["a", 7]),
        ("channels", ["a", "a"]),
        ("patterns", ""),
        ("sharded", {}),
        ("username", 7),
        ("decode", "xml"),
        ("queue", 0),
        ("on_message", "unknown"),
    ],
)
def test_a_field_that_cannot_be_used_is_named(field: str, value: Any) -> None:
    given = {"url": "redis://x", "channels": ["c"]} | {field: value}
    subject = Resource("r1", kind="redis_pubsub", **{name: value for name, value in given.items() if value is not None})

    with pytest.raises(InvalidResource) as refused:
        Inbox().kind.validate(subject)

    assert refused.value.field == field
