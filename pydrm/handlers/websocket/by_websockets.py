"""
`connect`: a connection made with the package `websockets`, which knows every field of a resource.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from functools import partial
from typing import Any, cast

import websockets.asyncio.client
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import enable_client_permessage_deflate
from websockets.protocol import State

from pydrm.agent.hold import Hold
from pydrm.errors import Fenced
from pydrm.handlers.dial import dial
from pydrm.handlers.websocket.connection import LEAVE_TIMEOUT_S, Connection
from pydrm.handlers.websocket.endpoint import Endpoint

__all__ = ["connect"]

# At its level DEBUG websockets writes down each request with its headers, and so the secrets in them.
_silent = logging.getLogger(f"{__name__}.connection")
_silent.disabled = True


async def connect(hold: Hold, endpoint: Endpoint, tls: ssl.SSLContext | None) -> Connection:
    if endpoint.proxy is None:
        connection = await _directly(hold, endpoint, tls)
    else:
        connection = await _by_proxy(hold, endpoint, tls)
    # What was said then is an eighth of what a connection keeps in memory, and nobody asks for it any more.
    connection.request = None
    if connection.response is not None:
        connection.response.headers.clear()
    return connection


async def _directly(hold: Hold, endpoint: Endpoint, tls: ssl.SSLContext | None) -> _Connection:
    """
    What websockets' own `connect` does with a connected socket. It would take the url apart once more.

    Redirects are not followed: they would take the headers, and what is in them, to wherever the other end says.
    """
    sock = await dial(hold, endpoint.uri.host, endpoint.uri.port, timeout_s=endpoint.options.open_timeout_s)
    protocol = ClientProtocol(
        endpoint.uri,
        subprotocols=cast("Any", endpoint.options.subprotocols or None),
        extensions=enable_client_permessage_deflate(None) if endpoint.options.compresses else None,
        max_size=endpoint.options.max_size,
        logger=_silent,
    )
    _, connection = await asyncio.get_running_loop().create_connection(
        lambda: _Connection(protocol, **_limits(endpoint)),
        sock=sock,
        ssl=tls,
        server_hostname=endpoint.uri.host if tls is not None else None,
    )
    try:
        await connection.handshake(endpoint.headers)
    except BaseException:
        connection.abort()
        raise
    connection.start_keepalive()
    return connection


async def _by_proxy(hold: Hold, endpoint: Endpoint, tls: ssl.SSLContext | None) -> _Connection:
    options = _limits(endpoint)
    if tls is not None:
        options["ssl"] = tls
    connection = await _connect(
        endpoint.url,
        additional_headers=endpoint.headers,
        subprotocols=cast("Any", list(endpoint.options.subprotocols) or None),
        compression="deflate" if endpoint.options.compresses else None,
        proxy=endpoint.proxy,
        open_timeout=None,
        max_size=endpoint.options.max_size,
        logger=_silent,
        create_connection=cast("Any", partial(_Proxied, hold)),
        **options,
    )
    return cast("_Connection", connection)


def _limits(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "close_timeout": LEAVE_TIMEOUT_S,
        "ping_interval": endpoint.options.ping_interval_s,
        "ping_timeout": endpoint.options.ping_timeout_s,
        "max_queue": endpoint.options.queue,
        # So that `send` returns only when the operating system has all of it.
        "write_limit": 0,
    }


class _connect(websockets.asyncio.client.connect):
    def process_redirect(self, exc: Exception) -> Exception | str:
        """It is not followed here either."""
        return exc


class _Connection(websockets.asyncio.client.ClientConnection):
    @property
    def is_open(self) -> bool:
        return self.state is State.OPEN

    def abort(self) -> None:
        self.transport.abort()


class _Proxied(_Connection):
    """
    A connection through a proxy, whose socket websockets makes itself.

    It can be guarded only once the proxy has made the way to the third party free; until then the
    Fence knows that there may be a handle, but could not cut it for the app's loop.
    """

    def __init__(self, hold: Hold, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._hold = hold

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        try:
            self._hold.guard(transport.get_extra_info("socket"))
        except Fenced:
            self.transport.abort()
