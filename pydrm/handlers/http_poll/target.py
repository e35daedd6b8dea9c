"""
Targets: what a `next_request` callback asks for, in the form in which a checkpoint keeps it. Pure.

A target is relative to the definition's url, so that what only the definition may know, such as a key in its query,
does not end up in a checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from pydrm.handlers.http_poll.position import TARGET_BYTES_MAX

__all__ = ["Following", "following", "url_of"]

# A target, and whether it is for the next poll rather than for this one.
Following = tuple[str, bool]


def following(returned: object, base: str) -> Following | None:
    """
    What a callback *returned*: None, a url, or {"url": ..., "params": {...}, "later": bool}, all optional.

    Raises:
        ValueError: It is something else, leads away from the origin of *base*, or is too long to be kept.
    """
    if returned is None:
        return None
    if isinstance(returned, str):
        returned = {"url": returned}
    if not isinstance(returned, Mapping) or set(returned) - {"url", "params", "later"}:
        raise ValueError(f"must be None, a url, or an object with url, params and later, not {returned!r}")
    url, params, later = returned.get("url", ""), returned.get("params", {}), returned.get("later", False)
    if not isinstance(url, str) or not isinstance(later, bool) or not isinstance(params, Mapping):
        raise ValueError("url must be a string, params an object, and later true or false")
    values = {str(name): value if isinstance(value, str) else json.dumps(value) for name, value in params.items()}
    target = json.dumps([url, values], ensure_ascii=False, separators=(",", ":")) if url or values else ""
    if len(target.encode()) > TARGET_BYTES_MAX:
        raise ValueError(f"is longer than {TARGET_BYTES_MAX} bytes")
    # Otherwise whoever writes the answers could have the definition's headers sent to wherever he likes.
    if urlsplit(url_of(target, base))[:2] != urlsplit(base)[:2]:
        raise ValueError(f"{url!r} leads to another host than the url of the definition")
    return target, later


def url_of(target: str, base: str) -> str:
    """The url that *target* stands for; *base* is the definition's."""
    if not target:
        return base
    reference, params = json.loads(target)
    parts = urlsplit(str(urljoin(base, reference)))
    if params:
        kept = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name not in params]
        parts = parts._replace(query=urlencode([*kept, *params.items()]))
    return str(urlunsplit(parts))
