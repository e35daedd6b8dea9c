"""
`Client`: one answer at a time, read whole up to a limit. It knows aiohttp, and is imported when a source needs it.

Redirects are not followed: they would take the headers, and what is in them, to wherever the other end says.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Any

import aiohttp
import attrs

from pydrm.agent.hold import Hold
from pydrm.core.resource import Json
from pydrm.errors import Fenced
from pydrm.handlers.http_exchange import TooLong, read_body, trouble
from pydrm.sources.fetching import FetchFailed

__all__ = ["Answered", "Client"]


@attrs.frozen
class Answered:
    """
    Attributes:
        headers: By name, in whatever case.
        link: The url that its header Link says is next (RFC 8288), or "".
    """

    status: int
    headers: Mapping[str, str]
    link: str
    body: bytes


class Client:
    """For one hold; its sockets are cut when the lease ends. To be made and used on the app's loop."""

    def __init__(self, hold: Hold) -> None:
        def guarded(address: Any) -> socket.socket:
            family, type_, protocol, *_ = address
            sock = socket.socket(family, type_, protocol)
            try:
                hold.guard(sock)
            except Fenced:
                sock.close()
                raise
            return sock

        self._session = aiohttp.ClientSession(
            # Every fetch has a connection of its own: between two of them it would be idle for a minute.
            connector=aiohttp.TCPConnector(socket_factory=guarded, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
        )

    async def ask(
        self, method: str, url: str, headers: Mapping[str, str], body: Json, *, timeout_s: float, bytes_max: int
    ) -> Answered:
        """
        Raises:
            FetchFailed: There is no whole answer.
            Fenced: The hold is over.
        """
        sent = {"data": body} if isinstance(body, str) else {"json": body} if body is not None else {}
        try:
            async with asyncio.timeout(timeout_s):
                async with self._session.request(
                    method, url, headers=headers, allow_redirects=False, **sent
                ) as response:
                    content = await read_body(response, bytes_max)
                    link = response.links["next"]["url"] if "next" in response.links else ""
                    return Answered(response.status, response.headers, str(link), content)
        except TimeoutError:
            raise FetchFailed(f"no answer within {timeout_s:g} s") from None
        except TooLong as error:
            raise FetchFailed(f"{error} (max_bytes)") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise FetchFailed(trouble(error)) from None

    async def close(self) -> None:
        await self._session.close()
