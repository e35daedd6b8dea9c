"""
`connect`: a connection made with the package `picows` (extra "fast"), which parses frames in C.

Its transport does the work, and the connection that it has for those who come from `websockets` is what listens there;
so what is here is where the two differ: what is asked of it, and in whose words it fails. Two things it is not asked
for. Through a proxy it would connect a socket that no hold guards yet; and it does not bound what a compressed fragment
unpacks to once `max_size` is used up. Who asks for these gets a connection by `websockets`.
"""

from __future__ import annotations

import logging
import ssl
from typing import Any, NoReturn, cast

import picows
from picows.version import __version__ as PICOWS
from picows.websockets.asyncio.client import ClientConnection
from picows.websockets.compat import State
from picows.websockets.exceptions import ConnectionClosed as Closed
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosedError, InvalidHandshake, InvalidMessage, InvalidStatus
from websockets.frames import Close, CloseCode
from websockets.headers import build_authorization_basic, build_host
from websockets.http11 import Response

from pydrm.agent.hold import Hold
from pydrm.handlers.dial import dial
from pydrm.handlers.websocket import by_websockets
from pydrm.handlers.websocket.connection import LEAVE_TIMEOUT_S, Connection
from pydrm.handlers.websocket.endpoint import Endpoint

__all__ = ["connect"]

# It makes a logger of its own below each one that it is given, but not below an adapter.
_logger = logging.getLogger(f"{__name__}.connection")
_logger.disabled = True
_silent = logging.LoggerAdapter(_logger, {})

# Each connection keeps a buffer, which grows as what arrives fills it; 16 KiB, picows' own, are a lot for a silent one.
_BUFFER_BYTES = 2048


async def connect(hold: Hold, endpoint: Endpoint, tls: ssl.SSLContext | None) -> Connection:
    if endpoint.proxy is not None or endpoint.options.compresses:
        return await by_websockets.connect(hold, endpoint, tls)
    # Should this be cancelled half-way, nobody closes it but the hold, which cuts what it guards when the run is over.
    sock = await dial(hold, endpoint.uri.host, endpoint.uri.port, timeout_s=endpoint.options.open_timeout_s)
    url, headers = _as_picows_has_it(endpoint)
    try:
        transport, connection = await picows.ws_connect(
            lambda request, response: _listener(response, endpoint),
            url,
            ssl_context=tls,
            websocket_handshake_timeout=None,
            max_frame_size=endpoint.options.max_size,
            extra_headers=headers,
            max_redirects=0,
            read_buffer_init_size=_BUFFER_BYTES,
            socket_factory=lambda _: sock,
            logger_name=_silent,
            # Its own transports are no faster at this, and take 5 KiB more for each connection; and TLS stays Python's.
            use_aiofastnet=False,
        )
    except picows.WSInvalidStatusError as error:
        raise _refused(error) from None
    except picows.WSError as error:
        raise InvalidHandshake(str(error)) from None
    if not isinstance(connection, ClientConnection):
        raise InvalidMessage("the connection was lost before there was an answer")
    return _Connection(transport, connection)


def _as_picows_has_it(endpoint: Endpoint) -> tuple[str, list[tuple[str, str]]]:
    """The url in ASCII and without a user's name and password, which go into a header; and all headers."""
    headers = dict(endpoint.headers)
    said = {name.lower() for name in headers}
    if "user-agent" not in said:
        headers["User-Agent"] = f"picows/{PICOWS}"
    uri = endpoint.uri
    if uri.user_info is not None and "authorization" not in said:
        headers["Authorization"] = build_authorization_basic(*uri.user_info)
    if endpoint.options.subprotocols:
        headers["Sec-WebSocket-Protocol"] = ", ".join(endpoint.options.subprotocols)
    scheme = "wss" if uri.secure else "ws"
    return f"{scheme}://{build_host(uri.host, uri.port, uri.secure)}{uri.resource_name}", list(headers.items())


def _listener(response: picows.WSUpgradeResponse, endpoint: Endpoint) -> ClientConnection:
    """Raises WSHandshakeError if the server chose what it was not offered."""
    protocol = response.headers.get("Sec-WebSocket-Protocol")
    if protocol is not None and protocol not in endpoint.options.subprotocols:
        raise picows.WSHandshakeError(f"unsupported subprotocol: {protocol}")
    if "Sec-WebSocket-Extensions" in response.headers:
        raise picows.WSHandshakeError("no extensions supported")
    return ClientConnection(
        # What was said in the handshake; nobody asks for it.
        request=cast("Any", None),
        response=cast("Any", None),
        subprotocol=None,
        permessage_deflate=None,
        ping_interval=endpoint.options.ping_interval_s,
        ping_timeout=endpoint.options.ping_timeout_s,
        close_timeout=LEAVE_TIMEOUT_S,
        max_queue=endpoint.options.queue,
        # So that `send` returns only when the operating system has all of it.
        write_limit=0,
        max_message_size=endpoint.options.max_size,
        max_frame_size=endpoint.options.max_size,
        logger=_silent,
    )


class _Connection:
    __slots__ = ("_connection", "_transport")

    def __init__(self, transport: picows.WSTransport, connection: ClientConnection) -> None:
        self._transport = transport
        self._connection = connection

    @property
    def is_open(self) -> bool:
        return self._connection.state is State.OPEN

    async def recv(self) -> str | bytes:
        try:
            return await self._connection.recv()
        except Closed as closed:
            _raise_lost(closed)

    async def send(self, data: str | bytes) -> None:
        try:
            await self._connection.send(data)
        except Closed as closed:
            _raise_lost(closed)

    async def close(self) -> None:
        await self._connection.close()

    def abort(self) -> None:
        self._transport.disconnect(graceful=False)


def _refused(error: picows.WSInvalidStatusError) -> InvalidStatus:
    response = error.response
    assert response is not None
    return InvalidStatus(Response(int(response.status), response.status.phrase, Headers(response.headers.items())))


def _raise_lost(closed: Closed) -> NoReturn:
    received, sent = (
        Close(int(said.code) or CloseCode.NO_STATUS_RCVD, said.reason or "") if said is not None else None
        for said in (closed.rcvd, closed.sent)
    )
    order = bool(closed.rcvd_then_sent) if received is not None and sent is not None else None
    raise ConnectionClosedError(received, sent, order) from None
