"""
`Endpoint`: what a websocket resource's fields say, checked and with its templates filled in.

Pure. It is made once when the resource is added, to find mistakes before anything changes, and
again for each connection, with that connection's token, secrets and checkpoint.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
from websockets.exceptions import InvalidURI
from websockets.uri import WebSocketURI, parse_uri

from pydrm.core.resource import Json, Resource
from pydrm.errors import InvalidResource
from pydrm.handlers.definition_fields import TOKEN, FieldReader, Read, Values, Wrong
from pydrm.handlers.secrets import Secrets
from pydrm.handlers.template import TemplateError, TemplateValues, in_url, quoted, render, render_json
from pydrm.handlers.websocket.options import Options, options_of

__all__ = ["MAY_HOLD_SECRETS", "Endpoint"]

# Those that websockets knows; socks needs the package python-socks too.
_PROXY_SCHEMES = ("http", "https", "socks5h", "socks5", "socks4a", "socks4")

# RFC 3986, section 3: the scheme and the authority.
_BEFORE_PATH = re.compile(r"[^/?#]*://[^/?#]*")

MAY_HOLD_SECRETS = ("url", "headers", "subscribe", "unsubscribe", "proxy")


# A struct, and one that Python's collector need not look at, because one is made for each of thousands of connections.
class Endpoint(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """
    Attributes:
        uri: The same, taken apart.
        subscribe, unsubscribe: What to send once connected, and before a polite close; in order.
        proxy: A proxy's url; True for the one that the environment names; None for none.
    """

    url: str
    uri: WebSocketURI
    options: Options
    headers: Mapping[str, str] = MappingProxyType({})
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    proxy: str | Literal[True] | None = None

    def __repr__(self) -> str:
        # Anything else may hold secrets.
        return f"Endpoint(port={self.uri.port}, secure={self.uri.secure}, options={self.options})"

    @classmethod
    def of(
        cls,
        resource: Resource,
        *,
        node: str,
        token: int,
        secrets: Secrets | None = None,
        checkpoint: Json | bytes = None,
    ) -> Endpoint:
        """
        Args:
            secrets: None: none are there yet, the rest is checked.
            checkpoint: What was saved last; None if nothing was.

        Raises:
            InvalidResource: A field cannot be used; it is named.
        """
        more = _secret_values(resource, secrets)
        if "checkpoint" not in resource.fields:
            more = {"checkpoint": _checkpoint_text(resource, checkpoint), **more}
        read = FieldReader(resource, TemplateValues(resource, node=node, token=token, more=more))
        url, uri = read.field("url", _url)
        return cls(
            url=url,
            uri=uri,
            options=options_of(resource, read, secure=uri.secure),
            **{name: read.field(name, of) for name, of in _TEMPLATES.items() if name in resource.fields},
        )


def _secret_values(resource: Resource, secrets: Secrets | None) -> Values:
    if secrets is not None:
        return secrets.values
    try:
        return Secrets.unread(map(resource.get, MAY_HOLD_SECRETS)).values
    except TemplateError:
        read = FieldReader(resource, {})
        for name in MAY_HOLD_SECRETS:
            read.field(name, lambda template, _: Secrets.unread([template]))
        raise


def _checkpoint_text(resource: Resource, checkpoint: Json | bytes) -> str:
    """A checkpoint as templates have it: text as it is, bytes as UTF-8, anything else as JSON."""
    if checkpoint is None:
        start = resource.get("checkpoint_start", "")
        if not isinstance(start, (str, int, float)) or isinstance(start, bool):
            raise InvalidResource(
                f"must be a string or a number, not {start!r}", resource=resource.id, field="checkpoint_start"
            )
        return str(start)
    if isinstance(checkpoint, bytes):
        return checkpoint.decode(errors="replace")
    return checkpoint if isinstance(checkpoint, str) else _compact(checkpoint)


def _compact(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _url(value: Json, values: Values) -> tuple[str, WebSocketURI]:
    if value is None:
        raise Wrong("is missing")
    if not isinstance(value, str):
        raise Wrong(f"must be a string, not {value!r}")
    url = render(value, values, _in_url)
    if not url.isprintable() or " " in url:
        raise Wrong(f"must not contain spaces or control characters: {value!r}")
    try:
        return url, _parsed(url)
    except InvalidURI as error:
        raise Wrong(f"{value!r} cannot be used as a url: {error.msg}") from None
    except ValueError:
        raise Wrong(f"{value!r} cannot be read as a url") from None


def _in_url(name: str, value: str) -> str:
    return quoted(value) if name == "checkpoint" else in_url(name, value)


def _parsed(url: str) -> WebSocketURI:
    """As `parse_uri` has it, which takes longer than all else that is done with a url here."""
    before_path = _BEFORE_PATH.match(url)
    # A name and a password are secrets, and stay nowhere for longer than the connection.
    if before_path is None or "@" in before_path[0] or "#" in url or not url.isascii():
        return parse_uri(url)
    origin = _parse(before_path[0])
    path, _, query = url[before_path.end() :].partition("?")
    return WebSocketURI(origin.secure, origin.host, origin.port, path, query)


# Thousands of connections go to a few hosts.
_parse = lru_cache(maxsize=256)(parse_uri)


def _headers(value: Json, values: Values) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Wrong(f"must be an object of names and strings, not {value!r}")
    headers = {}
    for name, template in value.items():
        if not TOKEN.fullmatch(name):
            raise Wrong(f"{name!r} cannot be the name of a header")
        if not isinstance(template, str):
            raise Wrong(f"{name} must be a string, not {template!r}")
        text = render(template, values)
        # A line break would begin a header of the value's own making.
        if not text.isprintable() or not text.isascii():
            raise Wrong(f"{name} must be printable ASCII: {template!r}")
        headers[name] = text
    return headers


def _messages(value: Json, values: Values) -> tuple[str, ...]:
    if value is None:
        return ()
    messages = value if isinstance(value, list) else [value]
    return tuple(_message(message, values) for message in messages)


def _message(template: Json, values: Values) -> str:
    return render(template, values) if isinstance(template, str) else _compact(render_json(template, values))


def _proxy(value: Json, values: Values) -> str | Literal[True] | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise Wrong(f'must be "env" or the url of a proxy, not {value!r}')
    if value == "env":
        return True
    url = render(value, values, lambda name, text: quoted(text) if ":" in name else text)
    try:
        parts = urlsplit(url)
    except ValueError:
        raise Wrong(f"{value!r} cannot be read as a url") from None
    if parts.scheme not in _PROXY_SCHEMES or not parts.hostname:
        raise Wrong(f'must be "env", or begin with one of {", ".join(_PROXY_SCHEMES)} and :// and a host: {value!r}')
    return url


_TEMPLATES: dict[str, Read[Any]] = {
    "headers": _headers,
    "subscribe": _messages,
    "unsubscribe": _messages,
    "proxy": _proxy,
}
