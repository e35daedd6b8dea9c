"""`Site`: a small third party over HTTP that answers as it is told, and notes what it was asked."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import attrs
from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@attrs.frozen
class Asked:
    at_s: float
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


class Site:
    """
    Attributes:
        answer: What is said next; may be replaced at any time.
        asked: Each request, in order.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/"
        self.answer: Answer = says(b"hello")
        self.asked: list[Asked] = []

    @property
    def gaps_s(self) -> list[float]:
        return [after.at_s - before.at_s for before, after in zip(self.asked, self.asked[1:], strict=False)]

    async def serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.asked.append(Asked(time.monotonic(), request.path, request.query_string, dict(request.headers), body))
        return await self.answer(request)


@contextlib.asynccontextmanager
async def site() -> AsyncIterator[Site]:
    application = web.Application()
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    listener: list[Site] = []

    async def serve(request: web.Request) -> web.StreamResponse:
        return await listener[0].serve(request)

    application.router.add_route("*", "/{tail:.*}", serve)
    await runner.setup()
    door = web.TCPSite(runner, "127.0.0.1", 0)
    await door.start()
    listener.append(Site(runner.addresses[0][1]))
    try:
        yield listener[0]
    finally:
        await runner.cleanup()


def says(body: bytes, status: int = 200, **headers: str) -> Answer:
    """Always the same; an underscore in the name of a header stands for a hyphen."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, status=status, headers=named)

    return answer


def says_late(seconds: float) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return web.Response(body=b"late")

    return answer
