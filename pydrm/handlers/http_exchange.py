"""
What all requests by aiohttp have in common: how long a body may be, and what is said of one that failed.
"""

from __future__ import annotations

import aiohttp

__all__ = ["TooLong", "read_body", "trouble"]

READ_BYTES = 64 * 1024


class TooLong(Exception):
    """The body is longer than it may be; the message says so, and the connection is cut."""


async def read_body(response: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    """
    The whole body, unpacked.

    Raises:
        TooLong: It has more than *bytes_max*.
    """
    length = response.content_length
    if length is not None and length <= bytes_max and "Content-Encoding" not in response.headers:
        return await response.read()
    if length is not None and length > bytes_max:
        response.close()
        raise TooLong(f"the body has {length} bytes, more than {bytes_max}")
    chunks, size = [], 0
    # Unpacked as it is read, so a small response that unpacks to a huge one is cut off as well.
    async for chunk in response.content.iter_chunked(READ_BYTES):
        chunks.append(chunk)
        size += len(chunk)
        if size > bytes_max:
            response.close()
            raise TooLong(f"the body has more than {bytes_max} bytes")
    return b"".join(chunks)


def trouble(error: Exception) -> str:
    """What to say of *error*: never the url, which may hold a secret."""
    match error:
        case aiohttp.ClientConnectorError():
            return f"cannot connect to {error.host}:{error.port}: {error.os_error}"
        case aiohttp.InvalidURL():
            return "the url cannot be used"
        case aiohttp.ClientResponseError():
            # Its text has all of the request.
            return f"what came is no response: {error.message.splitlines()[0] if error.message else error.status}"
        case _:
            return str(error) or type(error).__name__
