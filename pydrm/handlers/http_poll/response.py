"""
`Response`: what an http_poll resource's callbacks are given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from pydrm.agent.hold import Message
from pydrm.core.resource import Resource

__all__ = ["Response"]


@attrs.frozen(init=False)
class Response(Message):
    """
    Attributes:
        data: The body as the definition's `decode` says: bytes, text, or what the JSON stands for; None with a 304.
        status: 200 to 299, or 304.
        headers: By name, in whatever case; as a mapping that is not to be changed.
        changed: Whether the content is another than at the last poll, by whichever holder.
        url: What was asked for; a page's own if it was not the first.
    """

    data: Any
    status: int
    headers: Mapping[str, str]
    changed: bool
    url: str

    def __init__(
        self,
        data: Any,
        resource: Resource,
        token: int,
        *,
        status: int,
        headers: Mapping[str, str],
        changed: bool,
        url: str,
    ) -> None:
        self.__attrs_init__(
            resource=resource, token=token, data=data, status=status, headers=headers, changed=changed, url=url
        )
