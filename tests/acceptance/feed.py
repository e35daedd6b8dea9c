"""
`Feed`: a third party with numbered messages, that sends whoever connects what follows the last one they had.

It keeps a diary of who was connected under which token, and of what it was sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import Self
from urllib.parse import parse_qs, urlsplit

import attrs
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

__all__ = ["Feed", "Stay"]

EACH_S = 0.005


@attrs.define
class Stay:
    """A connection; *until_s* is None while it lasts, and *last_id* is what it asked to go on from."""

    resource: str
    node: str
    token: int
    last_id: int
    since_s: float
    until_s: float | None = None


class Feed:
    """
    A server on a thread of its own; a context manager.

    Attributes:
        stays: Every connection, in order.
        heard: Every message that came, with the resource, in order.
    """

    def __init__(self) -> None:
        self.stays: list[Stay] = []
        self.heard: list[tuple[str, str]] = []
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._up = threading.Event()
        self._began_s = time.monotonic()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/{{id}}?node={{node}}&token={{token}}&last_id={{checkpoint}}"

    @property
    def newest_id(self) -> int:
        """Each resource has a message more every few milliseconds, whether anybody is there or not."""
        return int((time.monotonic() - self._began_s) / EACH_S)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(10)
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self) -> None:
        async with serve(self._talk, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
            self.port = next(iter(server.sockets)).getsockname()[1]
            self._up.set()
            await self._over.wait()
            server.close(close_connections=True)

    async def _talk(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        parts = urlsplit(connection.request.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        last_id = int(query["last_id"])
        stay = Stay(parts.path[1:], query["node"], int(query["token"]), last_id, time.monotonic())
        self.stays.append(stay)
        sending = asyncio.create_task(self._send(connection, last_id))
        try:
            async for message in connection:
                self.heard.append((stay.resource, str(message)))
        except ConnectionClosed:
            pass
        finally:
            stay.until_s = time.monotonic()
            sending.cancel()

    async def _send(self, connection: ServerConnection, last_id: int) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                while last_id < self.newest_id:
                    last_id += 1
                    await connection.send(f'{{"id":{last_id}}}')
                await asyncio.sleep(EACH_S)
