"""
`HttpRequest`: how the fields of an http source say that its list is to be fetched. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlencode, urljoin, urlsplit, urlunsplit

import attrs

from pydrm.core.resource import Json
from pydrm.sources.fields import Fields
from pydrm.sources.secret import names_secret

__all__ = ["HttpRequest", "NoNextPage", "next_url", "without_query"]

# RFC 9110, section 5.6.2.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class NoNextPage(Exception):
    """There should be a next page, and it is not one that may be fetched; the message says why."""


@attrs.frozen
class HttpRequest:
    """
    Attributes:
        url, headers, body: References to secrets are not filled in yet. A body that is no string is sent as JSON.
        list: Where the list is in the answer: names of members, one inside the other.
        next: Where an answer names its next page; none: in its header `Link` (RFC 8288).
        cursor: The parameter of the query that takes what is at `next`; "" if that is a url.
        pages_max, bytes_max: Of a whole list; one that has more is not used.
        timeout_s: For each page.
    """

    url: str
    method: str
    headers: Mapping[str, str]
    body: Json
    list: Sequence[str]
    next: Sequence[str]
    cursor: str
    pages_max: int
    bytes_max: int
    timeout_s: float

    @classmethod
    def read(cls, fields: Fields) -> HttpRequest:
        """
        Raises:
            InvalidResource: A field cannot be used; it is named.
        """
        request = cls(
            url=_url(fields),
            method=fields.text("method", "GET").upper(),
            headers=_headers(fields),
            body=fields.any("body"),
            list=fields.path("list", "data"),
            next=fields.path("next", ""),
            cursor=fields.text("cursor", ""),
            pages_max=fields.count("max_pages", 100, 1, 100_000),
            bytes_max=fields.count("max_bytes", 16 * 1024 * 1024, 1, 1024**3),
            timeout_s=fields.number("timeout", 10.0, 0.01, 300.0),
        )
        if not _TOKEN.fullmatch(request.method):
            raise fields.wrong("method", f"cannot be one: {request.method!r}")
        if request.cursor and not request.next:
            raise fields.wrong("next", "is missing: it says where the cursor is")
        return request

    @property
    def conditional(self) -> bool:
        """Whether it may be asked for on a condition (RFC 9110, section 13.1)."""
        return self.method == "GET"


def next_url(request: HttpRequest, first: str, current: str, link: str, content: object) -> str | None:
    """
    The next page's url; None after the last.

    Args:
        first: The url that the first page was fetched from.
        link: What the header Link said is next; "".
        content: What was fetched from *current*.

    Raises:
        NoNextPage: It is elsewhere, where the headers of this source are nobody's business; or it is no url.
    """
    said: object = link
    if request.next:
        said = content
        for name in request.next:
            said = said.get(name) if isinstance(said, Mapping) else None
    if said in (None, "", False):
        return None
    if isinstance(said, bool) or not isinstance(said, (str, int)):
        raise NoNextPage(f"the next page is named by {said!r}")
    if request.cursor:
        return _with_parameter(first, request.cursor, str(said))
    url = urljoin(current, str(said))
    if _origin(url) != _origin(first):
        raise NoNextPage(f"the next page is elsewhere, at {without_query(url)}")
    return url


def without_query(url: str) -> str:
    """For people: without what may hold a secret."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        host = f"[{host}]" if ":" in host else host
        return urlunsplit((parts.scheme, host + (f":{parts.port}" if parts.port else ""), parts.path, "", ""))
    except ValueError:
        return "a url that cannot be read"


def _with_parameter(url: str, name: str, value: str) -> str:
    parts = urlsplit(url)
    kept = [pair for pair in parts.query.split("&") if pair and pair.partition("=")[0] != name]
    return urlunsplit(parts._replace(query="&".join([*kept, urlencode({name: value})])))


def _origin(url: str) -> tuple[str, str | None, int | None]:
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        raise NoNextPage("the next page's url cannot be read") from None
    return parts.scheme, parts.hostname, port


def _url(fields: Fields) -> str:
    url = fields.text("url")
    if not url.isprintable() or " " in url:
        raise fields.wrong("url", f"must not contain spaces or control characters: {url!r}")
    if names_secret(url):
        # What it stands for is known on the holder only, and may be all of it.
        return url
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise fields.wrong("url", f"{url!r} cannot be read: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise fields.wrong("url", f"must begin with http:// or https:// and a host: {url!r}")
    return url


def _headers(fields: Fields) -> Mapping[str, str]:
    headers: dict[str, str] = {}
    for name, value in fields.table("headers").items():
        if not _TOKEN.fullmatch(name):
            raise fields.wrong("headers", f"{name!r} cannot be the name of one")
        # A line break would begin a header of the value's own making.
        if not isinstance(value, str) or not value.isprintable() or not value.isascii():
            raise fields.wrong("headers", f"{name} must be printable ASCII")
        headers[name] = value
    return headers
