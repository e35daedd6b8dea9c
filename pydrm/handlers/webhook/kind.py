"""
The kind "webhook": a subscription, whose holder sends each event that it wants to a url.

What is due, and what became of it, is in the ledger (see `core.decide_ledger`); this tells the receiver. One run is one
`Courier`, which works until the hold ends.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable

from pydrm.agent.hold import Hold
from pydrm.clock import Clock, Random
from pydrm.core.resource import Resource
from pydrm.errors import Permanent
from pydrm.handlers.webhook.courier import Courier, Envelope
from pydrm.handlers.webhook.poster import Poster
from pydrm.handlers.webhook.signature import key_of
from pydrm.handlers.webhook.subscription import Subscription, read_secret

__all__ = ["Webhook"]

# How many requests of all subscriptions together may be under way on a node.
POSTS_MAX = 256


class Webhook:
    """
    Fields of a resource: `url` (http:// or https://), `topics` (a pattern or a list), `secret` or `secrets` (`whsec_`
    and base64; several while one replaces another), and optionally `delivery` ("at_least_once" or "at_most_once"),
    `ordered`, `timeout` and `disable_after` (seconds), `allow` (networks that are not public), `headers` (an object).
    Secrets and the values of headers may be `{env:NAME}` or `{file:PATH}`, which the holder reads.

    It is open while nothing fails: retrying while the last try failed, until one succeeds.
    """

    fields = frozenset(
        {
            "url",
            "topics",
            "secret",
            "secrets",
            "delivery",
            "ordered",
            "timeout",
            "disable_after",
            "allow",
            "headers",
        }
    )

    def __init__(self, clock: Clock, random: Random) -> None:
        self._clock = clock
        self._random = random
        self._make_poster: Callable[[], Poster] | None = None
        self._poster: Poster | None = None
        self._runs = 0
        self._room = asyncio.Semaphore(POSTS_MAX)

    def use(self, poster: Callable[[], Poster]) -> None:
        """For simulations: have requests sent by what this makes, rather than over HTTP."""
        self._make_poster = poster

    def validate(self, resource: Resource) -> None:
        Subscription.of(resource)

    def topics(self, resource: Resource) -> tuple[str, ...]:
        """See `intake.Subscriber`."""
        return Subscription.of(resource).topics

    async def run(self, hold: Hold) -> None:
        subscription = Subscription.of(hold.resource)
        if not self._runs:
            self._room = asyncio.Semaphore(POSTS_MAX)
        self._runs += 1
        desk = hold.desk()
        try:
            envelope = await _envelope(hold, subscription)
            poster = await self._shared_poster()
            hold.ready()
            await Courier(
                hold, subscription, envelope, desk, poster, room=self._room, clock=self._clock, random=self._random
            ).work()
        finally:
            desk.close()
            self._runs -= 1
            if not self._runs and self._poster is not None:
                poster, self._poster = self._poster, None
                await poster.close()

    async def _shared_poster(self) -> Poster:
        if self._poster is None and self._make_poster is None:
            # Loading aiohttp takes long enough to be felt by other resources.
            module = await asyncio.to_thread(importlib.import_module, "pydrm.handlers.webhook.http_poster")
            self._make_poster = module.HttpPoster
        if self._poster is None:
            assert self._make_poster is not None
            self._poster = self._make_poster()
        return self._poster


async def _envelope(hold: Hold, subscription: Subscription) -> Envelope:
    keys = []
    for secret in subscription.secrets:
        try:
            keys.append(key_of(await read_secret(secret)))
        except ValueError as error:
            raise Permanent(f"what {secret if secret.startswith('{') else 'a secret'} stands for {error}") from None
    headers = {name: await read_secret(value) for name, value in subscription.headers.items()}
    for name, value in headers.items():
        if not value.isprintable() or not value.isascii():
            raise Permanent(f"what stands for the header {name} is not printable ASCII")
    return Envelope(tuple(keys), {**headers, "User-Agent": "pydrm", "pydrm-token": str(hold.token)})
