"""Every kind that comes with pydrm keeps what is promised of all kinds; and who does not is found out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from pydrm.agent.hold import Hold
from pydrm.core.resource import Resource
from pydrm.handlers.callbacks import Callbacks
from pydrm.handlers.custom import FunctionKind
from pydrm.handlers.dial import dial
from pydrm.handlers.websocket.kind import Websocket
from pydrm.testing.conformance import check_kind
from pydrm.testing.ports import Ports
from pydrm.testing.third_party import ThirdParty

PORTS = Ports()


class Listener:
    """A TCP server at a port of its own that sees who is connected."""

    def __init__(self) -> None:
        self.port = PORTS.reserve()
        self._connections: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in list(self._connections):
            writer.transport.abort()
        while self._connections:
            await asyncio.sleep(0.001)

    def is_held(self) -> bool:
        return bool(self._connections)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            await reader.read()
        except ConnectionError:
            pass
        finally:
            self._connections.discard(writer)
            writer.close()


def kind_of(listener: Listener, hold_it: Callable[[Hold, Listener], object]) -> FunctionKind:
    async def function(hold: Hold) -> None:
        await hold_it(hold, listener)  # type: ignore[misc]

    return FunctionKind(function)


async def as_it_should(hold: Hold, listener: Listener) -> None:
    sock = await dial(hold, "127.0.0.1", listener.port, timeout_s=5)
    try:
        hold.ready()
        if not await asyncio.get_running_loop().sock_recv(sock, 1):
            raise ConnectionResetError("the server is gone")
    finally:
        sock.close()


async def never_closing(hold: Hold, listener: Listener) -> None:
    LEAKED.append(await asyncio.open_connection("127.0.0.1", listener.port))  # guarded by nobody
    hold.ready()
    await asyncio.Event().wait()


async def never_noticing(hold: Hold, listener: Listener) -> None:
    sock = await dial(hold, "127.0.0.1", listener.port, timeout_s=5)
    try:
        hold.ready()
        await asyncio.Event().wait()
    finally:
        sock.close()


async def too_sure(hold: Hold, listener: Listener) -> None:
    hold.ready()
    await asyncio.Event().wait()


LEAKED: list[object] = []


def test_a_kind_that_does_as_it_should_passes() -> None:
    async def scene() -> None:
        listener = Listener()
        await check_kind(kind_of(listener, as_it_should), Resource("r", kind="tcp"), listener)

    asyncio.run(scene())


def test_what_an_app_registers_as_a_handler_is_a_kind_too() -> None:
    async def scene() -> None:
        listener = Listener()

        async def handler(hold: Hold) -> None:
            await as_it_should(hold, listener)

        await check_kind(handler, Resource("r", kind="tcp"), listener)

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("hold_it", "broken"),
    [
        (never_closing, "released"),
        (never_noticing, "still says that it is open"),
        (too_sure, "does not see it"),
    ],
)
def test_a_kind_that_breaks_a_promise_is_found_out(
    hold_it: Callable[[Hold, Listener], object], broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pydrm.testing.conformance.checked.PATIENCE_S", 0.5)

    async def scene() -> None:
        listener = Listener()
        with pytest.raises(AssertionError, match=broken):
            await check_kind(kind_of(listener, hold_it), Resource("r", kind="tcp"), listener)
        LEAKED.clear()

    asyncio.run(scene())


class Sockets:
    """The third party of the kind "websocket"."""

    def __init__(self) -> None:
        self.port = PORTS.reserve()
        self._third_party: ThirdParty | None = None

    async def start(self) -> None:
        self._third_party = ThirdParty()
        await self._third_party.start(port=self.port)

    async def stop(self) -> None:
        if self._third_party is not None:
            await self._third_party.close()
            self._third_party = None

    def is_held(self) -> bool:
        return self._third_party is not None and self._third_party.connection_count > 0


@pytest.mark.usefixtures("each_transport")
def test_websocket() -> None:
    async def scene() -> None:
        sockets = Sockets()
        url = f"ws://127.0.0.1:{sockets.port}/r/{{id}}?node={{node}}&token={{token}}"
        await check_kind(
            Websocket(Callbacks()),
            Resource("r", kind="websocket", url=url),
            sockets,
            refused=[
                (Resource("r", kind="websocket"), "url"),
                (Resource("r", kind="websocket", url="http://x"), "url"),
                (Resource("r", kind="websocket", url=url, headers=[]), "headers"),
                (Resource("r", kind="websocket", url=url, on_message="nobody"), "on_message"),
            ],
        )

    asyncio.run(scene())
