"""
`HttpPoster`: POSTs by aiohttp; imported when the first webhook is held.

    Rule 1.  A name is resolved once for a connection, every address that it has is checked, and what was checked is
             what is connected to. What needs no resolver, or is taken for such (aiohttp and then the system know
             "127.1" and "2130706433" for addresses), is checked when the socket is made. Connections are shared only
             where the same networks are allowed.
    Rule 2.  Right before a request is written it is asked again whether its hold is valid: connecting takes time.
    Rule 3.  Redirects are not followed, cookies not kept, and of a response no more than a little is read.
"""

from __future__ import annotations

import asyncio
import socket
from contextvars import ContextVar
from functools import partial
from typing import Any

import aiohttp
import attrs
from aiohttp.abc import AbstractResolver, ResolveResult

from pydrm.agent.hold import Hold
from pydrm.handlers.http_exchange import trouble
from pydrm.handlers.webhook.address_guard import Network, address_problem
from pydrm.handlers.webhook.poster import Lost, NotSent, Post, Reply

__all__ = ["HttpPoster"]

RESPONSE_BYTES_MAX = 64 * 1024
KEEPALIVE_S = 10.0


@attrs.define
class _Sending:
    """
    Attributes:
        begun: Whether anything of the request may have left.
    """

    hold: Hold
    begun: bool = False


_sending: ContextVar[_Sending] = ContextVar("pydrm_sending")


class HttpPoster:
    """To be used on one loop until it is closed."""

    def __init__(self) -> None:
        self._sessions: dict[tuple[tuple[Network, ...], bool], aiohttp.ClientSession] = {}

    async def post(self, hold: Hold, post: Post) -> Reply:
        sending = _Sending(hold)
        _sending.set(sending)
        try:
            async with asyncio.timeout(post.timeout_s):
                async with self._session(post).post(
                    post.url, data=post.body, headers=post.headers, allow_redirects=False
                ) as response:
                    reply = Reply(
                        response.status, response.headers.get("Retry-After", ""), response.headers.get("Date", "")
                    )
                    await _drain(response)
                    return reply
        except TimeoutError:
            raise _failed(sending, f"no answer within {post.timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _failed(sending, trouble(error)) from error

    async def close(self) -> None:
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()

    def _session(self, post: Post) -> aiohttp.ClientSession:
        key = (post.allowed, post.fresh)
        session = self._sessions.get(key)
        if session is None or session.closed:
            session = self._sessions[key] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=_GuardedResolver(post.allowed),
                    use_dns_cache=False,
                    socket_factory=partial(_guarded_socket, post.allowed),
                    limit=0,
                    force_close=post.fresh,
                    keepalive_timeout=None if post.fresh else KEEPALIVE_S,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                request_class=_Request,
                timeout=aiohttp.ClientTimeout(total=None),
            )
        return session


class _Request(aiohttp.ClientRequest):
    async def send(self, conn: Any) -> aiohttp.ClientResponse:
        sending = _sending.get()
        if not sending.hold.valid:
            raise _HoldOver(f"the lease or the assignment under token {sending.hold.token} was over before")
        sending.begun = True
        return await super().send(conn)


class _HoldOver(aiohttp.ClientError):
    pass


class _GuardedResolver(AbstractResolver):
    def __init__(self, allowed: tuple[Network, ...]) -> None:
        self._allowed = allowed

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        results = []
        for its_family, _, protocol, _, address in found:
            problem = address_problem(str(address[0]), self._allowed)
            if problem:
                raise OSError(None, f"{host}: {problem}; see allow")
            results.append(
                ResolveResult(
                    hostname=host,
                    host=str(address[0]),
                    port=port,
                    family=its_family,
                    proto=protocol,
                    flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
                )
            )
        return results

    async def close(self) -> None:
        """It keeps nothing."""


def _guarded_socket(allowed: tuple[Network, ...], address: Any) -> socket.socket:
    family, kind, protocol, _, where = address
    problem = address_problem(str(where[0]), allowed)
    if problem:
        raise OSError(None, f"{problem}; see allow")
    sock = socket.socket(family, kind, protocol)
    sock.setblocking(False)
    return sock


def _failed(sending: _Sending, why: str) -> Exception:
    return Lost(why) if sending.begun else NotSent(why)


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Read a short body, so that its connection can be used again; of a long one, cut the connection."""
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > RESPONSE_BYTES_MAX:
            response.close()
            return
