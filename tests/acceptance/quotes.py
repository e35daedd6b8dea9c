"""
`Quotes`: a third party that has something to say over HTTP and over websockets, and notes who asked.

It runs on a thread of its own in the test's process, so that no node that is killed or frozen takes the diary with it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Collection
from typing import Self

import attrs
from aiohttp import web

__all__ = ["Asked", "Quotes"]

UPGRADE = "websocket"


@attrs.frozen
class Asked:
    """
    A request, or the opening of a websocket.

    Attributes:
        at_s: When it came; by `time.monotonic`, as everything in a test.
    """

    at_s: float
    resource: str
    node: str
    token: int


class Quotes:
    """
    A context manager; to be asked under `url`.

    Attributes:
        quote: What it says to whoever polls.
        refused: What it answered with 429.
    """

    def __init__(self) -> None:
        self.quote = "first"
        self.refused: list[Asked] = []
        self.port = 0
        self._asked: list[Asked] = []
        self._refuse_for_s = 0
        self._to_refuse: set[str] = set()
        self._kept_waiting: set[tuple[str, str]] = set()
        self._loop = asyncio.new_event_loop()
        self._answers = asyncio.Event()
        self._over = asyncio.Event()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)

    @property
    def url(self) -> str:
        """Without its scheme."""
        return f"://127.0.0.1:{self.port}/{{id}}?node={{node}}&token={{token}}"

    @property
    def asked(self) -> list[Asked]:
        """All so far, in order."""
        return list(self._asked)

    def refuse_one(self, resources: Collection[str], *, retry_after_s: int) -> None:
        """With status 429, whoever asks next about one of *resources*; and nobody after that."""
        self._refuse_for_s = retry_after_s
        self._to_refuse = set(resources)

    def keep_waiting(self, node: str, resources: Collection[str]) -> None:
        """Answer *node* about *resources* only after `answer_all`."""
        self._kept_waiting = {(node, resource) for resource in resources}

    def answer_all(self) -> None:
        self._kept_waiting = set()
        self._loop.call_soon_threadsafe(self._answers.set)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(10)
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self) -> None:
        application = web.Application()
        application.router.add_get("/{id}", self._answer)
        runner = web.AppRunner(application, shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.port = runner.addresses[0][1]
        self._up.set()
        await self._over.wait()
        await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        asked = Asked(time.monotonic(), request.match_info["id"], query["node"], int(query["token"]))
        self._asked.append(asked)
        if asked.resource in self._to_refuse:
            self._to_refuse.clear()
            self.refused.append(asked)
            return web.Response(status=429, headers={"Retry-After": str(self._refuse_for_s)})
        if request.headers.get("Upgrade", "").lower() == UPGRADE:
            websocket = web.WebSocketResponse()
            await websocket.prepare(request)
            await websocket.receive()
            return websocket
        if (asked.node, asked.resource) in self._kept_waiting:
            await self._answers.wait()
        return web.Response(text=self.quote)
