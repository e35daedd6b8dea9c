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
from pathlib import Path
from random import SystemRandom
from typing import Any, cast
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from pydrm.agent.hold import Hold
from pydrm.clock import Clock, Random, SystemClock
from pydrm.core.resource import Resource
from pydrm.errors import Fenced, HandlerError, InvalidResource, Permanent, Temporary
from pydrm.handlers.callbacks import Callback, Callbacks
from pydrm.handlers.dial import dial
from pydrm.handlers.secrets import SecretMissing, Secrets
from pydrm.handlers.websocket.endpoint import Endpoint, templates_of
from pydrm.handlers.websocket.refusal import refusal
from pydrm.handlers.websocket.session import LEAVE_TIMEOUT_S, Counts, Session, leave

__all__ = ["LEAVE_TIMEOUT_S", "Websocket"]

# At its level DEBUG websockets writes down each request with its headers, and so the secrets in them.
_silent = logging.getLogger(f"{__name__}.connection")
_silent.disabled = True


class Websocket:
    """
    Fields of a resource: `url` (ws:// or wss://), and optionally those of `Endpoint`; docs/websocket.md has the table.
    Templates may stand in `url`, `headers`, `subscribe`, `unsubscribe` and `proxy`. Redirects are not followed.

    It is open once it is connected and all of `subscribe` is sent. Messages are given to the callback one after the
    other; while it works, by default, the connection is not read, so a slow callback slows its third party down and
    nothing piles up here. A callback that raises is logged and counted and costs that message only; one that is
    at work when the hold ends is cancelled.

    Attributes:
        counts: What did not reach a callback.
    """

    def __init__(self, callbacks: Callbacks, *, clock: Clock | None = None, random: Random | None = None) -> None:
        self.counts = Counts()
        self._callbacks = callbacks
        self._clock = clock or SystemClock()
        self._random = random or SystemRandom()
        self._ssl: dict[str, tuple[int, ssl.SSLContext]] = {}

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
        try:
            secrets = await Secrets.read(templates_of(hold.resource))
        except SecretMissing as missing:
            raise Temporary(f"{missing} on node {hold.node!r}") from None
        endpoint = self._endpoint(hold, secrets)
        failure = await self._run(hold, endpoint, secrets, self._callback(endpoint, hold))
        # Not from within `except`: what failed may show the url, and goes wherever an error's context is shown.
        raise failure

    async def _run(self, hold: Hold, endpoint: Endpoint, secrets: Secrets, callback: Callback | None) -> HandlerError:
        """Hold it for as long as it goes well; return what to say then."""
        opened: list[ClientConnection] = []
        session: Session | None = None
        try:
            async with asyncio.timeout(endpoint.open_timeout_s):
                connection = await self._connect(hold, endpoint, opened)
                session = Session(connection, endpoint, hold, callback, self.counts)
                await session.subscribe()
            hold.on_send(session.send)
            hold.ready()
            await session.receive()
        except (OSError, ValueError, WebSocketException) as error:
            if session is not None and session.broken:
                return Temporary(f"connection lost: {session.broken}")
            failure = refusal(error, open_timeout_s=endpoint.open_timeout_s, clock=self._clock, random=self._random)
            failure.args = (secrets.redact(str(failure)),)
            if isinstance(failure, Temporary) and failure.delay is not None:
                hold.hold_back(failure.delay, str(failure))
            return failure
        finally:
            hold.on_send(None)
            for connection in opened:
                await leave(connection, hold, words=endpoint.unsubscribe if session is not None else ())
        raise AssertionError("receiving ends by an error only")

    def _endpoint(self, hold: Hold, secrets: Secrets) -> Endpoint:
        checkpoint = hold.last_checkpoint
        try:
            return Endpoint.of(hold.resource, node=hold.node, token=hold.token, secrets=secrets, checkpoint=checkpoint)
        except InvalidResource as error:
            # The definition was checked when it was added; so it is what has been filled in, and that may change.
            if secrets.values or checkpoint is not None:
                raise Temporary(f"what its templates stand for cannot be used: {error}") from None
            raise

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
            options["ssl"] = self._ssl_context(endpoint.tls_ca)
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
                subprotocols=cast("Any", list(endpoint.subprotocols) or None),
                compression="deflate" if endpoint.compresses else None,
                proxy=endpoint.proxy,
                open_timeout=None,
                close_timeout=LEAVE_TIMEOUT_S,
                ping_interval=endpoint.ping_interval_s,
                ping_timeout=endpoint.ping_timeout_s,
                max_size=endpoint.max_size,
                max_queue=endpoint.queue,
                # So that `send` returns only when the operating system has all of it.
                write_limit=0,
                logger=_silent,
                create_connection=cast("type[ClientConnection]", create),
                **options,
            )
        finally:
            # From then on the transport owns the socket and closes it.
            if sock is not None and not opened:
                sock.close()

    def _ssl_context(self, ca: str) -> ssl.SSLContext:
        """One for each CA file: reading the system's takes tens of milliseconds, and each has its own memory."""
        if not ca:
            changed = 0
        else:
            try:
                changed = Path(ca).stat().st_mtime_ns
            except OSError as error:
                raise OSError(f"tls_ca {ca}: {error.strerror}") from None
        known = self._ssl.get(ca)
        if known is None or known[0] != changed:
            try:
                known = self._ssl[ca] = (changed, ssl.create_default_context(cafile=ca or None))
            except OSError as error:
                raise OSError(f"tls_ca {ca}: {error}") from None
        return known[1]


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
