"""What a connection must be and do, whichever library makes it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from pydrm import ResourceManager
from pydrm.agent.message import Message
from pydrm.core.records import Condition
from pydrm.core.resource import Resource
from pydrm.errors import ConfigurationError
from pydrm.handlers.callbacks import Callbacks
from pydrm.handlers.websocket.kind import Websocket
from pydrm.handlers.websocket.transport import connect_by
from pydrm.testing.held import Held, until
from tests.handlers.self_signed import SelfSigned

each_transport = pytest.mark.usefixtures("each_transport")


def play(scene: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await scene()

    asyncio.run(limited())


class Server:
    """
    Attributes:
        asked: The headers of each handshake.
        gone: How many clients have gone.
    """

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[Any] = []
        self.gone = 0

    @contextlib.asynccontextmanager
    async def run(
        self, talk: Callable[[ServerConnection], Awaitable[None]] | None = None, **options: Any
    ) -> AsyncIterator[Server]:
        async def handle(connection: ServerConnection) -> None:
            self.asked.append(connection.request.headers)
            try:
                if talk is not None:
                    await talk(connection)
            finally:
                await connection.wait_closed()
                self.gone += 1

        async with serve(handle, "127.0.0.1", 0, **options) as listening:
            port = next(iter(listening.sockets)).getsockname()[1]
            self.url = f"{'wss' if 'ssl' in options else 'ws'}://127.0.0.1:{port}/"
            yield self


def kind() -> Websocket:
    return Websocket(Callbacks())


def resource(url: str, **fields: Any) -> Resource:
    return Resource("r1", kind="websocket", url=url, **fields)


# --- what a hold rests on --------------------------------------------------------------------------------------------


@each_transport
def test_the_fence_alone_cuts_a_connection_with_tls_too(tmp_path: Path) -> None:
    async def scene() -> None:
        own = SelfSigned(tmp_path / "own")
        async with Server().run(ssl=own.context()) as server:
            held = Held(kind(), resource(server.url, tls_ca=str(own.certificate)))
            await held.until_open()

            held.lease.deadline = 0.0
            held.fence.shut_sockets()
            await until(lambda: server.gone == 1)

            await asyncio.wait({held.task})
            assert len(server.asked) == 1

    play(scene)


@each_transport
@pytest.mark.parametrize("politely", [True, False])
def test_one_that_is_not_being_read_is_left_all_the_same(politely: bool) -> None:
    """The callback does not return, so reading has stopped, and the close frame is behind what nobody reads."""

    async def scene() -> None:
        async def flood(connection: ServerConnection) -> None:
            with contextlib.suppress(Exception):
                while True:
                    await connection.send("x" * 1000)

        callbacks = Callbacks()
        at_work = asyncio.Event()

        async def stay(message: Message) -> None:
            at_work.set()
            await asyncio.Event().wait()

        callbacks.register("stay", stay)
        async with Server().run(flood) as server:
            held = Held(Websocket(callbacks), resource(server.url, on_message="stay", queue=1))
            await at_work.wait()
            await (held.release(close_timeout_s=30) if politely else held.end_lease())

            assert held.fence.tokens() == []
            assert Condition.STUCK not in held.conditions
            await until(lambda: server.gone == 1)

    play(scene)


# --- the handshake ---------------------------------------------------------------------------------------------------


@each_transport
def test_a_certificate_for_another_name_is_refused(tmp_path: Path) -> None:
    async def scene() -> None:
        own = SelfSigned(tmp_path / "own")
        async with Server().run(ssl=own.context()) as server:
            url = server.url.replace("127.0.0.1", "localhost")
            held = Held(kind(), resource(url, tls_ca=str(own.certificate)))
            await until(lambda: held.handle.condition is Condition.RETRYING)

            assert "CERTIFICATE_VERIFY_FAILED" in held.handle.detail
            assert server.asked == []
            await held.release()

    play(scene)


@each_transport
def test_one_that_is_lost_before_there_was_an_answer_cannot_be_connected() -> None:
    async def scene() -> None:
        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.close()

        async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as listening:
            port = listening.sockets[0].getsockname()[1]
            held = Held(kind(), resource(f"ws://127.0.0.1:{port}/"))
            await until(lambda: held.handle.condition is Condition.RETRYING)

            assert held.handle.detail.startswith("cannot connect: ")
            await held.release()

    play(scene)


@each_transport
@pytest.mark.parametrize("answer", ["Sec-WebSocket-Protocol: v9", "Sec-WebSocket-Extensions: permessage-deflate"])
def test_a_server_that_chooses_what_it_was_not_offered_is_refused(answer: str) -> None:
    async def scene() -> None:
        async def choose(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            from websockets.utils import accept_key

            lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            key = next(line.split(": ")[1] for line in lines if line.lower().startswith("sec-websocket-key"))
            head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            writer.write(f"{head}Sec-WebSocket-Accept: {accept_key(key)}\r\n{answer}\r\n\r\n".encode())
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.close()

        async with await asyncio.start_server(choose, "127.0.0.1", 0) as listening:
            port = listening.sockets[0].getsockname()[1]
            held = Held(kind(), resource(f"ws://127.0.0.1:{port}/", subprotocols=["v1"]))
            await until(lambda: held.handle.condition is Condition.RETRYING)

            assert held.handle.detail.startswith("cannot connect: ")
            await held.release()

    play(scene)


@each_transport
def test_a_name_and_a_password_in_the_url_are_sent_in_a_header_and_a_user_agent_of_its_own_once() -> None:
    async def scene() -> None:
        async with Server().run() as server:
            url = server.url.replace("ws://", "ws://me:p%40ss@")
            held = Held(kind(), resource(url, headers={"user-agent": "mine"}))
            await held.until_open()
            await held.release()

            [asked] = server.asked
            assert asked["Authorization"] == "Basic bWU6cEBzcw=="
            assert asked.get_all("User-Agent") == ["mine"]
            assert asked.get_all("Host") == [server.url.removeprefix("ws://").rstrip("/")]

    play(scene)


# --- which one it is -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "made_by"), [({}, "picows/"), ({"compression": "deflate"}, "Python/")], ids=["plain", "compressed"]
)
def test_a_node_with_picows_makes_its_connections_with_it_but_for_those_that_it_must_not(
    fields: dict[str, str], made_by: str
) -> None:
    pytest.importorskip("picows")

    async def scene() -> None:
        async with (
            Server().run() as server,
            ResourceManager(cluster="orders", node="a", websocket_transport="picows") as drm,
        ):
            await drm.add(resource(server.url, **fields))
            await until(lambda: len(server.asked) == 1)

        assert server.asked[0]["User-Agent"].startswith(made_by)

    play(scene)


def test_what_is_not_installed_is_named_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picows", None)
    monkeypatch.delitem(sys.modules, "pydrm.handlers.websocket.by_picows", raising=False)
    monkeypatch.delattr("pydrm.handlers.websocket.by_picows", raising=False)

    with pytest.raises(ConfigurationError, match=r"pip install 'pydrm\[fast\]'") as refused:
        connect_by("picows")

    assert refused.value.field == "websocket_transport"
