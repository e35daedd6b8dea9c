"""
Nodes that are nothing but their transport, on real sockets.
"""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pydrm.clock import SystemClock
from pydrm.engine import Security
from pydrm.engine.frames import Frame, Vote
from pydrm.engine.transport import Transport
from tests.engine.strangers import Addresses, hello


class Peer:
    """
    A node that is nothing but its transport.

    Attributes:
        events: "+b" for each `linked` and "-b" for each `unlinked`.
        frames: What arrived, in order.
    """

    def __init__(
        self, name: str, addresses: Addresses, dials: str, *, security: Security | None = None, **fields: object
    ) -> None:
        self.hello = hello(name, address=addresses[name], **fields)
        self.events: list[str] = []
        self.frames: list[tuple[str, Frame]] = []
        self.transport = Transport(
            addresses[name],
            {other: addresses[other] for other in dials if other != name},
            hello=lambda: self.hello,
            linked=lambda peer, theirs: self.events.append(f"+{peer}"),
            unlinked=lambda peer: self.events.append(f"-{peer}"),
            receive=self._receive,
            clock=SystemClock(),
            random=random.Random(0),
            security=security or Security(),
        )

    @property
    def links(self) -> list[str]:
        return sorted(self.transport.heard())

    @property
    def strangers(self) -> int:
        return len(self.transport._strangers)

    def connection_with(self, peer: str) -> frozenset[object]:
        """Both ends of the TCP connection that the link is, so that two nodes can be asked whether it is the same."""
        stream = self.transport._links[peer]._stream
        return frozenset({stream.get_extra_info("sockname"), stream.get_extra_info("peername")})

    def _receive(self, peer: str, frame: Frame) -> None:
        if frame == Vote(666):
            raise ValueError("a bad frame")
        self.frames.append((peer, frame))


@asynccontextmanager
async def running(*peers: Peer) -> AsyncIterator[None]:
    try:
        for peer in peers:
            await peer.transport.start()
        yield
    finally:
        for peer in peers:
            await peer.transport.stop()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
