"""
`Fence`: every handle that would have to be cut if the lease ended now. Shared between threads.

The agent notes a handle before it can exist and strikes it out when it is gone for certain. The engine's thread
can cut the sockets without the app's loop, which may be busy, and can tell what is still there.
"""

from __future__ import annotations

import contextlib
import socket
from threading import Lock

__all__ = ["Fence"]


class Fence:
    """All methods are safe from any thread, quick, and never raise."""

    def __init__(self) -> None:
        self._lock = Lock()
        # Most sockets are one handle's only one; and an empty tuple is no object more for Python's collector.
        self._handles: dict[int, tuple[socket.socket, ...]] = {}

    def opened(self, token: int) -> None:
        """From now on there may be a handle under *token*. To be called before anything is connected."""
        with self._lock:
            self._handles.setdefault(token, ())

    def register(self, token: int, sock: socket.socket) -> None:
        """The handle uses *sock*. An object, not a number: a number may be another's by the time it is cut."""
        with self._lock:
            others = self._handles.get(token)
            # Those that are closed are forgotten: a handler may reconnect for years.
            self._handles[token] = (*(old for old in others if old.fileno() != -1), sock) if others else (sock,)

    def cut(self, token: int) -> None:
        """Cut those of one handle."""
        with self._lock:
            sockets = self._handles.get(token, ())
        for sock in sockets:
            _shut(sock)

    def closed(self, token: int) -> None:
        """Nothing is left of the handle."""
        with self._lock:
            self._handles.pop(token, None)

    def tokens(self) -> list[int]:
        """What may still be open."""
        with self._lock:
            return sorted(self._handles)

    def shut_sockets(self) -> None:
        """
        Cut every registered socket: nothing is sent or received on it any more.

        shutdown(2), not close(2): the descriptor stays the owner's, who sees the end of the stream.
        """
        with self._lock:
            sockets = [sock for sockets in self._handles.values() for sock in sockets]
        for sock in sockets:
            _shut(sock)


def _shut(sock: socket.socket) -> None:
    # Not connected yet, or gone already: then there is nothing to cut.
    with contextlib.suppress(OSError, ValueError):
        sock.shutdown(socket.SHUT_RDWR)
