"""
`Endpoint`: what a websocket resource's fields say, checked and with its templates filled in.

Pure. It is made once when the resource is added, to find mistakes before anything changes, and
again for each connection, with that connection's token.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Literal, TypeVar
from urllib.parse import quote, urlsplit

import attrs
from websockets.exceptions import InvalidURI
from websockets.uri import parse_uri

from pydrm.core.resource import Json, Resource
from pydrm.errors import InvalidResource
from pydrm.handlers.template import TemplateError, render, render_json, values_of

__all__ = ["OPEN_TIMEOUT_S", "Endpoint"]

T = TypeVar("T")

OPEN_TIMEOUT_S = 10.0

# Those that websockets knows; socks needs the package python-socks too.
_PROXY_SCHEMES = ("http", "https", "socks5h", "socks5", "socks4a", "socks4")

# RFC 9110, section 5.6.2.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@attrs.frozen
class Endpoint:
    """
    Attributes:
        host, port: Where to connect to, taken from the url.
        subscribe: What to send once connected, in order.
        on_message: The name of the callback that gets what arrives; "" drops it.
        proxy: A proxy's url; True for the one that the environment names; None for none.
        open_timeout_s: How long connecting and subscribing may take.
    """

    url: str
    host: str
    port: int
    secure: bool
    headers: Mapping[str, str]
    subscribe: tuple[str, ...]
    on_message: str
    proxy: str | Literal[True] | None
    open_timeout_s: float

    @classmethod
    def of(cls, resource: Resource, *, node: str, token: int) -> Endpoint:
        """
        Raises:
            InvalidResource: A field cannot be used; it is named.
        """
        read = _Reader(resource, values_of(resource, node=node, token=token))
        url = read.field("url", _url)
        uri = read.checked("url", lambda: parse_uri(url))
        return cls(
            url=url,
            host=uri.host,
            port=uri.port,
            secure=uri.secure,
            headers=read.field("headers", _headers),
            subscribe=read.field("subscribe", _subscribe),
            on_message=read.field("on_message", _on_message),
            proxy=read.field("proxy", _proxy),
            open_timeout_s=read.field("open_timeout", _open_timeout),
        )


Values = Mapping[str, str]


class _Reader:
    """Reads fields one by one, so that every complaint names the field that it is about."""

    def __init__(self, resource: Resource, values: Values) -> None:
        self._resource = resource
        self._values = values

    def field(self, name: str, read: Callable[[Json, Values], T]) -> T:
        return self.checked(name, lambda: read(self._resource.get(name), self._values))

    def checked(self, name: str, read: Callable[[], T]) -> T:
        try:
            return read()
        except (TemplateError, _Wrong, InvalidURI) as error:
            raise InvalidResource(str(error), resource=self._resource.id, field=name) from None


class _Wrong(ValueError):
    pass


def _url(value: Json, values: Values) -> str:
    if value is None:
        raise _Wrong("is missing")
    if not isinstance(value, str):
        raise _Wrong(f"must be a string, not {value!r}")
    # An id may hold anything, so it must not end the part of the url that it stands in.
    encoded = {name: quote(values[name], safe="") for name in ("id", "node") if name in values}
    url = render(value, {**values, **encoded})
    if not url.isprintable() or " " in url:
        raise _Wrong(f"must not contain spaces or control characters: {url!r}")
    try:
        parts = urlsplit(url)
        _ = parts.port  # is read only now, and may be no number
    except ValueError as error:
        raise _Wrong(f"{url!r} cannot be read: {error}") from None
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise _Wrong(f"must begin with ws:// or wss:// and a host: {url!r}")
    return url


def _headers(value: Json, values: Values) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _Wrong(f"must be an object of names and strings, not {value!r}")
    headers = {}
    for name, template in value.items():
        if not _TOKEN.fullmatch(name):
            raise _Wrong(f"{name!r} cannot be the name of a header")
        if not isinstance(template, str):
            raise _Wrong(f"{name} must be a string, not {template!r}")
        text = render(template, values)
        # A line break would begin a header of the value's own making.
        if not text.isprintable() or not text.isascii():
            raise _Wrong(f"{name} must be printable ASCII: {text!r}")
        headers[name] = text
    return headers


def _subscribe(value: Json, values: Values) -> tuple[str, ...]:
    if value is None:
        return ()
    messages = value if isinstance(value, list) else [value]
    return tuple(_message(message, values) for message in messages)


def _message(template: Json, values: Values) -> str:
    if isinstance(template, str):
        return render(template, values)
    return json.dumps(render_json(template, values), ensure_ascii=False, separators=(",", ":"))


def _on_message(value: Json, values: Values) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or not value:
        raise _Wrong(f"must be the name of a callback, not {value!r}")
    return value


def _proxy(value: Json, values: Values) -> str | Literal[True] | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise _Wrong(f'must be "env" or the url of a proxy, not {value!r}')
    if value == "env":
        return True
    try:
        parts = urlsplit(value)
    except ValueError as error:
        raise _Wrong(f"{value!r} cannot be read: {error}") from None
    if parts.scheme not in _PROXY_SCHEMES or not parts.hostname:
        raise _Wrong(f'must be "env", or begin with one of {", ".join(_PROXY_SCHEMES)} and :// and a host: {value!r}')
    return value


def _open_timeout(value: Json, values: Values) -> float:
    if value is None:
        return OPEN_TIMEOUT_S
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 300:
        raise _Wrong(f"must be a number of seconds above 0, at most 300, not {value!r}")
    return float(value)
