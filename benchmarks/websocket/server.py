"""
A third party that costs as little as it can: it accepts whoever comes, and sends the same frame as often as told.

It speaks the protocol by hand, because it shares the machine with what is measured. Prints its port; then when, on
time.monotonic, as many clients had come as it is told to wait for. After that each line on its standard input, a
number, sends so many messages over each connection.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from typing import cast

from websockets.utils import accept_key

__all__ = ["MESSAGE", "main"]

MESSAGE = b'{"id":1234567,"symbol":"ACME","price":101.25,"size":300,"side":"buy","venue":"XNAS","time":1700000000}'
_FRAME = bytes((0x81, len(MESSAGE))) + MESSAGE
_BURST = 16
_PAUSE_S = 0.03
_KEY = re.compile(rb"sec-websocket-key: *(\S+)", re.IGNORECASE)
_BACKLOG = 4096


class _Connection(asyncio.Protocol):
    """One client's; it reads a request and then nothing of interest."""

    def __init__(self, all: set[_Connection], wanted: int) -> None:
        self._all = all
        self._wanted = wanted
        self._request = b""
        self.writable = asyncio.Event()
        self.writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self in self._all:
            return
        self._request += data
        if b"\r\n\r\n" in self._request and (key := _KEY.search(self._request)):
            accept = accept_key(key[1].decode()).encode()
            self.transport.write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            )
            self._all.add(self)
            if len(self._all) == self._wanted:
                print(time.monotonic(), flush=True)

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def connection_lost(self, error: Exception | None) -> None:
        self._all.discard(self)
        self.writable.set()


async def _flood(connections: set[_Connection], count: int) -> None:
    for start in range(0, count, _BURST):
        burst = _FRAME * min(_BURST, count - start)
        for connection in [*connections]:
            await connection.writable.wait()
            connection.transport.write(burst)
        # So that a client has read it before there is more: what a message costs depends on how many come at once.
        await asyncio.sleep(_PAUSE_S)


async def _serve(wanted: int) -> None:
    loop = asyncio.get_running_loop()
    connections: set[_Connection] = set()
    server = await loop.create_server(lambda: _Connection(connections, wanted), "127.0.0.1", 0, backlog=_BACKLOG)
    print(server.sockets[0].getsockname()[1], flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        await _flood(connections, int(line))
    server.close()


def main() -> int:
    asyncio.run(_serve(int(sys.argv[3])))
    return 0
