"""
`Poster`: sends one POST, over HTTP or over what stands for it in a simulation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import attrs

from pydrm.agent.hold import Hold
from pydrm.handlers.webhook.address_guard import Network

__all__ = ["Lost", "NotSent", "Post", "Poster", "Reply"]


class NotSent(Exception):
    """Nothing has left this node; the message says why."""


class Lost(Exception):
    """It may have been received, or not; the message says why that is not known."""


@attrs.frozen
class Post:
    """
    Attributes:
        allowed: Networks that are not public and may be connected to.
        fresh: That no connection that served before is to be used: such a one can be lost unnoticed.
    """

    url: str
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)
    timeout_s: float
    allowed: tuple[Network, ...]
    fresh: bool


@attrs.frozen
class Reply:
    """
    Attributes:
        retry_after, date: The headers of these names, or "".
    """

    status: int
    retry_after: str = ""
    date: str = ""


class Poster(Protocol):
    async def post(self, hold: Hold, post: Post) -> Reply:
        """
        Send *post*, unless *hold* is over by the moment at which it would leave; what is answered is not followed.

        Raises:
            NotSent, Lost
        """

    async def close(self) -> None:
        """Nothing is under way; connections that are kept can go. It may be used again."""
