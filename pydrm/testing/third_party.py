"""
A websocket server that keeps a diary of who is connected for what.

It plays the third party to which the nodes hold connections, and it is the judge of every
acceptance test, so its diary must be right to the millisecond while 1,000 connections arrive at
once. Three things follow:

- It drives the Sans-I/O `ServerProtocol` of websockets itself, one `asyncio.Protocol` for each
  connection and no task: half the cost of `websockets.asyncio.server`, and the end of a connection
  is seen where the transport sees it, not where a closing handshake is through. A process that was
  killed is thus gone from the diary as soon as the kernel has closed its sockets.
- A connection is written down before its handshake is answered, so no client can believe that it
  is connected before the diary does.
- When one selector wake-up brings the end of one connection and the request of the next, they come
  in no particular order. A beginning is therefore put off by two rounds of the loop, in which every
  end that was already there is handled.

    python -m pydrm.testing.third_party --port 0 --diary diary.jsonl

prints its port, appends one line of JSON for each event, and runs until SIGTERM or until its
standard input ends.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import resource as limits
import signal
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self, cast
from urllib.parse import parse_qs, unquote, urlsplit

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from pydrm.testing.diary import Diary, Event, What

__all__ = ["ThirdParty", "main"]

MESSAGE_CHARACTERS_MAX = 200
BACKLOG = 4096

# websockets logs each handshake and frame; at 1,000 connections a second even the disabled levels cost.
_silent = logging.getLogger(f"{__name__}.connection")
_silent.disabled = True


class ThirdParty:
    """
    The server. All methods belong to the loop it was started on.

    A client connects to `/r/{resource}?node={node}&token={token}`; *resource* may be percent-encoded,
    node and token may be left out. Sends no pings and compresses nothing.

    Attributes:
        diary: Everything so far.
    """

    def __init__(self, *, listener: Callable[[Event], None] | None = None) -> None:
        """*listener* is called with each event right after the diary has it."""
        self.diary = Diary()
        self._listener = listener
        self._connections: dict[int, _Connection] = {}
        self._count = 0
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), host, port, backlog=BACKLOG)
        self.port = self._server.sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        """The url field of a websocket resource that is held here."""
        return f"ws://127.0.0.1:{self.port}/r/{{id}}?node={{node}}&token={{token}}"

    @property
    def connection_count(self) -> int:
        """How many are connected now."""
        return len(self._connections)

    def send(self, resource: str, text: str) -> int:
        """Send *text* to whoever is connected for *resource*; return to how many."""
        return sum(connection.send(text) for connection in self._of(resource))

    def drop(self, resource: str) -> int:
        """Cut every connection for *resource*, without a closing handshake; return how many."""
        dropped = self._of(resource)
        for connection in dropped:
            connection.abort()
        return len(dropped)

    async def close(self) -> None:
        """Stop listening and cut every connection."""
        if self._server is None:
            return
        self._server.close()
        for connection in list(self._connections.values()):
            connection.abort()
        self._server = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    def _of(self, resource: str) -> list[_Connection]:
        return [connection for connection in self._connections.values() if connection.resource == resource]

    def _connected(self, connection: _Connection) -> None:
        self._count += 1
        connection.number = self._count
        self._connections[connection.number] = connection
        self._write(What.CONNECTED, connection)

    def _disconnected(self, connection: _Connection) -> None:
        del self._connections[connection.number]
        self._write(What.DISCONNECTED, connection)

    def _write(self, what: What, connection: _Connection, text: str = "") -> None:
        event = Event(
            time.monotonic(),
            what,
            connection.number,
            connection.resource,
            connection.node,
            connection.token,
            text,
        )
        self.diary.record(event)
        if self._listener is not None:
            self._listener(event)


class _Connection(asyncio.Protocol):
    """One TCP connection; *number* is 0 until it is in the diary."""

    def __init__(self, third_party: ThirdParty) -> None:
        self._third_party = third_party
        self._protocol = ServerProtocol(logger=_silent)
        self._transport: asyncio.Transport | None = None
        self._gone = False
        self._message = b""
        self.number = 0
        self.resource = ""
        self.node = ""
        self.token = 0

    # Called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                loop = asyncio.get_running_loop()
                loop.call_soon(loop.call_soon, self._answer, event)
            else:
                self._received(event)
        self._flush()

    def eof_received(self) -> None:
        self._lost()

    def connection_lost(self, error: Exception | None) -> None:
        self._lost()

    # Called by the third party.

    def send(self, text: str) -> bool:
        self._protocol.send_text(text.encode())
        self._flush()
        return True

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _answer(self, request: Request) -> None:
        if self._gone:
            return
        problem = self._read_target(request.path)
        response = self._protocol.reject(404, f"{problem}\n") if problem else self._protocol.accept(request)
        if response.status_code == 101:
            self._third_party._connected(self)
        self._protocol.send_response(response)
        self._flush()

    def _read_target(self, target: str) -> str:
        """Take resource, node and token from the request's target; return what is wrong with it, or ""."""
        parts = urlsplit(target)
        if not parts.path.startswith("/r/") or parts.path == "/r/":
            return "only /r/{resource}?node={node}&token={token} is served here"
        query = parse_qs(parts.query)
        token = query.get("token", ["0"])[0]
        if not token.isdecimal():
            return "token must be a number"
        self.resource = unquote(parts.path.removeprefix("/r/"))
        self.node = query.get("node", [""])[0]
        self.token = int(token)
        return ""

    def _received(self, frame: object) -> None:
        if not isinstance(frame, Frame) or not self.number:
            return
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._message = b""
        elif frame.opcode is not Opcode.CONT:  # ping, pong or close; ServerProtocol answers them
            return
        self._message = (self._message + bytes(frame.data))[: 4 * MESSAGE_CHARACTERS_MAX]
        if frame.fin:
            text = self._message.decode(errors="replace")[:MESSAGE_CHARACTERS_MAX]
            self._third_party._write(What.MESSAGE, self, text)

    def _flush(self) -> None:
        if self._transport is None or self._gone:
            return
        for data in self._protocol.data_to_send():
            # ServerProtocol says with b"" that the sending side is to be closed. The connection is over
            # when the client has closed its side as well: until then the client may well believe in it.
            if data:
                self._transport.write(data)
            elif self._transport.can_write_eof():
                self._transport.write_eof()

    def _lost(self) -> None:
        if self._gone:
            return
        self._gone = True
        if self.number:
            self._third_party._disconnected(self)


class _DiaryFile:
    """Appends lines; writes them out once in each round of the loop that brought any."""

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._loop = loop
        self._waiting = False

    def append(self, event: Event) -> None:
        self._file.write(event.to_line() + "\n")
        if not self._waiting:
            self._waiting = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._waiting = False
        self._file.flush()

    def close(self) -> None:
        self._file.close()


async def _serve(host: str, port: int, path: Path) -> None:
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    await _watch_input(over)
    with contextlib.closing(_DiaryFile(path, loop)) as file:
        third_party = ThirdParty(listener=file.append)
        await third_party.start(host, port)
        print(third_party.port, flush=True)
        await over.wait()
        await third_party.close()
        await asyncio.sleep(0)  # the ends of the connections that were just cut


async def _watch_input(over: asyncio.Event) -> None:
    """Set *over* when standard input ends: whoever started this process is gone."""

    class Input(asyncio.Protocol):
        def connection_lost(self, error: Exception | None) -> None:
            over.set()

    # A terminal must not end it, and a file cannot be watched: then only signals do.
    if stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode):
        await asyncio.get_running_loop().connect_read_pipe(Input, sys.stdin)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m pydrm.testing.third_party", description="A websocket server that keeps a diary."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free one; it is printed")
    parser.add_argument("--diary", type=Path, required=True, help="events are appended here, a line of JSON each")
    options = parser.parse_args(arguments)

    # 1,000 and more connections; the soft limit is often 1,024.
    _, most = limits.getrlimit(limits.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS says "unlimited" and refuses it
        limits.setrlimit(limits.RLIMIT_NOFILE, (most, most))
    asyncio.run(_serve(options.host, options.port, options.diary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
