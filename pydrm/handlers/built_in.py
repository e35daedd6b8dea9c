"""
`BuiltIn`: the kinds that come with pydrm, as one manager has them.
"""

from __future__ import annotations

import attrs

from pydrm.agent.kind import Kind, Kinds
from pydrm.clock import Clock, Random
from pydrm.handlers.callbacks import Callbacks
from pydrm.handlers.counts import Counts
from pydrm.handlers.http_poll.kind import HttpPoll
from pydrm.handlers.redis.pubsub import RedisPubsub
from pydrm.handlers.redis.stream import RedisStream
from pydrm.handlers.webhook.kind import Webhook
from pydrm.handlers.websocket.kind import Websocket
from pydrm.handlers.websocket.transport import Transport

__all__ = ["BuiltIn"]


class BuiltIn:
    """
    What any of them needs from outside is imported when the first resource of it is opened.

    Attributes:
        counts: What the app did not get, of all of them.
    """

    def __init__(self, callbacks: Callbacks, *, clock: Clock, random: Random, websocket_transport: Transport) -> None:
        self.counts = counts = Counts()
        self.webhook = Webhook(clock, random)
        self._kinds: dict[str, Kind] = {
            "websocket": Websocket(callbacks, clock=clock, random=random, transport=websocket_transport, counts=counts),
            "http_poll": HttpPoll(callbacks, clock=clock, random=random, counts=counts),
            "redis_pubsub": RedisPubsub(callbacks, clock=clock, random=random, counts=counts),
            "redis_stream": RedisStream(callbacks, clock=clock, counts=counts),
            "webhook": self.webhook,
        }

    def register(self, kinds: Kinds) -> None:
        for name, kind in self._kinds.items():
            kinds.register(name, kind)

    def count_anew(self) -> None:
        for field in attrs.fields(Counts):
            setattr(self.counts, field.name, 0)
