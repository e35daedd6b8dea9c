"""
The kind "websocket": a client connection to a third party, held open for as long as the node holds the resource.

One run of the handler is one connection; when it is lost, the agent runs the handler again after a backoff, under
the same token. So there is one place in which retries are paced, for all kinds.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from typing import Any, cast
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from pydrm.agent.hold import Hold, Message
from pydrm.core.resource import Resource
from pydrm.errors import Fenced, InvalidResource, Permanent, Temporary
from pydrm.handlers.callbacks import Callback, Callbacks
from pydrm.handlers.dial import dial
from pydrm.handlers.endpoint import Endpoint

__all__ = ["LEAVE_TIMEOUT_S", "Websocket"]

logger = logging.getLogger(__name__)

# How long a third party may take to answer a close. The next holder waits for it, and longer than this
# it is not worth: an abort frees the connection just as well.
LEAVE_TIMEOUT_S = 0.25

QUEUE_FRAMES_MAX = 16


class Websocket:
    """
    Fields of a resource: `url` (ws:// or wss://), and optionally `headers` (an object), `subscribe` (a string, an
    object, or a list of them, each sent as one message), `on_message` (a callback's name), `proxy` ("env" or a url),
    `open_timeout` (seconds). Templates may stand in `url`, `headers` and `subscribe`. Redirects are not followed.

    It is open once it is connected and all of `subscribe` is sent. Messages are given to the callback
    one after the other; while it works, the connection is not read, so a slow callback slows its third party down
    and nothing piles up here. A callback that raises is logged and counted and costs that message only; one that is
    at work when the hold ends is cancelled.

    Attributes:
        callback_failures: How many messages' callbacks raised.
        dropped_messages: How many messages came when the lease was over, and were not delivered.
    """

    def __init__(self, callbacks: Callbacks) -> None:
        self.callback_failures = 0
        self.dropped_messages = 0
        self._callbacks = callbacks
        self._ssl: ssl.SSLContext | None = None

    def validate(self, resource: Resource) -> None:
        endpoint = Endpoint.of(resource, node="node", token=1)
        if endpoint.on_message and self._callbacks.get(endpoint.on_message) is None:
            known = ", ".join(self._callbacks) or "none"
            message = f"no callback {endpoint.on_message!r} is registered on this node (registered: {known})"
            raise InvalidResource(message, resource=resource.id, field="on_message")

    def group(self, resource: Resource) -> str:
        """The url's host; a host that depends on the holder is none that all could share a budget for."""
        try:
            host = urlsplit(str(resource.get("url"))).hostname
        except ValueError:
            return ""
        return host if host is not None and "{" not in host else ""

    async def run(self, hold: Hold) -> None:
        endpoint = Endpoint.of(hold.resource, node=hold.node, token=hold.token)
        callback = self._callback(endpoint, hold)
        opened: list[ClientConnection] = []
        try:
            async with asyncio.timeout(endpoint.open_timeout_s):
                connection = await self._connect(hold, endpoint, opened)
                for message in endpoint.subscribe:
                    await connection.send(message)
            hold.ready()
            await self._receive(connection, hold, callback)
        except ConnectionClosed as closed:
            raise Temporary(f"connection lost: {closed}") from closed
        except InvalidStatus as error:
            raise Temporary(f"refused with HTTP status {error.response.status_code}") from error
        except TimeoutError as error:
            raise Temporary(str(error) or f"not open within {endpoint.open_timeout_s:g} s") from error
        except (OSError, ValueError, WebSocketException) as error:
            raise Temporary(f"cannot connect: {error}") from error
        finally:
            for connection in opened:
                await _leave(connection, hold)

    def _callback(self, endpoint: Endpoint, hold: Hold) -> Callback | None:
        if not endpoint.on_message:
            return None
        callback = self._callbacks.get(endpoint.on_message)
        if callback is None:
            raise Permanent(f"no callback {endpoint.on_message!r} is registered on node {hold.node!r}")
        return callback

    async def _connect(self, hold: Hold, endpoint: Endpoint, opened: list[ClientConnection]) -> ClientConnection:
        """Connect; what has to be closed is put into *opened*, even if this fails half-way."""
        options: dict[str, Any] = {}
        sock: socket.socket | None = None
        if endpoint.secure:
            options["ssl"] = self._ssl_context()
        if endpoint.proxy is None:
            sock = await dial(hold, endpoint.host, endpoint.port, timeout_s=endpoint.open_timeout_s)
            options["sock"] = sock

        def create(*arguments: Any, **keywords: Any) -> ClientConnection:
            connection = (
                _Proxied(hold, *arguments, **keywords) if sock is None else ClientConnection(*arguments, **keywords)
            )
            opened.append(connection)
            return connection

        try:
            return await connect(
                endpoint.url,
                additional_headers=endpoint.headers,
                compression=None,
                proxy=endpoint.proxy,
                open_timeout=None,
                close_timeout=LEAVE_TIMEOUT_S,
                max_queue=QUEUE_FRAMES_MAX,
                create_connection=cast("type[ClientConnection]", create),
                **options,
            )
        finally:
            # From then on the transport owns the socket and closes it.
            if sock is not None and not opened:
                sock.close()

    async def _receive(self, connection: ClientConnection, hold: Hold, callback: Callback | None) -> None:
        """Deliver what arrives until the connection is lost, which is the only way in which this ends."""
        while True:
            data = await connection.recv()
            if not hold.valid:
                self.dropped_messages += 1
                raise Fenced(f"a message for resource {hold.resource.id!r} came when token {hold.token} was over")
            if callback is not None:
                await self._deliver(callback, Message(data, hold.resource, hold.token), hold)

    async def _deliver(self, callback: Callback, message: Message, hold: Hold) -> None:
        try:
            await callback(message)
        except Exception:
            # The border to the app's code: one message must not cost the connection.
            self.callback_failures += 1
            fields = {"resource": hold.resource.id, "token": hold.token, "node": hold.node}
            logger.exception("a callback failed; the message is lost to it", extra=fields)

    def _ssl_context(self) -> ssl.SSLContext:
        # Reading the system's certificates takes tens of milliseconds: once, and only if there is a wss url.
        if self._ssl is None:
            self._ssl = ssl.create_default_context()
        return self._ssl


class _Proxied(ClientConnection):
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


async def _leave(connection: ClientConnection, hold: Hold) -> None:
    """Close politely while there is a right to, then for certain."""
    transport = getattr(connection, "transport", None)
    if transport is None:
        return
    try:
        if hold.valid:
            async with asyncio.timeout(LEAVE_TIMEOUT_S):
                await connection.close()
    except TimeoutError:
        pass
    finally:
        transport.abort()
