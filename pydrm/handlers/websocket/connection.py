"""
`Connection`: what a session needs of a connection to a third party, whichever library it is made with.

Failures are told in the words of `websockets`, which is always installed: ConnectionClosed once it is
lost, InvalidHandshake and what is derived from it where it cannot be had, OSError for the network's own.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from typing import Protocol

from pydrm.agent.hold import Hold
from pydrm.handlers.websocket.endpoint import Endpoint

__all__ = ["LEAVE_TIMEOUT_S", "Connect", "Connection"]

# How long a third party may take to answer a close. The next holder waits for it, and longer than this
# it is not worth: an abort frees the connection just as well.
LEAVE_TIMEOUT_S = 0.25


class Connection(Protocol):
    @property
    def is_open(self) -> bool:
        """Whether data can be sent; not any more once either side has begun to close."""

    async def recv(self) -> str | bytes:
        """The next message; while nobody asks for one, the third party is not read for long."""

    async def send(self, data: str | bytes) -> None:
        """Return once the operating system has *data*, or, for wss, TLS has it."""

    async def close(self) -> None:
        """Close with a handshake, or without one after `LEAVE_TIMEOUT_S`."""

    def abort(self) -> None:
        """Close at once; safe to repeat."""


# Connects for a hold, which guards the socket before anything is sent, and so cuts it if that fails half-way.
Connect = Callable[[Hold, Endpoint, ssl.SSLContext | None], Awaitable[Connection]]
