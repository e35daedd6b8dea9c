"""
`RedisLink`: one connection to a Redis server: commands go out at once, replies are read one by one.

The one module that knows the package redis (extra "redis"), of which it uses the connection and the parser. Its pools,
retries and its own idea of subscriptions stay unused: reconnecting is paced by the agent, and shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from pydrm.agent.hold import Hold
from pydrm.handlers.dial import dial
from pydrm.handlers.redis.address import RedisAddress
from pydrm.handlers.redis.trouble import Lost, Refused

__all__ = ["RedisLink"]

Dialled = Callable[[str, int], Awaitable[socket.socket]]


class RedisLink:
    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, address: RedisAddress, *, hold: Hold | None, timeout_s: float) -> RedisLink:
        """
        A connection, authenticated, whose socket is guarded by *hold* if there is one.

        Raises:
            Lost: It did not come about within *timeout_s*.
            Refused: The server wants other credentials, or has no such database.
            Fenced: The hold ended.
        """
        make = _SecureConnection if address.secure else _Connection
        connection = make(
            host=address.host,
            port=address.port,
            db=address.database,
            username=address.username or None,
            password=address.password or None,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=timeout_s,
        )
        connection.hold, connection.timeout_s = hold, timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException as error:
            await _disconnect(connection)
            if isinstance(error, (AuthenticationError, ResponseError)):
                raise Refused(f"{address}: {error}") from error
            if isinstance(error, (RedisError, OSError)):
                raise Lost(f"{address} cannot be reached: {str(error) or 'no answer in time'}") from error
            raise
        return cls(connection)

    def send(self, *words: str | bytes | int) -> None:
        """One command; it is written at once, or with what is read next if the other side is slow."""
        writer = self._connection.writer
        assert writer is not None
        writer.write(b"".join(self._connection.pack_command(*words)))

    async def read(self, timeout_s: float | None = None) -> Any:
        """
        The next reply, or push of a subscription: bytes, integers, lists and None.

        Raises:
            Refused: The reply is an error.
            Lost: The connection is, or there was no reply in time; then nothing more can be read.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await self._connection.read_response(disable_decoding=True, timeout=float("inf"))
        except ResponseError as error:
            raise Refused(str(error)) from error
        except TimeoutError:
            raise Lost(f"no reply within {timeout_s:g} s") from None
        except (RedisError, OSError) as error:
            raise Lost(f"connection lost: {error}") from error

    async def ask(self, *words: str | bytes | int, timeout_s: float) -> Any:
        """The reply to a command, if nothing else is under way. Raises as `read` does."""
        self.send(*words)
        return await self.read(timeout_s)

    async def close(self) -> None:
        """At once. Idempotent."""
        await _disconnect(self._connection)


class _Connection(Connection):
    """Made by `dial`, so that its socket is guarded before it connects."""

    hold: Hold | None = None
    timeout_s: float = 0.0
    writer: asyncio.StreamWriter | None = None

    async def _connect(self) -> None:
        options = dict(self._connection_arguments())
        host, port = options.pop("host"), options.pop("port")
        if options.get("ssl"):
            options["server_hostname"] = host
        sock = await dial(self.hold, host, port, timeout_s=self.timeout_s)
        try:
            self._reader, self._writer = await asyncio.open_connection(sock=sock, **options)
        except BaseException:
            sock.close()
            raise
        self.writer = self._writer


class _SecureConnection(_Connection, SSLConnection):
    pass


async def _disconnect(connection: _Connection) -> None:
    if connection.writer is not None:
        connection.writer.transport.abort()
    with contextlib.suppress(RedisError, OSError):
        await connection.disconnect(nowait=True)
