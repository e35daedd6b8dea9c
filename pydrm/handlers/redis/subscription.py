"""
`Subscription`: what one resource wants to hear from a server, and what was heard and not yet delivered. Sans I/O.

Several share a connection, so one that is slow must not keep the others from hearing: it has a bounded queue, and when
that is full its oldest message gives.
"""

from __future__ import annotations

import asyncio
from collections import deque

import attrs

from pydrm.handlers.redis.trouble import Lost

__all__ = ["Heard", "Subscription", "Topic"]

# "SUBSCRIBE", "PSUBSCRIBE" or "SSUBSCRIBE", and a channel or a pattern.
Topic = tuple[str, bytes]


@attrs.frozen
class Heard:
    """
    Attributes:
        pattern: That it came by; b"" if by the channel's own name.
    """

    channel: bytes
    pattern: bytes
    data: bytes


class Subscription:
    """
    Attributes:
        overrun: How many messages gave way to newer ones.
    """

    def __init__(self, topics: tuple[Topic, ...], queue_max: int) -> None:
        self.topics = topics
        self.overrun = 0
        self._queue: deque[Heard] = deque(maxlen=queue_max)
        self._any = asyncio.Event()
        self._lost = ""

    def put(self, heard: Heard) -> None:
        if len(self._queue) == self._queue.maxlen:
            self.overrun += 1
        self._queue.append(heard)
        self._any.set()

    def lose(self, why: str) -> None:
        """Nothing more will be heard."""
        self._lost = self._lost or why
        self._any.set()

    async def next(self) -> Heard:
        """
        The oldest message.

        Raises:
            Lost: There is none, and none will come.
        """
        while not self._queue:
            if self._lost:
                raise Lost(self._lost)
            self._any.clear()
            await self._any.wait()
        return self._queue.popleft()
