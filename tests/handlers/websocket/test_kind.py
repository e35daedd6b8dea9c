"""The websocket kind against real servers on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from pydrm.agent.message import Message
from pydrm.core.records import Condition
from pydrm.core.resource import Resource
from pydrm.errors import InvalidResource
from pydrm.handlers.callbacks import Callbacks
from pydrm.handlers.websocket.kind import Websocket
from pydrm.testing.held import Held, until
from pydrm.testing.third_party import ThirdParty

pytestmark = pytest.mark.usefixtures("each_transport")


def play(scene: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scene())


class Inbox:
    """A kind whose callback "inbox" keeps what arrives."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.callbacks = Callbacks()
        self.callbacks.register("inbox", self.receive)
        self.kind = Websocket(self.callbacks)

    async def receive(self, message: Message) -> None:
        self.messages.append(message)

    @property
    def texts(self) -> list[str | bytes]:
        return [message.data for message in self.messages]


def resource(url: str, **fields: Any) -> Resource:
    return Resource("r1", kind="websocket", url=url, **fields)


@contextlib.asynccontextmanager
async def server(handler: Callable[[ServerConnection], Awaitable[None]], **options: Any) -> AsyncIterator[str]:
    listening: Server
    async with serve(handler, "127.0.0.1", 0, **options) as listening:
        yield f"ws://127.0.0.1:{next(iter(listening.sockets)).getsockname()[1]}/"


@contextlib.asynccontextmanager
async def silent_server() -> AsyncIterator[tuple[str, list[str]]]:
    """Accepts connections and never says a word; keeps a diary of them."""
    diary: list[str] = []
    writers: list[asyncio.StreamWriter] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        diary.append("accepted")
        writers.append(writer)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        diary.append("gone")

    listening = await asyncio.start_server(accept, "127.0.0.1", 0)
    yield f"ws://127.0.0.1:{listening.sockets[0].getsockname()[1]}/", diary
    listening.close()
    for writer in writers:
        writer.close()


def unused_url() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"ws://127.0.0.1:{taken.getsockname()[1]}/"


def test_it_is_open_once_the_third_party_has_it_connected_with_its_token() -> None:
    async def scene() -> None:
        async with ThirdParty() as third_party:
            held = Held(Inbox().kind, resource(third_party.url), token=17)
            await held.until_open()

            [stay] = third_party.diary.stays()
            assert (stay.resource, stay.node, stay.token) == ("r1", "a", 17)
            await held.release()

    play(scene)


def test_what_arrives_is_delivered_in_order_with_its_resource_and_token() -> None:
    async def scene() -> None:
        async def say(connection: ServerConnection) -> None:
            await connection.send("one")
            await connection.send(b"two")
            await connection.wait_closed()

        async with server(say) as url:
            inbox = Inbox()
            subject = resource(url, on_message="inbox")
            held = Held(inbox.kind, subject, token=17)
            await until(lambda: len(inbox.messages) == 2)

            assert inbox.messages == [Message("one", held.hold), Message(b"two", held.hold)]
            assert [(message.resource, message.token) for message in inbox.messages] == [(subject, 17)] * 2
            await held.release()

    play(scene)


def test_headers_are_sent_and_it_subscribes_before_it_is_open() -> None:
    async def scene() -> None:
        heard: list[Any] = []

        async def listen(connection: ServerConnection) -> None:
            heard.append(connection.request.headers["X-Token"])
            async for message in connection:
                heard.append(message)

        async with server(listen) as url:
            subject = resource(
                url, headers={"X-Token": "{token}"}, subscribe=["hello", {"op": "sub", "channel": "{id}"}]
            )
            held = Held(Inbox().kind, subject, token=17)
            await held.until_open()
            await held.release()
            await until(lambda: len(heard) == 3)

            assert heard == ["17", "hello", '{"op":"sub","channel":"r1"}']

    play(scene)


def test_compression_is_not_even_offered() -> None:
    async def scene() -> None:
        offered = []

        async def listen(connection: ServerConnection) -> None:
            offered.append(connection.request.headers.get("Sec-WebSocket-Extensions"))
            await connection.wait_closed()

        async with server(listen) as url:
            held = Held(Inbox().kind, resource(url))
            await held.until_open()
            await held.release()

            assert offered == [None]

    play(scene)


def test_messages_without_a_callback_are_read_and_dropped() -> None:
    """Unread, they would stop the connection's pings too."""

    async def scene() -> None:
        done = asyncio.Event()

        async def flood(connection: ServerConnection) -> None:
            for _ in range(1000):
                await connection.send("x" * 1000)
            await (await connection.ping())
            done.set()
            await connection.wait_closed()

        async with server(flood) as url:
            held = Held(Inbox().kind, resource(url))
            async with asyncio.timeout(10):
                await done.wait()
            await held.release()

    play(scene)


# --- connections that are lost ---------------------------------------------------------------------------------------


def test_a_lost_connection_is_opened_again_under_the_same_token() -> None:
    async def scene() -> None:
        async with ThirdParty() as third_party:
            held = Held(Inbox().kind, resource(third_party.url), token=17)
            await held.until_open()

            third_party.drop("r1")
            await until(lambda: held.conditions == [Condition.OPEN, Condition.RETRYING, Condition.OPEN])

            stays = third_party.diary.stays()
            assert [(stay.token, stay.lasts) for stay in stays] == [(17, False), (17, True)]
            assert held.told[1][1].startswith("connection lost")
            await held.release()

    play(scene)


def test_a_connection_that_the_third_party_closes_politely_is_opened_again_too() -> None:
    async def scene() -> None:
        connections = 0

        async def go_away(connection: ServerConnection) -> None:
            nonlocal connections
            connections += 1
            await connection.close(1001)

        async with server(go_away) as url:
            held = Held(Inbox().kind, resource(url))
            await until(lambda: connections == 3)
            await held.release()

            assert held.told[1][1] == "connection lost: received 1001 (going away); then sent 1001 (going away)"

    play(scene)


def test_a_third_party_that_is_down_shows_as_retrying_and_opens_when_it_is_up() -> None:
    async def scene() -> None:
        url = unused_url()
        held = Held(Inbox().kind, resource(url))
        await until(lambda: held.handle.condition is Condition.RETRYING)
        assert held.handle.detail.startswith("cannot connect: ")

        async def listen(connection: ServerConnection) -> None:
            await connection.wait_closed()

        async with serve(listen, "127.0.0.1", int(url.rsplit(":")[-1].strip("/"))):
            await held.until_open()
            await held.release()

    play(scene)


def test_a_refused_handshake_shows_its_status() -> None:
    async def scene() -> None:
        async def refuse(connection: ServerConnection, request: Any) -> Any:
            return connection.respond(403, "no\n")

        async def listen(connection: ServerConnection) -> None:
            raise AssertionError("refused before")

        async with server(listen, process_request=refuse) as url:
            held = Held(Inbox().kind, resource(url))
            await until(lambda: held.handle.condition is Condition.RETRYING)

            assert held.handle.detail == "refused with HTTP status 403"
            await held.release()

    play(scene)


def test_a_redirect_is_not_followed() -> None:
    async def scene() -> None:
        async def redirect(connection: ServerConnection, request: Any) -> Any:
            response = connection.respond(302, "")
            response.headers["Location"] = "ws://127.0.0.1:1/"
            return response

        async def listen(connection: ServerConnection) -> None:
            raise AssertionError("redirected before")

        async with server(listen, process_request=redirect) as url:
            held = Held(Inbox().kind, resource(url))
            await until(lambda: held.handle.condition is Condition.RETRYING)

            assert held.handle.detail == "refused with HTTP status 302, a redirect, which is not followed"
            await held.release()

    play(scene)


def test_through_a_proxy_a_redirect_is_not_followed_either() -> None:
    """The headers of the definition are for whom it names."""

    async def scene() -> None:
        async def redirect(connection: ServerConnection, request: Any) -> Any:
            response = connection.respond(302, "")
            response.headers["Location"] = elsewhere_url
            return response

        async def listen(connection: ServerConnection) -> None:
            raise AssertionError("redirected before")

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            target = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
            there_reader, there_writer = await asyncio.open_connection(*target.rsplit(":", 1))
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            await asyncio.gather(pour(reader, there_writer), pour(there_reader, writer))

        reached: list[str] = []

        async def note(connection: ServerConnection, request: Any) -> Any:
            reached.append(request.path)

        async with (
            server(listen, process_request=note) as elsewhere_url,
            server(listen, process_request=redirect) as url,
            await asyncio.start_server(relay, "127.0.0.1", 0) as proxy,
        ):
            proxy_url = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
            held = Held(Inbox().kind, resource(url, proxy=proxy_url, headers={"X-Key": "mine"}))
            await until(lambda: held.handle.condition is Condition.RETRYING)
            await held.release()

            assert "a redirect, which is not followed" in held.handle.detail
            assert reached == []

    play(scene)


async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(4096):
        writer.write(data)
    writer.close()


def test_a_third_party_that_says_nothing_is_given_up_after_open_timeout() -> None:
    async def scene() -> None:
        async with silent_server() as (url, diary):
            held = Held(Inbox().kind, resource(url, open_timeout=0.1))
            await until(lambda: held.handle.condition is Condition.RETRYING)
            await until(lambda: diary.count("accepted") >= 2)

            assert held.handle.detail == "not open within 0.1 s"
            await held.release()

    play(scene)


def test_a_host_that_does_not_exist_shows_as_retrying() -> None:
    async def scene() -> None:
        held = Held(Inbox().kind, resource("ws://pydrm.invalid/"))
        await until(lambda: held.handle.condition is Condition.RETRYING)
        await held.release()

        assert held.handle.detail.startswith("cannot connect: ")

    play(scene)


def test_a_proxy_is_used_if_the_resource_asks_for_one() -> None:
    async def scene() -> None:
        asked = []

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0].decode())
            host, port = asked[-1].split()[1].split(":")
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await source.read(4096):
                    sink.write(data)
            sink.close()

        async with ThirdParty() as third_party, await asyncio.start_server(relay, "127.0.0.1", 0) as proxy:
            proxy_url = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
            held = Held(Inbox().kind, resource(third_party.url, proxy=proxy_url))
            await held.until_open()
            assert asked == [f"CONNECT 127.0.0.1:{third_party.port} HTTP/1.1"]

            held.fence.shut_sockets()
            await until(lambda: not third_party.diary.stays()[0].lasts)
            await held.release()

    play(scene)


# --- the end of a hold -----------------------------------------------------------------------------------------------


def test_a_release_closes_with_a_handshake() -> None:
    async def scene() -> None:
        codes = []

        async def listen(connection: ServerConnection) -> None:
            with contextlib.suppress(ConnectionClosed):
                await connection.recv()
            codes.append(connection.close_code)

        async with server(listen) as url:
            held = Held(Inbox().kind, resource(url))
            await held.until_open()

            await held.release()
            await until(lambda: codes == [1000])
            assert held.fence.tokens() == []

    play(scene)


def test_a_third_party_that_never_answers_the_close_delays_a_release_by_a_fraction_of_a_second() -> None:
    async def scene() -> None:
        over = asyncio.Event()

        async def deaf(connection: ServerConnection) -> None:
            # It reads nothing any more, so it never sees the close frame.
            connection.transport.pause_reading()
            await over.wait()
            connection.transport.abort()

        async with server(deaf) as url:
            held = Held(Inbox().kind, resource(url))
            await held.until_open()
            began = time.monotonic()

            await held.release(close_timeout_s=30)

            assert time.monotonic() - began < 5
            assert held.fence.tokens() == []
            assert Condition.STUCK not in held.conditions
            over.set()

    play(scene)


def test_when_the_lease_ends_the_connection_is_aborted_without_a_handshake() -> None:
    async def scene() -> None:
        codes = []

        async def listen(connection: ServerConnection) -> None:
            with contextlib.suppress(ConnectionClosed):
                await connection.recv()
            codes.append(connection.close_code)

        async with server(listen) as url:
            held = Held(Inbox().kind, resource(url))
            await held.until_open()

            await held.end_lease()
            await until(lambda: codes == [1006])
            assert held.fence.tokens() == []

    play(scene)


def test_the_fence_alone_cuts_the_connection_even_if_this_loop_does_nothing() -> None:
    """The engine's thread does it while the app's loop is busy."""

    async def scene() -> None:
        async with ThirdParty() as third_party:
            held = Held(Inbox().kind, resource(third_party.url))
            await held.until_open()

            held.lease.deadline = 0.0
            held.fence.shut_sockets()
            await until(lambda: not third_party.diary.stays()[0].lasts)

            await asyncio.wait({held.task})
            assert len(third_party.diary.stays()) == 1

    play(scene)


def test_a_message_that_arrives_under_a_lease_that_is_over_is_dropped() -> None:
    async def scene() -> None:
        async with ThirdParty() as third_party:
            inbox = Inbox()
            held = Held(inbox.kind, resource(third_party.url, on_message="inbox"))
            await held.until_open()
            third_party.send("r1", "in time")
            await until(lambda: inbox.texts == ["in time"])

            held.lease.deadline = 0.0
            third_party.send("r1", "too late")
            await asyncio.wait({held.task})

            assert inbox.texts == ["in time"]
            assert inbox.kind.counts.dropped_messages == 1

    play(scene)


def test_a_message_that_waits_behind_a_slow_callback_is_dropped_if_the_lease_ends_meanwhile() -> None:
    async def scene() -> None:
        async with ThirdParty() as third_party:
            callbacks, seen = Callbacks(), []
            finish = asyncio.Event()

            async def slow(message: Message) -> None:
                seen.append(message.data)
                await finish.wait()

            callbacks.register("slow", slow)
            held = Held(Websocket(callbacks), resource(third_party.url, on_message="slow"))
            await held.until_open()
            third_party.send("r1", "first")
            third_party.send("r1", "second")
            await until(lambda: seen == ["first"])

            held.lease.deadline = 0.0
            finish.set()
            await asyncio.wait({held.task})

            assert seen == ["first"]

    play(scene)


def test_no_connection_is_made_under_a_lease_that_is_over() -> None:
    async def scene() -> None:
        async with ThirdParty() as third_party:
            held = Held(Inbox().kind, resource(third_party.url))
            held.lease.deadline = 0.0
            await asyncio.wait({held.task})

            assert third_party.diary.stays() == []

    play(scene)


def test_a_release_while_it_connects_leaves_nothing_behind() -> None:
    async def scene() -> None:
        async with silent_server() as (url, diary):
            held = Held(Inbox().kind, resource(url))
            await until(lambda: diary == ["accepted"])

            await held.release(close_timeout_s=1)

            assert held.fence.tokens() == []
            await until(lambda: diary == ["accepted", "gone"])

    play(scene)


# --- callbacks -------------------------------------------------------------------------------------------------------


def test_a_callback_that_raises_costs_its_message_and_not_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        async with ThirdParty() as third_party:
            callbacks, seen = Callbacks(), []

            async def fragile(message: Message) -> None:
                seen.append(message.data)
                if message.data == "bad":
                    raise ValueError("cannot parse")

            callbacks.register("fragile", fragile)
            kind = Websocket(callbacks)
            held = Held(kind, resource(third_party.url, on_message="fragile"), token=17)
            await held.until_open()
            third_party.send("r1", "bad")
            third_party.send("r1", "good")
            await until(lambda: seen == ["bad", "good"])

            assert kind.counts.callback_failures == 1
            assert held.conditions == [Condition.OPEN]
            await held.release()

    with caplog.at_level(logging.ERROR, logger="pydrm"):
        play(scene)

    assert [(record.resource, record.token) for record in caplog.records] == [("r1", 17)]


def test_a_callback_that_this_node_lacks_is_named_when_the_resource_is_added_here() -> None:
    kind = Inbox().kind

    with pytest.raises(InvalidResource, match=r"'trades'.*registered: inbox") as refused:
        kind.validate(resource("ws://x.example/", on_message="trades"))

    assert refused.value.field == "on_message"


def test_a_callback_that_this_node_lacks_is_shown_when_the_resource_came_from_elsewhere() -> None:
    async def scene() -> None:
        held = Held(Inbox().kind, resource("ws://x.example/", on_message="trades"))
        await until(lambda: held.handle.condition is Condition.RETRYING)

        assert held.handle.detail == "no callback 'trades' is registered on node 'a'"
        await held.release()

    play(scene)


def test_many_are_opened_and_released_at_once() -> None:
    async def scene() -> None:
        async with ThirdParty() as third_party:
            kind = Inbox().kind
            many = [
                Held(kind, Resource(f"r{number}", kind="websocket", url=third_party.url), token=number)
                for number in range(200)
            ]
            await until(lambda: all(held.is_open for held in many), timeout_s=30)
            await asyncio.gather(*(held.release() for held in many))

            assert len(third_party.diary.stays()) == 200
            await until(lambda: not third_party.diary.held())

    play(scene)
