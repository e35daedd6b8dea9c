"""The kinds that talk to servers keep what is promised of all kinds."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from pathlib import Path
from typing import Any

import pytest
import redis
from aiohttp import ClientSession, web

from pydrm.agent.deliveries import Desk
from pydrm.agent.hold import Hold
from pydrm.clock import SystemClock
from pydrm.core.resource import Resource
from pydrm.handlers.callbacks import Callbacks
from pydrm.handlers.http_poll.kind import HttpPoll
from pydrm.handlers.redis.pubsub import RedisPubsub
from pydrm.handlers.redis.stream import RedisStream
from pydrm.handlers.webhook.kind import Webhook
from pydrm.testing.conformance import check_kind
from pydrm.testing.ports import Ports
from tests.counterparts import Server, redis_server

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Polled:
    """An HTTP server at a port of its own; what was asked for, or sent, in the last quarter of a second is held."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._asked_at = float("-inf")
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        application = web.Application()
        application.router.add_route("*", "/", self._answer)
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


def test_webhook_keeps_what_is_promised_of_all_kinds() -> None:
    with Ports() as ports:
        counterpart = Polled(ports.reserve())
        kind = Webhook(SystemClock(), random.Random(7))

        def hook(**fields: Any) -> Resource:
            url = f"http://127.0.0.1:{counterpart.port}/"
            known = {"url": url, "topics": "orders.*", "secret": SECRET, "allow": ["127.0.0.0/8"]}
            return Resource("r", kind="webhook", **known | fields)

        refused = [(hook(secret="hush"), "secret"), (hook(allow=None), "url"), (hook(topics="a..b"), "topics")]
        asyncio.run(check_kind(kind, hook(), counterpart, refused=refused))


class Careless:
    """Delivers events, and neither stops when it is told to nor looks whether it still may."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.strays: list[asyncio.Task[None]] = []

    def validate(self, resource: Resource) -> None: ...

    def topics(self, resource: Resource) -> tuple[str, ...]:
        return ("orders.#",)

    async def run(self, hold: Hold) -> None:
        self.strays.append(asyncio.create_task(self._send(hold.desk())))
        hold.ready()
        await asyncio.Event().wait()

    async def _send(self, desk: Desk) -> None:
        async with ClientSession() as session:
            while True:
                await desk.news.wait()
                for event in desk.take():
                    async with session.post(f"http://127.0.0.1:{self.port}/", data=str(event)):
                        pass


def test_a_kind_that_goes_on_delivering_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pydrm.testing.conformance.checked.PATIENCE_S", 1.0)
    with Ports() as ports:
        counterpart = Polled(ports.reserve())
        kind = Careless(counterpart.port)
        with pytest.raises(AssertionError, match="it was released, and the counterpart still has it"):
            asyncio.run(check_kind(kind, Resource("r", kind="careless"), counterpart))


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
