"""
The kind "http_poll": a url that is asked again and again, by one node at a time.

What a poller knows travels in its checkpoint (`http_poll_position`), so the next holder polls when the former one would
have, and tells of nothing again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from importlib import import_module
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydrm.agent.hold import Hold
from pydrm.clock import Clock, Random
from pydrm.core.resource import Resource
from pydrm.handlers.callbacks import Callbacks
from pydrm.handlers.counts import Counts
from pydrm.handlers.http_poll.circuit import Circuits
from pydrm.handlers.http_poll.plan import MAY_HOLD_SECRETS, Plan
from pydrm.handlers.http_poll.poller import Poller
from pydrm.handlers.secrets import Secrets

if TYPE_CHECKING:
    from pydrm.handlers.http_poll.client import Client

__all__ = ["HttpPoll"]


class HttpPoll:
    """
    Fields of a resource: docs/http-poll.md has them all. It is open once a response was usable: with a status of
    200 to 299, not too long, and of the form that `decode` says. After a move it is open at once if the last poll was
    good.

    Attributes:
        counts: The responses that the app did not get.
    """

    fields = frozenset(
        {
            "url",
            "interval",
            "method",
            "headers",
            "body",
            "on_change",
            "on_response",
            "next_request",
            "decode",
            "jitter",
            "timeout",
            "max_bytes",
            "max_wait",
            "max_pages",
        }
    )

    def __init__(self, callbacks: Callbacks, *, clock: Clock, random: Random, counts: Counts | None = None) -> None:
        self.counts = counts or Counts()
        self._circuits = Circuits()
        self._callbacks = callbacks
        self._clock = clock
        self._random = random
        self._client: Client | None = None
        self._users = 0

    def validate(self, resource: Resource) -> None:
        Plan.of(resource, node="node", token=1, callbacks=self._callbacks)

    def group(self, resource: Resource) -> str:
        """The url's host; a host that depends on the holder is none that all could share a budget for."""
        host = urlsplit(str(resource.get("url"))).hostname
        return host if host is not None and "{" not in host else ""

    async def run(self, hold: Hold) -> None:
        secrets = await Secrets.held(hold, MAY_HOLD_SECRETS)
        plan = secrets.fill(lambda: Plan.of(hold.resource, node=hold.node, token=hold.token, secrets=secrets))
        with secrets.redacted():
            await self._poll(plan, hold)

    async def _poll(self, plan: Plan, hold: Hold) -> None:
        async with self._shared_client() as client:
            client.speak_for(hold)
            await Poller(
                plan,
                hold,
                client,
                self._circuits,
                self._callbacks,
                clock=self._clock,
                random=self._random,
                counts=self.counts,
            ).run()

    @contextlib.asynccontextmanager
    async def _shared_client(self) -> AsyncIterator[Client]:
        """The one client of all holds; it is made for the first of them and closed after the last."""
        self._users += 1
        try:
            if self._client is None:
                # Loading aiohttp takes tenths of a second, in which an app's loop has other things to do. It is not
                # looked for in sys.modules: what another thread is still loading is there already.
                module = await asyncio.to_thread(import_module, "pydrm.handlers.http_poll.client")
                self._client = self._client or module.Client()
            yield self._client
        finally:
            self._users -= 1
            if not self._users and self._client is not None:
                client, self._client = self._client, None
                await client.close()
