"""What a websocket resource may be told, each against a real server on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from pydrm.agent.message import Message
from pydrm.core.records import Condition
from pydrm.core.resource import Resource
from pydrm.engine.codec import decode_checkpoint, encode_checkpoint
from pydrm.errors import Fenced, Permanent, Temporary
from pydrm.handlers.callbacks import Callbacks
from pydrm.handlers.websocket.kind import Websocket
from pydrm.testing.held import Held, until
from tests.handlers.self_signed import SelfSigned

Talk = Callable[[ServerConnection], Awaitable[None]]

pytestmark = pytest.mark.usefixtures("each_transport")


def play(scene: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await scene()

    asyncio.run(limited())


class Inbox:
    """
    A kind whose callback "inbox" keeps what arrives.

    Attributes:
        gate: The callback waits for it, after it has kept the message.
    """

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.gate = asyncio.Event()
        self.gate.set()
        callbacks = Callbacks()
        callbacks.register("inbox", self.receive)
        self.kind = Websocket(callbacks)

    async def receive(self, message: Message) -> None:
        self.messages.append(message)
        await self.gate.wait()
        if message.data == "bad" or message.data == {"bad": True}:
            raise ValueError("cannot parse")

    @property
    def data(self) -> list[Any]:
        return [message.data for message in self.messages]


def resource(url: str, **fields: Any) -> Resource:
    return Resource("r1", kind="websocket", url=url, on_message="inbox", **fields)


@contextlib.asynccontextmanager
async def server(talk: Talk, **options: Any) -> AsyncIterator[str]:
    async with serve(talk, "127.0.0.1", 0, **options) as listening:
        scheme = "wss" if "ssl" in options else "ws"
        yield f"{scheme}://127.0.0.1:{next(iter(listening.sockets)).getsockname()[1]}/"


async def stay(connection: ServerConnection) -> None:
    await connection.wait_closed()


def says(*messages: str | bytes) -> Talk:
    async def talk(connection: ServerConnection) -> None:
        for message in messages:
            await connection.send(message)
        await connection.wait_closed()

    return talk


# --- opening ---------------------------------------------------------------------------------------------------------


def test_subprotocols_are_offered_in_order() -> None:
    async def scene() -> None:
        chosen = []

        async def talk(connection: ServerConnection) -> None:
            chosen.append((connection.request.headers["Sec-WebSocket-Protocol"], connection.subprotocol))
            await connection.wait_closed()

        async with server(talk, subprotocols=["v2", "v1"]) as url:
            held = Held(Inbox().kind, resource(url, subprotocols=["v9", "v1"]))
            await held.until_open()
            await held.release()

            assert chosen == [("v9, v1", "v1")]

    play(scene)


@pytest.mark.parametrize("compression", ["off", "deflate"])
def test_compression_is_negotiated_if_it_is_asked_for(compression: str) -> None:
    async def scene() -> None:
        offered = []

        async def talk(connection: ServerConnection) -> None:
            offered.append("Sec-WebSocket-Extensions" in connection.response.headers)
            await connection.send("x" * 10_000)
            await connection.wait_closed()

        async with server(talk) as url:
            inbox = Inbox()
            held = Held(inbox.kind, resource(url, compression=compression))
            await until(lambda: inbox.data == ["x" * 10_000])
            await held.release()

            assert offered == [compression == "deflate"]

    play(scene)


def test_a_ca_of_its_own_is_trusted_and_no_other(tmp_path: Path) -> None:
    async def scene() -> None:
        own, other = SelfSigned(tmp_path / "own"), SelfSigned(tmp_path / "other")
        async with server(stay, ssl=own.context()) as url:
            held = Held(Inbox().kind, resource(url, tls_ca=str(own.certificate)))
            await held.until_open()
            await held.release()

            held = Held(Inbox().kind, resource(url, tls_ca=str(other.certificate)))
            await until(lambda: held.handle.condition is Condition.RETRYING)
            assert "CERTIFICATE_VERIFY_FAILED" in held.handle.detail
            await held.release()

            held = Held(Inbox().kind, resource(url, tls_ca=str(tmp_path / "none.pem")))
            await until(lambda: held.handle.condition is Condition.RETRYING)
            assert held.handle.detail == f"cannot connect: tls_ca {tmp_path}/none.pem: No such file or directory"
            await held.release()

    play(scene)


# --- refusals --------------------------------------------------------------------------------------------------------


def refuses(status: int, **headers: str) -> dict[str, Any]:
    def process(connection: ServerConnection, request: Any) -> Any:
        response = connection.respond(status, "no\n")
        for name, value in headers.items():
            response.headers[name.replace("_", "-")] = value
        return response

    return {"process_request": process}


async def failure(status: int, **headers: str) -> Exception:
    async with server(stay, **refuses(status, **headers)) as url:
        held = Held(Inbox().kind, resource(url))
        held.task.cancel()
        with pytest.raises((Temporary, Permanent)) as raised:
            await Inbox().kind.run(held.hold)
        return raised.value


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_waited_for_and_not_by_all_to_the_same_instant(status: int) -> None:
    async def scene() -> None:
        delays = set()
        for _ in range(5):
            error = await failure(status, Retry_After="30")
            assert isinstance(error, Temporary)
            assert error.delay is not None
            assert 30 <= error.delay <= 33
            delays.add(error.delay)
        assert len(delays) > 1

    play(scene)


def test_retry_after_may_be_a_date() -> None:
    async def scene() -> None:
        error = await failure(503, Retry_After=format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True))

        assert isinstance(error, Temporary)
        assert error.delay is not None
        assert 60 < error.delay <= 110

    play(scene)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
def test_what_may_pass_is_tried_again_after_a_backoff(status: int) -> None:
    async def scene() -> None:
        error = await failure(status)

        assert isinstance(error, Temporary)
        assert (str(error), error.delay) == (f"refused with HTTP status {status}", None)

    play(scene)


def test_what_is_gone_for_good_is_not_tried_again() -> None:
    async def scene() -> None:
        async with server(stay, **refuses(410)) as url:
            held = Held(Inbox().kind, resource(url))
            await until(lambda: held.handle.condition is Condition.FAILED)

            assert held.handle.detail == "refused with HTTP status 410: gone for good"
            await held.release()

    play(scene)


def test_a_connection_that_flaps_does_not_reset_the_backoff() -> None:
    """Each is open for an instant. A backoff that began anew would try some hundred times; full jitter, some ten."""

    async def scene() -> None:
        connections = 0

        async def talk(connection: ServerConnection) -> None:
            nonlocal connections
            connections += 1
            await connection.close(1011)

        async with server(talk) as url:
            held = Held(Inbox().kind, resource(url))
            held.handle._backoff.base_s, held.handle._backoff.cap_s = 0.01, 30.0
            await asyncio.sleep(2.0)
            await held.release()

            assert 3 <= connections <= 20

    play(scene)


# --- silence ---------------------------------------------------------------------------------------------------------


def test_a_connection_without_a_message_for_so_long_is_broken() -> None:
    async def scene() -> None:
        async with server(says("hello")) as url:
            inbox = Inbox()
            held = Held(inbox.kind, resource(url, idle_timeout=0.2))
            await until(lambda: inbox.data == ["hello", "hello"])

            assert (Condition.RETRYING, "connection lost: no message for 0.2 s") in held.told
            await held.release()

    play(scene)


def test_messages_keep_it_alive_and_pings_do_not() -> None:
    async def scene() -> None:
        async def talk(connection: ServerConnection) -> None:
            for _ in range(8):
                await connection.send("tick")
                await asyncio.sleep(0.1)
            while True:
                await connection.ping()
                await asyncio.sleep(0.05)

        async with server(talk) as url:
            inbox = Inbox()
            held = Held(inbox.kind, resource(url, idle_timeout=0.4))
            await until(lambda: len(inbox.data) >= 8)
            assert held.conditions == [Condition.OPEN]
            await until(lambda: held.handle.condition is Condition.RETRYING)
            await held.release()

    play(scene)


def test_a_callback_at_work_is_not_a_third_partys_silence() -> None:
    async def scene() -> None:
        async with server(says("one")) as url:
            inbox = Inbox()
            inbox.gate.clear()
            held = Held(inbox.kind, resource(url, idle_timeout=0.1))
            await until(lambda: inbox.data == ["one"])
            await asyncio.sleep(0.4)

            assert held.conditions == [Condition.OPEN]
            await held.release()

    play(scene)


async def upgrade_and_say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that is connected and answers nothing, pings neither."""
    from websockets.utils import accept_key

    request = (await reader.readuntil(b"\r\n\r\n")).decode()
    key = next(line.split(": ")[1] for line in request.split("\r\n") if line.startswith("Sec-WebSocket-Key"))
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        + f"Sec-WebSocket-Accept: {accept_key(key)}\r\n\r\n".encode()
    )
    with contextlib.suppress(ConnectionError):
        while await reader.read(1024):
            pass
    writer.close()


@pytest.mark.parametrize(("fields", "lost"), [({"ping_timeout": 0.1}, True), ({"ping_timeout": "off"}, False)])
def test_a_ping_without_an_answer_ends_it_unless_that_is_off(fields: dict[str, Any], lost: bool) -> None:
    async def scene() -> None:
        async with await asyncio.start_server(upgrade_and_say_nothing, "127.0.0.1", 0) as silent:
            url = f"ws://127.0.0.1:{silent.sockets[0].getsockname()[1]}/"
            held = Held(Inbox().kind, resource(url, ping_interval=0.1, **fields))
            await held.until_open()
            await asyncio.sleep(0.8)

            assert (Condition.RETRYING in held.conditions) is lost
            if lost:
                assert "1011" in str(held.told)
                assert "ping timeout" in str(held.told)
            held.handle.cut()
            await asyncio.wait({held.task})

    play(scene)


# --- what arrives ----------------------------------------------------------------------------------------------------


def test_json_is_decoded_and_what_is_none_is_counted_and_costs_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        async with server(says('{"id":1}', "not json", b"[2]", b"\xff", "NaN", "[" * 100_000, "3")) as url:
            inbox = Inbox()
            held = Held(inbox.kind, resource(url, decode="json"))
            await until(lambda: len(inbox.data) == 3)

            assert inbox.data == [{"id": 1}, [2], 3]
            assert inbox.kind.counts.undecodable_messages == 4
            assert held.conditions == [Condition.OPEN]
            await held.release()

    with caplog.at_level(logging.WARNING, logger="pydrm"):
        play(scene)
    assert len([record for record in caplog.records if "not JSON" in record.getMessage()]) == 1


def test_a_message_above_max_size_ends_the_connection_with_its_code() -> None:
    async def scene() -> None:
        async with server(says("x" * 101)) as url:
            held = Held(Inbox().kind, resource(url, max_size=100))
            await until(lambda: held.handle.condition is Condition.RETRYING)

            assert "1009 (message too big)" in held.handle.detail
            await held.release()

    play(scene)


def test_a_full_queue_waits_by_default_so_nothing_is_lost() -> None:
    async def scene() -> None:
        messages = [str(number) for number in range(500)]
        async with server(says(*messages)) as url:
            inbox = Inbox()
            inbox.gate.clear()
            held = Held(inbox.kind, resource(url, queue=2))
            await until(lambda: len(inbox.data) == 1)
            await asyncio.sleep(0.1)
            inbox.gate.set()
            await until(lambda: len(inbox.data) == 500)

            assert inbox.data == messages
            await held.release()

    play(scene)


def test_a_full_queue_drops_the_oldest_if_it_is_told_to() -> None:
    async def scene() -> None:
        async with server(says(*"0123456789")) as url:
            inbox = Inbox()
            inbox.gate.clear()
            held = Held(inbox.kind, resource(url, queue=3, when_full="drop_oldest"))
            await until(lambda: inbox.kind.counts.overflowed_messages == 6)
            inbox.gate.set()
            await until(lambda: len(inbox.data) == 4)

            assert inbox.data == ["0", "7", "8", "9"]
            assert held.conditions == [Condition.OPEN]
            await held.release()

    play(scene)


def test_a_full_queue_disconnects_if_it_is_told_to_and_delivers_what_it_has() -> None:
    async def scene() -> None:
        async with server(says(*"01234")) as url:
            inbox = Inbox()
            inbox.gate.clear()
            held = Held(inbox.kind, resource(url, queue=3, when_full="disconnect"))
            await until(lambda: inbox.data == ["0"])
            await asyncio.sleep(0.2)
            inbox.gate.set()
            await until(lambda: Condition.RETRYING in held.conditions)
            await held.release()

            assert inbox.data[:4] == ["0", "1", "2", "3"]
            assert held.told[1][1] == "connection lost: 3 messages wait for the callback, and one more came"

    play(scene)


def test_what_waits_in_a_queue_is_not_delivered_once_the_lease_is_over() -> None:
    async def scene() -> None:
        async with server(says(*"0123")) as url:
            inbox = Inbox()
            inbox.gate.clear()
            held = Held(inbox.kind, resource(url, queue=10, when_full="drop_oldest"))
            await until(lambda: inbox.data == ["0"])
            await asyncio.sleep(0.1)

            held.lease.deadline = 0.0
            inbox.gate.set()
            await asyncio.sleep(0.1)
            await held.end_lease()

            assert inbox.data == ["0"]

    play(scene)


# --- going on from a checkpoint --------------------------------------------------------------------------------------


async def replay(connection: ServerConnection) -> None:
    """Sends what follows last_id, up to 9, five at a time, and then hangs up."""
    last = int(connection.request.path.rpartition("=")[2])
    for number in range(last + 1, min(last + 6, 10)):
        await connection.send(f'{{"id":{number}}}')
    if last + 6 < 10:
        await connection.close(1012)
    await connection.wait_closed()


def test_the_next_connection_goes_on_after_what_was_delivered() -> None:
    async def scene() -> None:
        async with server(replay) as url:
            inbox = Inbox()
            subject = resource(
                f"{url}?last_id={{checkpoint}}", checkpoint_start=0, decode="json", checkpoint_field="id"
            )
            held = Held(inbox.kind, subject)
            await until(lambda: len(inbox.data) >= 9)
            await held.release()

            assert inbox.data == [{"id": number} for number in range(1, 10)]
            assert decode_checkpoint(held.checkpoint) == 9

    play(scene)


def test_the_next_holder_goes_on_after_what_the_last_one_saved() -> None:
    async def scene() -> None:
        async with server(replay) as url:
            inbox = Inbox()
            subject = resource(f"{url}?last_id={{checkpoint}}", decode="json", checkpoint_field="id")
            held = Held(inbox.kind, subject, checkpoint=encode_checkpoint(7))
            await until(lambda: len(inbox.data) == 2)
            await held.release()

            assert inbox.data == [{"id": 8}, {"id": 9}]

    play(scene)


def test_a_message_whose_callback_raises_does_not_count_as_delivered() -> None:
    async def scene() -> None:
        async with server(says('{"id":1}', '{"bad":true}', '{"other":2}')) as url:
            inbox = Inbox()
            held = Held(inbox.kind, resource(url, decode="json", checkpoint_field="id"))
            await until(lambda: len(inbox.data) == 3)
            await asyncio.sleep(0.05)

            assert decode_checkpoint(held.checkpoint) == 1
            await held.release()

    play(scene)


def test_a_callback_may_say_by_itself_how_far_it_is_and_answer() -> None:
    async def scene() -> None:
        heard = []

        async def talk(connection: ServerConnection) -> None:
            await connection.send("one")
            heard.append(await connection.recv())
            await connection.wait_closed()

        callbacks = Callbacks()

        async def receive(message: Message) -> None:
            assert message.valid
            await message.checkpoint({"after": message.data})
            await message.reply(b"got it")

        callbacks.register("inbox", receive)
        async with server(talk) as url:
            held = Held(Websocket(callbacks), resource(url))
            await until(lambda: heard == [b"got it"])

            assert decode_checkpoint(held.checkpoint) == {"after": "one"}
            await held.release()

    play(scene)


def test_a_position_that_cannot_be_saved_costs_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        async with server(says(f'{{"id":"{"x" * 5000}"}}', '{"id":2}')) as url:
            inbox = Inbox()
            held = Held(inbox.kind, resource(url, decode="json", checkpoint_field="id"))
            await until(lambda: held.checkpoint is not None)

            assert len(inbox.data) == 2
            assert decode_checkpoint(held.checkpoint) == 2
            await held.release()

    play(scene)


# --- sending and leaving ---------------------------------------------------------------------------------------------


def test_what_is_sent_is_text_or_binary_as_it_was_given() -> None:
    async def scene() -> None:
        heard: list[Any] = []

        async def talk(connection: ServerConnection) -> None:
            with contextlib.suppress(ConnectionClosed):
                async for message in connection:
                    heard.append(message)

        async with server(talk) as url:
            held = Held(Inbox().kind, resource(url))
            await held.until_open()
            for data in ("text", b"binary", ""):
                await held.hold.send(data)
            await until(lambda: heard == ["text", b"binary", ""])
            await held.release()

    play(scene)


def test_nothing_is_sent_before_it_is_open_or_after_the_hold() -> None:
    async def scene() -> None:
        async with server(stay) as url:
            held = Held(Inbox().kind, resource(url))
            with pytest.raises(Permanent):
                await held.hold.send("early")
            await held.until_open()
            await held.end_lease()
            with pytest.raises(Fenced):
                await held.hold.send("late")

    play(scene)


def test_sending_waits_until_the_operating_system_has_it_all() -> None:
    """A third party that does not read: what is not taken is not reported as sent."""

    async def scene() -> None:
        async with await asyncio.start_server(_upgrade_and_never_read, "127.0.0.1", 0) as deaf:
            url = f"ws://127.0.0.1:{deaf.sockets[0].getsockname()[1]}/"
            held = Held(Inbox().kind, resource(url, ping_interval="off"))
            await held.until_open()
            sending = asyncio.create_task(held.hold.send(b"x" * 64_000_000))
            await asyncio.sleep(0.3)

            assert not sending.done()
            held.handle.cut()
            with pytest.raises((ConnectionClosed, Fenced)):
                await sending
            await asyncio.wait({held.task})

    play(scene)


async def _upgrade_and_never_read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    from websockets.utils import accept_key

    request = (await reader.readuntil(b"\r\n\r\n")).decode()
    key = next(line.split(": ")[1] for line in request.split("\r\n") if line.startswith("Sec-WebSocket-Key"))
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        + f"Sec-WebSocket-Accept: {accept_key(key)}\r\n\r\n".encode()
    )
    await writer.drain()
    writer.transport.pause_reading()
    await asyncio.sleep(2)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


def test_it_unsubscribes_before_a_polite_close_and_only_then() -> None:
    async def scene() -> None:
        heard: list[list[Any]] = []

        async def talk(connection: ServerConnection) -> None:
            heard.append([])
            with contextlib.suppress(ConnectionClosed):
                async for message in connection:
                    heard[-1].append(message)
            heard[-1].append(connection.close_code)

        async with server(talk) as url:
            subject = resource(url, subscribe="sub {token}", unsubscribe=["unsub {id}", {"op": "bye"}])
            held = Held(Inbox().kind, subject)
            await held.until_open()
            await held.release()
            held = Held(Inbox().kind, subject)
            await held.until_open()
            await held.end_lease()
            await until(lambda: len(heard) == 2 and isinstance(heard[1][-1], int))

            assert heard == [["sub 7", "unsub r1", '{"op":"bye"}', 1000], ["sub 7", 1006]]

    play(scene)
