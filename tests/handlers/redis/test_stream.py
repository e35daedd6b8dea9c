"""The redis_stream kind against a real redis-server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from pydrm.clock import SystemClock
from pydrm.core.records import Condition
from pydrm.core.resource import Resource
from pydrm.engine.codec import decode_checkpoint
from pydrm.errors import InvalidResource, Temporary, Unavailable
from pydrm.handlers.callbacks import Callbacks
from pydrm.handlers.redis.stream import Entry, RedisStream
from pydrm.testing.held import Held, until
from tests.counterparts import Server, redis_server


class Inbox:
    """A kind whose callback "inbox" keeps what is read."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.callbacks = Callbacks()
        self.callbacks.register("inbox", self.receive)
        self.kind = RedisStream(self.callbacks, clock=SystemClock())

    async def receive(self, entry: Entry) -> None:
        self.entries.append(entry)

    @property
    def numbers(self) -> list[int]:
        return [int(entry.data["n"]) for entry in self.entries]


Scene = Callable[[Server, Any, Inbox], Awaitable[None]]


def play(directory: Path, scene: Scene) -> None:
    async def run(server: Server) -> None:
        async with Redis(port=server.port) as writer:
            await scene(server, writer, Inbox())

    with redis_server(directory) as server:
        asyncio.run(run(server))


def resource(server: Server, **fields: Any) -> Resource:
    fields = {"streams": "orders", "on_message": "inbox", "decode": "text"} | fields
    return Resource("r1", kind="redis_stream", url=f"redis://127.0.0.1:{server.port}", **fields)


async def add(writer: Any, *numbers: int, stream: str = "orders", **options: Any) -> list[str]:
    return [(await writer.xadd(stream, {"n": number}, **options)).decode() for number in numbers]


def test_entries_are_delivered_in_order_with_their_ids_and_token(tmp_path: Path) -> None:
    async def scene(server: Server, writer: Any, inbox: Inbox) -> None:
        await add(writer, 1)
        subject = resource(server)
        held = Held(inbox.kind, subject, token=17)
        await held.until_open()
        ids = await add(writer, 2, 3)
        await until(lambda: len(inbox.entries) == 2)
        await held.release()

        assert inbox.entries == [
            Entry({"n": "2"}, held.hold, stream="orders", entry_id=ids[0]),
            Entry({"n": "3"}, held.hold, stream="orders", entry_id=ids[1]),
        ]

    play(tmp_path, scene)


def test_start_says_where_a_new_resource_begins(tmp_path: Path) -> None:
    async def scene(server: Server, writer: Any, inbox: Inbox) -> None:
        ids = await add(writer, 1, 2, 3)
        for start, numbers in {"0": [1, 2, 3], ids[1]: [3]}.items():
            inbox = Inbox()
            held = Held(inbox.kind, resource(server, start=start))
            await until(lambda inbox=inbox, numbers=numbers: inbox.numbers == numbers)
            await held.release()

    play(tmp_path, scene)


def test_what_is_published_during_a_move_is_read_by_the_next_holder(tmp_path: Path) -> None:
    async def scene(server: Server, writer: Any, inbox: Inbox) -> None:
        former = Held(inbox.kind, resource(server), token=17)
        await former.until_open()
        await add(writer, 1, 2)
        await until(lambda: len(inbox.entries) == 2)
        await former.release()
        await add(writer, 3, 4)
        following = Held(inbox.kind, resource(server), token=18, checkpoint=former.checkpoint)
        await until(lambda: len(inbox.entries) == 4)
        await following.release()

        assert inbox.numbers == [1, 2, 3, 4]
        assert [entry.token for entry in inbox.entries] == [17, 17, 18, 18]

    play(tmp_path, scene)


def test_a_move_before_the_first_entry_loses_nothing_either(tmp_path: Path) -> None:
    """Where it begins is saved before it shows as open; the stream need not even be there."""

    async def scene(server: Server, writer: Any, inbox: Inbox) -> None:
        former = Held(inbox.kind, resource(server), token=17)
        await former.until_open()
        await former.end_lease()
        await add(writer, 1)
        following = Held(inbox.kind, resource(server), token=18, checkpoint=former.checkpoint)
        await until(lambda: inbox.numbers == [1])
        await following.release()

    play(tmp_path, scene)


def test_several_streams_are_read_by_one_resource(tmp_path: Path) -> None:
    async def scene(server: Server, writer: Any, inbox: Inbox) -> None:
        held = Held(inbox.kind, resource(server, streams=["a", "b"]))
        await held.until_open()
        await add(writer, 1, stream="a")
        await add(writer, 2, stream="b")
        await until(lambda: len(inbox.entries) == 2)
        await held.release()

        assert {(entry.stream, entry.data["n"]) for entry in inbox.entries} == {("a", "1"), ("b", "2")}

    play(tmp_path, scene)


def test_when_the_server_is_killed_it_goes_on_where_it_was(tmp_path: Path) -> None:
    async def scene(server: Server, writer: Any, inbox: Inbox) -> None:
        held = Held(inbox.kind, resource(server))
        await held.until_open()
        await add(writer, 1)
        await until(lambda: inbox.numbers == [1])
        await asyncio.to_thread(server.kill)
        await until(lambda: held.handle.condition is Condition.RETRYING)
        await asyncio.to_thread(server.start)
        async with Redis(port=server.port) as again:
            await add(again, 2)
        await until(lambda: inbox.numbers == [1, 2], timeout_s=30)
        await held.release()

    play(tmp_path, scene)


def test_a_server_that_pauses_delays_and_nothing_more(tmp_path: Path) -> None:
    async def scene(server: Server, writer: Any, inbox: Inbox) -> None:
        held = Held(inbox.kind, resource(server))
        await held.until_open()
        await writer.execute_command("CLIENT", "PAUSE", "500", "ALL")
        await add(writer, 1)
        await until(lambda: inbox.numbers == [1])
        await held.release()

        assert held.conditions == [Condition.OPEN]

    play(tmp_path, scene)


def test_what_maxlen_cut_off_before_it_was_read_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scene(server: Server, writer: Any, inbox: Inbox) -> None:
        former = Held(inbox.kind, resource(server), token=17)
        await former.until_open()
        await add(writer, 1)
        await until(lambda: inbox.numbers == [1])
        await former.release()
        await add(writer, *range(2, 12), maxlen=3, approximate=False)
        following = Held(inbox.kind, resource(server), token=18, checkpoint=former.checkpoint)
        await until(lambda: inbox.numbers == [1, 9, 10, 11])
        await following.release()

        assert inbox.kind.counts.cut_off_entries == 7

    with caplog.at_level(logging.WARNING, logger="pydrm"):
        play(tmp_path, scene)

    assert [record.getMessage().split(" after ")[0] for record in caplog.records] == [
        "7 entries of the stream 'orders'"
    ]


def test_what_was_cut_off_after_it_was_read_is_none_of_anybodys_business(tmp_path: Path) -> None:
    async def scene(server: Server, writer: Any, inbox: Inbox) -> None:
        former = Held(inbox.kind, resource(server, start="0"), token=17)
        await former.until_open()
        await add(writer, 1, 2, 3)
        await until(lambda: inbox.numbers == [1, 2, 3])
        await former.release()
        await add(writer, 4, 5, maxlen=2, approximate=False)
        following = Held(inbox.kind, resource(server, start="0"), token=18, checkpoint=former.checkpoint)
        await until(lambda: inbox.numbers == [1, 2, 3, 4, 5])
        await following.release()

        assert inbox.kind.counts.cut_off_entries == 0

    play(tmp_path, scene)


def test_a_stream_that_began_anew_is_read_from_its_beginning(tmp_path: Path) -> None:
    """Its ids may be lower than those before; without that they would never be seen."""

    async def scene(server: Server, writer: Any, inbox: Inbox) -> None:
        former = Held(inbox.kind, resource(server), token=17)
        await former.until_open()
        await add(writer, 1)
        await until(lambda: inbox.numbers == [1])
        await former.release()
        await writer.delete("orders")
        await writer.xadd("orders", {"n": 2}, id="1-1")
        following = Held(inbox.kind, resource(server), token=18, checkpoint=former.checkpoint)
        await until(lambda: inbox.numbers == [1, 2])
        await following.release()

    play(tmp_path, scene)


def test_a_stream_that_begins_anew_while_it_is_read_is_read_from_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its ids may be lower because the server's clock was set back. Nothing says so but that nothing more comes."""
    monkeypatch.setattr("pydrm.handlers.redis.stream.BLOCK_S", 0.05)
    monkeypatch.setattr("pydrm.handlers.redis.stream.LOOK_AGAIN_S", 0.0)

    async def scene(server: Server, writer: Any, inbox: Inbox) -> None:
        held = Held(inbox.kind, resource(server))
        await held.until_open()
        await add(writer, 1)
        await until(lambda: inbox.numbers == [1])
        await writer.delete("orders")
        await writer.xadd("orders", {"n": 2}, id="1-1")
        await until(lambda: inbox.numbers == [1, 2])

        assert held.conditions == [Condition.OPEN]
        await held.release()

    play(tmp_path, scene)


def test_an_entry_whose_event_could_not_be_published_is_given_again(tmp_path: Path) -> None:
    """`hold.publish` says by Unavailable that nobody knows, and asks to be repeated: the entry must not be lost."""

    async def scene(server: Server, writer: Any, inbox: Inbox) -> None:
        told: list[str] = []

        async def pass_on(entry: Entry) -> None:
            told.append(entry.data["n"])
            if len(told) == 1:
                raise Unavailable("no majority answered")

        inbox.callbacks.register("pass on", pass_on)
        held = Held(inbox.kind, resource(server, on_message="pass on"))
        await held.until_open()
        await add(writer, 1, 2)
        await until(lambda: "2" in told)
        await held.release()

        assert told == ["1", "1", "2"]
        assert inbox.kind.counts.callback_failures == 0

    play(tmp_path, scene)


def test_a_callback_that_says_not_now_gets_the_same_entry_again(tmp_path: Path) -> None:
    async def scene(server: Server, writer: Any, inbox: Inbox) -> None:
        told: list[str] = []

        async def picky(entry: Entry) -> None:
            told.append(entry.data["n"])
            if entry.data["n"] == "1" and told.count("1") < 3:
                raise Temporary("the database is away", delay=0.05)
            if entry.data["n"] == "2":
                raise ValueError("never")

        inbox.callbacks.register("picky", picky)
        held = Held(inbox.kind, resource(server, on_message="picky"))
        await held.until_open()
        await add(writer, 1, 2, 3)
        await until(lambda: "3" in told)
        await held.release()

        assert told == ["1", "1", "1", "2", "3"]
        assert inbox.kind.counts.callback_failures == 1

    play(tmp_path, scene)


def test_the_position_is_noted_after_the_callback(tmp_path: Path) -> None:
    async def scene(server: Server, writer: Any, inbox: Inbox) -> None:
        at_work, go = asyncio.Event(), asyncio.Event()

        async def slow(entry: Entry) -> None:
            at_work.set()
            await go.wait()

        inbox.callbacks.register("slow", slow)
        held = Held(inbox.kind, resource(server, on_message="slow"))
        await held.until_open()
        before = held.checkpoint
        [id] = await add(writer, 1)
        await at_work.wait()
        assert held.checkpoint == before
        go.set()
        await until(lambda: held.checkpoint != before)
        await held.release()

        assert held.checkpoint is not None
        assert decode_checkpoint(held.checkpoint)["marks"] == {"orders": [id, 1]}

    play(tmp_path, scene)


def test_what_comes_when_the_lease_is_over_is_not_delivered(tmp_path: Path) -> None:
    async def scene(server: Server, writer: Any, inbox: Inbox) -> None:
        held = Held(inbox.kind, resource(server))
        await held.until_open()
        held.lease.deadline = 0.0
        await add(writer, 1)
        await until(lambda: inbox.kind.counts.dropped_messages == 1)
        await held.end_lease()

        assert inbox.entries == []

    play(tmp_path, scene)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("url", None),
        ("streams", None),
        ("streams", ["a"] * 2),
        ("streams", [f"s{number}" for number in range(17)]),
        ("streams", "x" * 129),
        ("start", "yesterday"),
        ("start", "1-"),
        ("count", 0),
        ("decode", "xml"),
        ("on_message", "unknown"),
    ],
)
def test_a_field_that_cannot_be_used_is_named(field: str, value: Any) -> None:
    given = {"url": "redis://x", "streams": "s"} | {field: value}
    subject = Resource("r1", kind="redis_stream", **{name: value for name, value in given.items() if value is not None})

    with pytest.raises(InvalidResource) as refused:
        Inbox().kind.validate(subject)

    assert refused.value.field == field
