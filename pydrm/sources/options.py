"""
`Options`: what can be said of every source, whatever it fetches from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, cast

import attrs

from pydrm.core.resource import Json, Resource
from pydrm.sources.fields import Fields

__all__ = ["Options"]

DAY_S = 86_400.0


@attrs.frozen
class Options:
    """
    Attributes:
        defaults: Fields that each entry has unless it says otherwise.
        poll_s: Seconds between two fetches; 0: one only, for each holder.
        max_retry_s: How long this node tries to fetch, without having it, until it says that it failed.
        on_missing: What becomes of what it owns and the list does not name any more.
        max_shrink: The part of what it owns that one fetch may take away, from 0 to 1.
        allow_empty: Whether an empty list may be meant.
        allow_secrets: Whether entries may refer to secrets, as in "{env:NAME}".
    """

    defaults: Mapping[str, Json]
    poll_s: float
    max_retry_s: float
    on_missing: Literal["remove", "keep"]
    max_shrink: float
    allow_empty: bool
    allow_secrets: bool

    @classmethod
    def read(cls, resource: Resource, fields: Fields, *, poll_s: float) -> Options:
        """
        Raises:
            InvalidResource: A field cannot be used; it is named.
        """
        if resource.overlap:
            raise fields.wrong("overlap", "must be false: a source is fetched by exactly one node")
        defaults = fields.table("defaults")
        if "id" in defaults:
            raise fields.wrong("defaults", "must not have an id")
        return cls(
            defaults=defaults,
            poll_s=fields.number("poll", poll_s, 0, 30 * DAY_S),
            max_retry_s=fields.number("max_retry", 60.0, 0, DAY_S),
            on_missing=cast(Literal["remove", "keep"], fields.choice("on_missing", "remove", "keep")),
            max_shrink=fields.number("max_shrink", 0.5, 0, 1),
            allow_empty=fields.flag("allow_empty"),
            allow_secrets=fields.flag("allow_secrets"),
        )
