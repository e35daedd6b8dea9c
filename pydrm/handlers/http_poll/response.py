"""
`Response`: what an http_poll resource's callbacks are given.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from pydrm.agent.message import Message

__all__ = ["Response"]


@attrs.frozen
class Response(Message):
    """
    Attributes:
        data: The body as the definition's `decode` says: bytes, text, or what the JSON stands for; None with a 304.
        status: 200 to 299, or 304.
        headers: By name, in whatever case; as a mapping that is not to be changed.
        changed: Whether the content is another than at the last poll, by whichever holder.
        url: What was asked for; a page's own if it was not the first.
    """

    status: int
    headers: Mapping[str, str]
    changed: bool
    url: str
