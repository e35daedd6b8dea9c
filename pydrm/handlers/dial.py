"""
`dial`: a TCP connection whose socket is guarded before it connects.

asyncio's own `create_connection` makes the socket and connects it in one go, so there would be an
instant in which a connection exists that the fence does not know.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

from pydrm.agent.hold import Hold

__all__ = ["dial"]

Address = tuple[socket.AddressFamily, Any]


async def dial(hold: Hold | None, host: str, port: int, *, timeout_s: float) -> socket.socket:
    """
    A connected socket, guarded by *hold*; the caller closes it. None is for what several holds share.

    Addresses are tried in the resolver's order, each of several for its share of *timeout_s*; it is the caller who
    limits the whole.

    Raises:
        OSError: None of the addresses could be reached; TimeoutError is one.
        Fenced: The hold ended.
    """
    addresses = await _resolve(host, port)
    if len(addresses) == 1:
        return await _connect(hold, *addresses[0])
    error: OSError = OSError(f"{host!r} has no address")
    for address in addresses:
        try:
            async with asyncio.timeout(timeout_s / len(addresses)):
                return await _connect(hold, *address)
        except TimeoutError:
            error = TimeoutError(f"no answer from {address[1][0]} port {port}")
        except OSError as refused:
            error = refused
    raise error


async def _connect(hold: Hold | None, family: socket.AddressFamily, address: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hold is not None:
            hold.guard(sock)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


async def _resolve(host: str, port: int) -> list[Address]:
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            socket.inet_pton(family, host)
            # An address as such needs no resolver and no thread; a name does not pass here.
            return [(family, (host, port))]
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))
