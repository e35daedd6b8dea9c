"""
`BuiltIn`: the kinds that come with pydrm, as one manager has them.
"""

from __future__ import annotations

import attrs

from pydrm.agent.kind import Kinds
from pydrm.clock import Clock, Random
from pydrm.handlers.callbacks import Callbacks
from pydrm.handlers.http_poll.kind import HttpPoll
from pydrm.handlers.redis.pubsub import RedisPubsub
from pydrm.handlers.redis.stream import RedisStream
from pydrm.handlers.webhook.kind import Webhook
from pydrm.handlers.websocket.kind import Websocket
from pydrm.handlers.websocket.session import Counts
from pydrm.handlers.websocket.transport import Transport

__all__ = ["BuiltIn"]


class BuiltIn:
    """What any of them needs from outside is imported when the first resource of it is opened."""

    def __init__(self, callbacks: Callbacks, *, clock: Clock, random: Random, websocket_transport: Transport) -> None:
        self._websocket = Websocket(callbacks, clock=clock, random=random, transport=websocket_transport)
        self._http_poll = HttpPoll(callbacks, clock=clock, random=random)
        self._redis_pubsub = RedisPubsub(callbacks, clock=clock, random=random)
        self._redis_stream = RedisStream(callbacks, clock=clock)
        self.webhook = Webhook(clock, random)

    def register(self, kinds: Kinds) -> None:
        kinds.register("websocket", self._websocket)
        kinds.register("http_poll", self._http_poll)
        kinds.register("redis_pubsub", self._redis_pubsub)
        kinds.register("redis_stream", self._redis_stream)
        kinds.register("webhook", self.webhook)

    @property
    def counts(self) -> Counts:
        """The messages that the app did not get, of all kinds."""
        counts = attrs.evolve(self._websocket.counts)
        for kind in (self._http_poll, self._redis_pubsub, self._redis_stream):
            counts.callback_failures += kind.callback_failures
            counts.dropped_messages += kind.dropped_messages
        return counts

    def count_anew(self) -> None:
        self._websocket.counts = Counts()
        for kind in (self._http_poll, self._redis_pubsub, self._redis_stream):
            kind.callback_failures = kind.dropped_messages = 0
