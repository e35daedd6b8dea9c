"""
What a definition's `decode` makes of bytes that arrived. Pure.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

__all__ = ["DECODES", "decoded"]

DECODES = ("bytes", "text", "json")

_CHARSET = re.compile(r'charset\s*=\s*"?([^\s;"]+)', re.IGNORECASE)


def decoded(body: bytes, decode: str, content_type: str = "") -> Any:
    """
    *body* as *decode*, one of `DECODES`, says; text in the encoding that *content_type* names, or else UTF-8.

    Raises:
        ValueError: It is not that; the message says why.
    """
    match decode:
        case "json":
            return msgspec.json.decode(body)
        case "text":
            charset = _CHARSET.search(content_type)
            try:
                return body.decode(charset[1] if charset else "utf-8")
            except LookupError:
                return body.decode()
    return body
