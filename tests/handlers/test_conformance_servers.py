"""The kinds that talk to servers keep what is promised of all kinds."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from pathlib import Path

import redis
from aiohttp import web

from pydrm.clock import SystemClock
from pydrm.core.resource import Resource
from pydrm.handlers.callbacks import Callbacks
from pydrm.handlers.http_poll.kind import HttpPoll
from pydrm.handlers.redis.pubsub import RedisPubsub
from pydrm.handlers.redis.stream import RedisStream
from pydrm.testing.conformance import check_kind
from pydrm.testing.ports import Ports
from tests.counterparts import Server, redis_server


class Polled:
    """An HTTP server at a port of its own; what it was asked for in the last quarter of a second is held."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._asked_at = float("-inf")
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        application = web.Application()
        application.router.add_get("/", self._answer)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def is_held(self) -> bool:
        return time.monotonic() - self._asked_at < 0.25

    async def _answer(self, request: web.Request) -> web.Response:
        self._asked_at = time.monotonic()
        return web.Response(text="hello")


class Subscribed:
    """A redis-server; held is what somebody else than this is connected for."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def start(self) -> None:
        await asyncio.to_thread(self._server.start)

    async def stop(self) -> None:
        await asyncio.to_thread(self._server.kill)

    def is_held(self) -> bool:
        with contextlib.suppress(redis.ConnectionError), redis.Redis(port=self._server.port) as client:
            return any(row["cmd"] in ("subscribe", "xread") for row in client.client_list())
        return False


def test_http_poll_keeps_what_is_promised_of_all_kinds() -> None:
    with Ports() as ports:
        counterpart = Polled(ports.reserve())
        kind = HttpPoll(Callbacks(), clock=SystemClock(), random=random.Random(7))
        url = f"http://127.0.0.1:{counterpart.port}/"
        refused = [(Resource("r", kind="http_poll", url=url), "interval")]
        asyncio.run(
            check_kind(kind, Resource("r", kind="http_poll", url=url, interval=0.05), counterpart, refused=refused)
        )


def test_redis_pubsub_keeps_what_is_promised_of_all_kinds(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        server.kill()
        kind = RedisPubsub(Callbacks(), clock=SystemClock(), random=random.Random(7))
        url = f"redis://127.0.0.1:{server.port}"
        refused = [(Resource("r", kind="redis_pubsub", url=url), "channels")]
        subject = Resource("r", kind="redis_pubsub", url=url, channels="c")
        asyncio.run(check_kind(kind, subject, Subscribed(server), refused=refused))


def test_redis_stream_keeps_what_is_promised_of_all_kinds(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        server.kill()
        kind = RedisStream(Callbacks(), clock=SystemClock())
        url = f"redis://127.0.0.1:{server.port}"
        refused = [(Resource("r", kind="redis_stream", url=url), "streams")]
        subject = Resource("r", kind="redis_stream", url=url, streams="s")
        asyncio.run(check_kind(kind, subject, Subscribed(server), refused=refused))
