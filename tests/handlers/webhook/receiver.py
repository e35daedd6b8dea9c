"""`Receiver`: a real HTTP server that writes down what it is sent, and answers as a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

import attrs
from aiohttp import web

__all__ = ["Received", "Receiver"]


@attrs.frozen
class Received:
    """One request."""

    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


Answer = Callable[[Received], Awaitable[web.StreamResponse] | web.StreamResponse]


class Receiver:
    """
    Attributes:
        received: Every request, in the order in which they came.
        answer: What it does with each; 204 at first.
        ports: From which port each came.
    """

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.answer: Answer = lambda received: web.Response(status=204)
        self.url = ""
        self.ports: list[int] = []
        self._runner: web.AppRunner | None = None

    @property
    def ids(self) -> list[str]:
        return [received.id for received in self.received]

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._receive)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}/hook"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _receive(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        received = Received(headers, await request.read())
        self.received.append(received)
        assert request.transport is not None
        self.ports.append(request.transport.get_extra_info("peername")[1])
        answer = self.answer(received)
        return await answer if asyncio.iscoroutine(answer) or isinstance(answer, Awaitable) else answer
