"""
Free ports on loopback, reserved so that nobody else gets them before, or between two runs of, the
process that they are for.

Linux: a socket that is bound, not listening, and was given SO_REUSEADDR only after its bind keeps
every other reservation out, and lets in a listener that sets SO_REUSEADDR, as asyncio's do.
Elsewhere the port is merely probed. All ports are below the ephemeral ranges of Linux (32768) and
macOS (49152), from which outgoing connections take theirs.
"""

from __future__ import annotations

import itertools
import os
import socket
import sys
from typing import Self

__all__ = ["Ports"]

FIRST, LAST = 20_000, 32_000


class Ports:
    """Reservations, kept until `close`; a context manager."""

    def __init__(self) -> None:
        self._reserved: list[socket.socket] = []
        # Two processes that begin in different places seldom try the same port.
        self._candidates = itertools.chain(range(FIRST + os.getpid() * 37 % (LAST - FIRST), LAST), range(FIRST, LAST))

    def reserve(self) -> int:
        """
        A port on 127.0.0.1 that nobody listens on.

        Raises:
            RuntimeError: There is none left.
        """
        for port in self._candidates:
            reservation = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                reservation.bind(("127.0.0.1", port))
            except OSError:
                reservation.close()
                continue
            if sys.platform == "linux":
                reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                self._reserved.append(reservation)
            else:
                reservation.close()
            return port
        raise RuntimeError(f"no free port on 127.0.0.1 from {FIRST} to {LAST}")

    def close(self) -> None:
        while self._reserved:
            self._reserved.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
