"""
The kind "websocket": a client connection to a third party, held open for as long as the node holds the resource.

One run of the handler is one connection; when it is lost, the agent runs the handler again after a backoff, under
the same token. So there is one place in which retries are paced, for all kinds.
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from random import SystemRandom
from urllib.parse import urlsplit

from websockets.exceptions import WebSocketException

from pydrm.agent.hold import Hold
from pydrm.clock import Clock, Random, SystemClock
from pydrm.core.resource import Resource
from pydrm.errors import HandlerError, InvalidResource, Temporary
from pydrm.handlers.callbacks import Callbacks
from pydrm.handlers.counts import Counts
from pydrm.handlers.secrets import Secrets
from pydrm.handlers.websocket.connection import Connection
from pydrm.handlers.websocket.endpoint import MAY_HOLD_SECRETS, Endpoint
from pydrm.handlers.websocket.refusal import refusal
from pydrm.handlers.websocket.session import Session, leave
from pydrm.handlers.websocket.transport import Transport, connect_by

__all__ = ["Websocket"]


class Websocket:
    """
    Fields of a resource: `url` (ws:// or wss://), and optionally those of `Endpoint`; docs/websocket.md has the table.
    Templates may stand in `url`, `headers`, `subscribe`, `unsubscribe` and `proxy`. Redirects are not followed.

    It is open once it is connected and all of `subscribe` is sent. Messages are given to the callback one after the
    other; while it works, by default, the connection is not read, so a slow callback slows its third party down and
    nothing piles up here. A callback that raises is logged and counted and costs that message only; one that is
    at work when the hold ends is cancelled.

    Args:
        transport: The library that connections are made with.

    Attributes:
        counts: What did not reach a callback.

    Raises:
        ConfigurationError: The library of *transport* is not installed.
    """

    fields = frozenset(
        {
            "url",
            "headers",
            "subprotocols",
            "subscribe",
            "unsubscribe",
            "on_message",
            "decode",
            "checkpoint_field",
            "checkpoint_start",
            "queue",
            "when_full",
            "max_size",
            "ping_interval",
            "ping_timeout",
            "idle_timeout",
            "open_timeout",
            "compression",
            "tls_ca",
            "proxy",
        }
    )

    def __init__(
        self,
        callbacks: Callbacks,
        *,
        clock: Clock | None = None,
        random: Random | None = None,
        transport: Transport = "websockets",
        counts: Counts | None = None,
    ) -> None:
        self.counts = counts or Counts()
        self._connect = connect_by(transport)
        self._callbacks = callbacks
        self._clock = clock or SystemClock()
        self._random = random or SystemRandom()
        self._ssl: dict[str, tuple[int, ssl.SSLContext]] = {}

    def validate(self, resource: Resource) -> None:
        endpoint = Endpoint.of(resource, node="node", token=1)
        if endpoint.options.on_message and self._callbacks.get(endpoint.options.on_message) is None:
            known = ", ".join(self._callbacks) or "none"
            message = f"no callback {endpoint.options.on_message!r} is registered on this node (registered: {known})"
            raise InvalidResource(message, resource=resource.id, field="on_message")

    def group(self, resource: Resource) -> str:
        """The url's host; a host that depends on the holder is none that all could share a budget for."""
        try:
            host = urlsplit(str(resource.get("url"))).hostname
        except ValueError:
            return ""
        return host if host is not None and "{" not in host else ""

    async def run(self, hold: Hold) -> None:
        secrets = await Secrets.held(hold, MAY_HOLD_SECRETS)
        endpoint = self._endpoint(hold, secrets)
        callback = self._callbacks.named_by(hold, endpoint.options.on_message)
        connection: Connection | None = None
        session: Session | None = None
        try:
            async with asyncio.timeout(endpoint.options.open_timeout_s):
                tls = self._ssl_context(endpoint.options.tls_ca) if endpoint.uri.secure else None
                connection = await self._connect(hold, endpoint, tls)
                session = Session(connection, endpoint, hold, callback, self.counts)
                await session.subscribe()
            hold.on_send(session.send)
            hold.ready()
            await session.receive()
        except (OSError, ValueError, WebSocketException) as error:
            if session is not None and session.broken:
                failure: HandlerError = Temporary(f"connection lost: {session.broken}")
            else:
                failure = self._refusal(error, hold, endpoint, secrets)
        finally:
            hold.on_send(None)
            if connection is not None:
                await leave(connection, hold, words=endpoint.unsubscribe)
        # Not from within `except`: what failed may show the url, and goes wherever an error's context is shown.
        raise failure

    def _refusal(self, error: Exception, hold: Hold, endpoint: Endpoint, secrets: Secrets) -> HandlerError:
        failure = refusal(error, open_timeout_s=endpoint.options.open_timeout_s, clock=self._clock, random=self._random)
        failure.args = (secrets.redact(str(failure)),)
        if isinstance(failure, Temporary) and failure.delay is not None:
            hold.hold_back(failure.delay, str(failure))
        return failure

    def _endpoint(self, hold: Hold, secrets: Secrets) -> Endpoint:
        checkpoint = hold.last_checkpoint
        try:
            return Endpoint.of(hold.resource, node=hold.node, token=hold.token, secrets=secrets, checkpoint=checkpoint)
        except InvalidResource as error:
            # The definition was checked when it was added; so it is what has been filled in, and that may change.
            if secrets.values or checkpoint is not None:
                raise Temporary(f"what its templates stand for cannot be used: {error}") from None
            raise

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
