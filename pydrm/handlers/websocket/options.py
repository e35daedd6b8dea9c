"""
`Options`: those fields of a websocket resource in which no template stands.
"""

from __future__ import annotations

import attrs

from pydrm.core.resource import Json, Resource
from pydrm.handlers.definition_fields import (
    TOKEN,
    FieldReader,
    Values,
    Wrong,
    choice,
    name_of,
    seconds,
    seconds_or_off,
    whole_number,
)
from pydrm.handlers.websocket.resume import Position, position_of

__all__ = ["OPEN_TIMEOUT_S", "Options", "options_of"]

OPEN_TIMEOUT_S = 10.0
PING_S = 20.0
QUEUE_DEFAULT = 16
QUEUE_MAX = 1_000_000
MESSAGE_BYTES_DEFAULT = 1024 * 1024
MESSAGE_BYTES_MAX = 256 * 1024 * 1024

_OPTIONS = {
    "subprotocols",
    "on_message",
    "open_timeout",
    "ping_interval",
    "ping_timeout",
    "idle_timeout",
    "queue",
    "when_full",
    "decode",
    "checkpoint_field",
    "max_size",
    "compression",
    "tls_ca",
}
_KNOWN_OPTIONS_MAX = 256
_known_options: dict[tuple[object, ...], Options] = {}


@attrs.frozen
class Options:
    """
    Attributes:
        on_message: The name of the callback that gets what arrives; "" drops it.
        open_timeout_s: How long connecting and subscribing may take.
        ping_interval_s, ping_timeout_s: None: no pings; no answer to them is missed.
        idle_timeout_s: After how long without a message the connection is taken for broken; None: never.
        queue: How many messages (of one frame each) may wait for the callback.
        when_full: What happens to one more: "wait", "drop_oldest" or "disconnect".
        decodes: Whether messages are JSON, and delivered decoded.
        position: Where a decoded message says how far it is; None if it does not.
        tls_ca: A PEM file of the CAs to trust in place of the system's; "" for those.
    """

    subprotocols: tuple[str, ...] = ()
    on_message: str = ""
    open_timeout_s: float = OPEN_TIMEOUT_S
    ping_interval_s: float | None = PING_S
    ping_timeout_s: float | None = PING_S
    idle_timeout_s: float | None = None
    queue: int = QUEUE_DEFAULT
    when_full: str = "wait"
    decodes: bool = False
    position: Position | None = None
    max_size: int = MESSAGE_BYTES_DEFAULT
    compresses: bool = False
    tls_ca: str = ""


def options_of(resource: Resource, read: FieldReader, *, secure: bool) -> Options:
    """
    Raises:
        InvalidResource: One cannot be used; it is named.

    Thousands of resources have the same, and reading it is much of what opening one costs: so it is read once, and
    they share it.
    """
    # With the types, because True equals 1.
    key = (secure, *((name, type(value), value) for name, value in resource.fields.items() if name in _OPTIONS))
    try:
        if key in _known_options:
            return _known_options[key]
    except TypeError:  # a list, which is no key
        return _read_options(read, secure=secure)
    options = _read_options(read, secure=secure)
    if len(_known_options) >= _KNOWN_OPTIONS_MAX:
        _known_options.clear()
    _known_options[key] = options
    return options


def _read_options(read: FieldReader, *, secure: bool) -> Options:
    decodes = read.field("decode", choice("off", "json")) == "json"
    return Options(
        subprotocols=read.field("subprotocols", _subprotocols),
        on_message=read.field("on_message", name_of("the name of a callback")),
        open_timeout_s=read.field("open_timeout", seconds(OPEN_TIMEOUT_S)),
        ping_interval_s=read.field("ping_interval", seconds_or_off(PING_S)),
        ping_timeout_s=read.field("ping_timeout", seconds_or_off(PING_S)),
        idle_timeout_s=read.field("idle_timeout", seconds_or_off(None)),
        queue=read.field("queue", whole_number(QUEUE_DEFAULT, 1, QUEUE_MAX)),
        when_full=read.field("when_full", choice("wait", "drop_oldest", "disconnect")),
        decodes=decodes,
        position=read.field("checkpoint_field", lambda value, _: position_of(value, decodes=decodes)),
        max_size=read.field("max_size", whole_number(MESSAGE_BYTES_DEFAULT, 1, MESSAGE_BYTES_MAX)),
        compresses=read.field("compression", choice("off", "deflate")) == "deflate",
        tls_ca=read.field("tls_ca", lambda value, _: _tls_ca(value, secure=secure)),
    )


def _subprotocols(value: Json, values: Values) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not value:
        raise Wrong(f"must be a list of names, not {value!r}")
    for name in value:
        if not isinstance(name, str) or not TOKEN.fullmatch(name):
            raise Wrong(f"{name!r} cannot be the name of a subprotocol")
    return tuple(str(name) for name in value)


def _tls_ca(value: Json, *, secure: bool) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or not value.startswith("/") or not value.isprintable():
        raise Wrong(f"must be the absolute path of a PEM file, not {value!r}")
    if not secure:
        raise Wrong("is for wss:// only")
    return value
