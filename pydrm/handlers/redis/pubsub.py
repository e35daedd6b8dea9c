"""
The kind "redis_pubsub": channels and patterns of a Redis server, heard by one node at a time.

All resources of this node on one server share one connection. It is not among the sockets that a hold guards: it is
many holds', and goes on when one of them ends. What keeps a former holder from delivering is that its hold is asked at
each message.

Redis keeps nothing for a subscriber who is away, so what is published during a move is lost: see docs/redis.md.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import attrs

from pydrm.agent.hold import Hold
from pydrm.agent.message import Message
from pydrm.clock import Clock, Random
from pydrm.core.resource import Resource
from pydrm.errors import Fenced, InvalidResource, Permanent
from pydrm.handlers.callbacks import Callback, Callbacks
from pydrm.handlers.counts import Counts
from pydrm.handlers.decoding import DECODES, decoded
from pydrm.handlers.fields import Fields
from pydrm.handlers.redis.address import MAY_HOLD_SECRETS, RedisAddress
from pydrm.handlers.redis.hub import RedisHub
from pydrm.handlers.redis.subscription import Heard, Subscription, Topic
from pydrm.handlers.redis.trouble import MISSING, is_installed
from pydrm.handlers.secrets import Secrets

__all__ = ["ChannelMessage", "RedisPubsub"]

logger = logging.getLogger(__name__)

QUEUE_MESSAGES = 1000
TOPICS_MAX = 1000


@attrs.frozen
class ChannelMessage(Message):
    """
    Attributes:
        channel: It was published on.
        pattern: It came by; "" if it came by the channel's name.
    """

    channel: str
    pattern: str


@attrs.frozen
class _Plan:
    address: RedisAddress
    topics: tuple[Topic, ...]
    on_message: str
    decode: str
    queue_max: int

    @classmethod
    def of(
        cls,
        resource: Resource,
        *,
        node: str,
        token: int,
        callbacks: Callbacks | None = None,
        secrets: Secrets | None = None,
    ) -> _Plan:
        fields = Fields(resource, node=node, token=token, may_hold_secrets=MAY_HOLD_SECRETS, secrets=secrets)
        names = {"SUBSCRIBE": "channels", "PSUBSCRIBE": "patterns", "SSUBSCRIBE": "sharded"}
        topics = tuple((word, text.encode()) for word, name in names.items() for text in fields.texts(name))
        if not topics:
            raise fields.wrong("channels", "is missing; there are no patterns and no sharded channels either")
        if len(topics) > TOPICS_MAX:
            raise fields.wrong("channels", f"are {len(topics)} with the rest, more than {TOPICS_MAX}")
        return cls(
            address=RedisAddress.of(fields),
            topics=topics,
            on_message=fields.callback("on_message", callbacks),
            decode=fields.choice("decode", "bytes", DECODES),
            queue_max=fields.whole("queue", QUEUE_MESSAGES, least=1, most=1_000_000),
        )


class RedisPubsub:
    """
    Fields of a resource: `url`, one or more of `channels`, `patterns` and `sharded` (each a string or a list of them),
    and optionally `username`, `password`, `on_message` (a callback's name; it gets a `ChannelMessage`), `decode`
    ("bytes", "text" or "json") and `queue` (how many messages may wait for the callback; then the oldest gives).
    Templates may stand in all but the last three. It is open once the server has confirmed all of it.

    Attributes:
        counts: The messages that the app did not get.
    """

    fields = frozenset(
        {
            "url",
            "username",
            "password",
            "channels",
            "patterns",
            "sharded",
            "on_message",
            "decode",
            "queue",
        }
    )

    def __init__(self, callbacks: Callbacks, *, clock: Clock, random: Random, counts: Counts | None = None) -> None:
        self.counts = counts or Counts()
        self._callbacks = callbacks
        self._clock = clock
        self._random = random
        self._hubs: dict[RedisAddress, RedisHub] = {}
        self._users: dict[RedisAddress, int] = {}

    def validate(self, resource: Resource) -> None:
        _Plan.of(resource, node="node", token=1, callbacks=self._callbacks)
        if not is_installed():
            raise InvalidResource(MISSING, resource=resource.id, field="kind")

    async def run(self, hold: Hold) -> None:
        if not is_installed():
            raise Permanent(MISSING)
        secrets = await Secrets.held(hold, MAY_HOLD_SECRETS)
        plan = secrets.fill(lambda: _Plan.of(hold.resource, node=hold.node, token=hold.token, secrets=secrets))
        callback = self._callbacks.named_by(hold, plan.on_message)
        with secrets.redacted():
            await self._hear(plan, hold, callback)

    async def _hear(self, plan: _Plan, hold: Hold, callback: Callback | None) -> None:
        subscription = Subscription(plan.topics, plan.queue_max)
        async with self._shared_hub(plan.address) as hub:
            try:
                await hub.subscribe(subscription)
                hold.ready()
                await self._receive(subscription, hold, callback, plan.decode)
            finally:
                await hub.leave(subscription, politely=hold.valid)

    async def _receive(self, subscription: Subscription, hold: Hold, callback: Callback | None, decode: str) -> None:
        """Deliver what is heard until the connection is lost, which is the only way in which this ends."""
        overrun = 0
        while True:
            heard = await subscription.next()
            if not hold.valid:
                self.counts.dropped_messages += 1
                raise Fenced(f"a message for resource {hold.resource.id!r} came when token {hold.token} was over")
            if subscription.overrun != overrun:
                if not overrun:
                    logger.warning("the callback is too slow; the oldest messages give way", extra=_fields(hold))
                self.counts.overflowed_messages += subscription.overrun - overrun
                overrun = subscription.overrun
            if callback is not None:
                await self._deliver(callback, heard, hold, decode)

    async def _deliver(self, callback: Callback, heard: Heard, hold: Hold, decode: str) -> None:
        try:
            data: Any = decoded(heard.data, decode)
            channel, pattern = (name.decode(errors="replace") for name in (heard.channel, heard.pattern))
            await callback(ChannelMessage(data, hold, channel, pattern))
        except Exception:
            # The border to the app's code: one message must not cost the connection.
            self.counts.callback_failures += 1
            logger.exception("a callback failed; the message is lost to it", extra=_fields(hold))

    @contextlib.asynccontextmanager
    async def _shared_hub(self, address: RedisAddress) -> AsyncIterator[RedisHub]:
        """The one hub of all holds at *address*; made for the first of them and closed after the last."""
        hub = self._hubs.get(address)
        if hub is None:
            hub = self._hubs[address] = RedisHub(address, clock=self._clock, random=self._random)
        self._users[address] = self._users.get(address, 0) + 1
        try:
            yield hub
        finally:
            self._users[address] -= 1
            if not self._users[address]:
                del self._users[address], self._hubs[address]
                await hub.close()


def _fields(hold: Hold) -> dict[str, object]:
    return {"resource": hold.resource.id, "token": hold.token, "node": hold.node}
