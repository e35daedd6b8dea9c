"""
What is measured: so many connections to one server, by `websockets` alone, or as resources of a node of pydrm.

Both have the same options and a callback that counts. Each line on standard input is answered with a line of JSON: the
first, once all connections are open, with what they cost; the others, numbers of messages, when so many have arrived.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from websockets.asyncio.client import ClientConnection, connect

from pydrm import Message, Resource, ResourceManager

__all__ = ["main"]

OPEN_CONCURRENCY = 64  # as many as a node of pydrm opens at once


class Meter:
    """Counts messages, and tells when there are enough."""

    def __init__(self) -> None:
        self._count = 0
        self._wanted = 0
        self._enough = asyncio.Event()

    def add(self) -> None:
        self._count += 1
        if self._count >= self._wanted:
            self._enough.set()

    async def take(self, count: int) -> None:
        """Return when *count* more have come than were taken before."""
        self._wanted += count
        if self._count < self._wanted:
            self._enough.clear()
            await self._enough.wait()


async def bare(url: str, count: int, meter: Meter) -> Callable[[], Awaitable[None]]:
    """Open *count* connections; what is returned closes them."""
    gate = asyncio.Semaphore(OPEN_CONCURRENCY)
    connections: list[ClientConnection] = []

    async def callback(data: str | bytes) -> None:
        meter.add()

    async def listen(connection: ClientConnection) -> None:
        async for message in connection:
            await callback(message)

    async def open_one(number: int) -> None:
        async with gate:
            connection = await connect(
                f"{url}/r{number}?token={number}", compression=None, proxy=None, max_queue=16, write_limit=0
            )
        connections.append(connection)
        listening.append(asyncio.create_task(listen(connection)))

    listening: list[asyncio.Task[None]] = []
    await asyncio.gather(*(open_one(number) for number in range(count)))

    async def close() -> None:
        for connection in connections:
            connection.transport.abort()
        await asyncio.gather(*listening, return_exceptions=True)

    return close


async def ours(
    url: str, count: int, meter: Meter, transport: Literal["websockets", "picows"] = "websockets"
) -> Callable[[], Awaitable[None]]:
    # A machine that has more to do than this would end the usual lease, and with it the process.
    drm = ResourceManager(cluster="bench", node="a", lease_ttl=30, websocket_transport=transport)

    @drm.on_message("count")
    async def callback(message: Message) -> None:
        meter.add()

    await drm.start()
    Begin.at = measure()
    await drm.add(
        [
            Resource(f"r{number}", kind="websocket", url=url + "/{id}?token={token}", on_message="count")
            for number in range(count)
        ],
        timeout=60,
    )
    return drm.stop


async def fast(url: str, count: int, meter: Meter) -> Callable[[], Awaitable[None]]:
    return await ours(url, count, meter, "picows")


class Begin:
    """What had been used when it began to be about connections."""

    at: dict[str, float]


def measure() -> dict[str, float]:
    gc.collect()
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return {"rss_bytes": resident, "cpu_s": time.process_time(), "at_s": time.monotonic()}


async def _measure(which: str, url: str, count: int) -> None:
    meter = Meter()
    Begin.at = measure()
    close = await {"bare": bare, "ours": ours, "fast": fast}[which](url, count, meter)
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, sys.stdin.readline)
    cpu_s = time.process_time()
    await asyncio.sleep(2)  # reports and the like
    _say(began=Begin.at, open={**measure(), "cpu_s": cpu_s})
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        cpu_s = time.process_time()
        await meter.take(int(line))
        _say(cpu_s=time.process_time() - cpu_s)
    await close()


def _say(**values: Any) -> None:
    print(json.dumps(values), flush=True)


def main() -> int:
    which, url, count = sys.argv[3:6]
    asyncio.run(_measure(which, url, int(count)))
    return 0
