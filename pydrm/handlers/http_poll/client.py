"""
`Client`: requests over connections that all resources of a manager share, read up to a limit.

It knows aiohttp, and is imported when the first resource needs it.

Right before a request is written it is asked once more whether its hold is valid. Connecting may take seconds, in which
a lease can end: a loop that was blocked for so long must not send what it had prepared before it hears of that.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import aiohttp
import attrs
from multidict import CIMultiDictProxy
from yarl import URL

from pydrm.agent.hold import Hold
from pydrm.errors import Fenced
from pydrm.handlers.http_exchange import read_body, trouble

__all__ = ["Client", "Fetched", "Unreachable"]

_hold: ContextVar[Hold] = ContextVar("pydrm_hold")

# Some thousands of urls are asked again and again, and yarl's own cache is for some hundred.
_parsed = lru_cache(maxsize=16_384)(URL)


@lru_cache(maxsize=1024)
def _within(seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=seconds)


class Unreachable(Exception):
    """There was no whole response in time; the message says why."""


@attrs.frozen
class Fetched:
    status: int
    headers: CIMultiDictProxy[str]
    body: bytes


class Client:
    """To be made and used on the app's loop. Each task that sends belongs to one hold, and says so first."""

    def __init__(self) -> None:
        self._session = aiohttp.ClientSession(
            # Whoever limits connections does it by budget, for the cluster as a whole.
            connector=aiohttp.TCPConnector(limit=0),
            # What a third party sets for one resource is not for another one's eyes.
            cookie_jar=aiohttp.DummyCookieJar(),
            request_class=_Request,
            timeout=aiohttp.ClientTimeout(total=None),
        )

    @staticmethod
    def speak_for(hold: Hold) -> None:
        """What the calling task sends from now on is sent under *hold*."""
        _hold.set(hold)

    async def fetch(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        *,
        timeout_s: float,
        bytes_max: int,
    ) -> Fetched:
        """
        Send one request and read the response, which is not followed elsewhere.

        Raises:
            Unreachable: There was none, not all of it in *timeout_s*, or it cannot be understood.
            TooLong: Its body, unpacked, has more than *bytes_max*; the connection is cut.
            Fenced: The hold ended before the request was sent.
        """
        try:
            async with self._session.request(
                method, _parsed(url), headers=headers, data=body, allow_redirects=False, timeout=_within(timeout_s)
            ) as response:
                content = b"" if method == "HEAD" else await read_body(response, bytes_max)
                return Fetched(response.status, response.headers, content)
        except TimeoutError:
            raise Unreachable(f"no response within {timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unreachable(trouble(error)) from error

    async def close(self) -> None:
        await self._session.close()


class _Request(aiohttp.ClientRequest):
    async def send(self, conn: Any) -> aiohttp.ClientResponse:
        hold = _hold.get()
        if not hold.valid:
            raise Fenced(f"resource {hold.resource.id!r}: token {hold.token} was over before a request was sent")
        return await super().send(conn)
