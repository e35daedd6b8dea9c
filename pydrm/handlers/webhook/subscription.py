"""
`Subscription`: what a webhook resource's fields say, checked. Pure, but for `read_secret`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import urlsplit

import attrs

from pydrm.core.resource import Json, Resource
from pydrm.core.topics import pattern_problem
from pydrm.errors import InvalidResource, Temporary
from pydrm.handlers.secrets import SecretMissing, fetch_reference
from pydrm.handlers.webhook.address_guard import Network, address_problem, network_of
from pydrm.handlers.webhook.signature import key_of

__all__ = ["Subscription", "read_secret"]

T = TypeVar("T")

PATTERNS_MAX = 32
SECRETS_MAX = 8

# RFC 9110, section 5.6.2.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_REFERENCE = re.compile(r"\{(?:env:[A-Za-z_][A-Za-z0-9_]*|file:/[^{}]+)\}")

# What a delivery says itself, and what HTTP needs.
_OURS = ("content-length", "content-type", "host", "transfer-encoding", "connection", "user-agent", "pydrm-token")


@attrs.frozen
class Subscription:
    """
    Attributes:
        secrets: Keys as `whsec_...`, or where the holder finds them; the newest first.
        once: "at_most_once".
        ordered: One event after the other, in the order in which they were published.
        disable_after_s: For how long it may fail before it is paused.
        allowed: Networks that are not public and may be connected to.
    """

    url: str
    topics: tuple[str, ...]
    secrets: tuple[str, ...]
    once: bool
    ordered: bool
    timeout_s: float
    disable_after_s: float
    allowed: tuple[Network, ...]
    headers: Mapping[str, str]

    @classmethod
    def of(cls, resource: Resource) -> Subscription:
        """
        Raises:
            InvalidResource: A field cannot be used; it is named.
        """

        def field(name: str, read: Callable[[Json], T]) -> T:
            try:
                return read(resource.get(name))
            except ValueError as error:
                raise InvalidResource(str(error), resource=resource.id, field=name) from None

        allowed = field("allow", _networks)
        one, several = resource.get("secret"), resource.get("secrets")
        if one is not None and several is not None:
            raise InvalidResource("is there, and secret too; use one", resource=resource.id, field="secrets")
        return cls(
            url=field("url", lambda value: _url(value, allowed)),
            topics=field("topics", _topics),
            secrets=field("secrets", _secrets) if several is not None else field("secret", lambda v: _secrets([v])),
            once=field("delivery", _once),
            ordered=field("ordered", _boolean),
            timeout_s=field("timeout", _seconds(15.0, most=120.0)),
            disable_after_s=field("disable_after", _seconds(5 * 86_400.0, most=30 * 86_400.0)),
            allowed=allowed,
            headers=field("headers", _headers),
        )


async def read_secret(value: str) -> str:
    """
    What *value* stands for on this node: `{env:NAME}` a variable, `{file:PATH}` a file's content, else itself.

    Raises:
        Temporary: It is not there.
    """
    if not _REFERENCE.fullmatch(value):
        return value
    try:
        return await fetch_reference(value[1:-1])
    except SecretMissing as missing:
        raise Temporary(str(missing)) from None


def _url(value: Json, allowed: tuple[Network, ...]) -> str:
    if not isinstance(value, str):
        raise ValueError("is missing" if value is None else "must be a string")
    if not value.isprintable() or not value.isascii() or " " in value:
        raise ValueError("must be ASCII without spaces and control characters")
    parts = urlsplit(value)
    _ = parts.port  # is read only now, and may be no number
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must begin with http:// or https:// and a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user or a password; use headers")
    if ":" in parts.hostname or parts.hostname.replace(".", "").isdigit():
        # Taken for an address, which no resolver is asked about; of a name it is known when it is connected to.
        problem = address_problem(parts.hostname, allowed)
        if problem:
            raise ValueError(f"leads nowhere that is permitted: {problem}; see allow")
    return value


def _topics(value: Json) -> tuple[str, ...]:
    patterns = [value] if isinstance(value, str) else value
    if not isinstance(patterns, list) or not 0 < len(patterns) <= PATTERNS_MAX:
        raise ValueError(f"must be a topic's pattern, or a list of 1 to {PATTERNS_MAX}")
    for pattern in patterns:
        problem = pattern_problem(pattern) if isinstance(pattern, str) else "must be a string"
        if problem:
            raise ValueError(f"{pattern!r} {problem}")
    return tuple(dict.fromkeys(map(str, patterns)))


def _secrets(value: Json) -> tuple[str, ...]:
    if value is None or value == [None]:
        raise ValueError("is missing")
    if not isinstance(value, list) or not 0 < len(value) <= SECRETS_MAX:
        raise ValueError(f"must be a list of 1 to {SECRETS_MAX}")
    for secret in value:
        if not isinstance(secret, str):
            raise ValueError("must be a string")
        if not _REFERENCE.fullmatch(secret):
            key_of(secret)
    return tuple(map(str, value))


def _once(value: Json) -> bool:
    if value not in (None, "at_least_once", "at_most_once"):
        raise ValueError(f'must be "at_least_once" or "at_most_once", not {value!r}')
    return value == "at_most_once"


def _boolean(value: Json) -> bool:
    if value is not None and not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {value!r}")
    return bool(value)


def _seconds(default: float, *, most: float) -> Callable[[Json], float]:
    def read(value: Json) -> float:
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= most:
            raise ValueError(f"must be a number of seconds above 0, at most {most:g}, not {value!r}")
        return float(value)

    return read


def _networks(value: Json) -> tuple[Network, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(network, str) for network in value):
        raise ValueError('must be a list of networks, such as "10.1.0.0/16"')
    return tuple(network_of(str(network)) for network in value)


def _headers(value: Json) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError("must be an object of names and strings")
    for name, text in value.items():
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"{name!r} cannot be the name of a header")
        if name.lower() in _OURS or name.lower().startswith("webhook-"):
            raise ValueError(f"{name} is not for subscriptions to set")
        # A line break would begin a header of the value's own making.
        if not isinstance(text, str) or not text.isprintable() or not text.isascii():
            raise ValueError(f"{name} must be printable ASCII")
    return {name: str(text) for name, text in value.items()}
