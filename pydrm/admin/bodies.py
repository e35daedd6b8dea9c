"""
What a request of the admin API says: the forms of its body, and its ?timeout.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from aiohttp import web

from pydrm.errors import ConfigurationError

__all__ = [
    "LINES_TYPES",
    "Event",
    "Group",
    "Ids",
    "Pause",
    "Replay",
    "Sending",
    "Voter",
    "body",
    "definitions",
    "timeout_of",
]

LINES_TYPES = ("application/x-ndjson", "application/jsonl")
TIMEOUT_DEFAULT_S = 10.0
TIMEOUT_MAX_S = 600.0

_decoder = msgspec.json.Decoder()

T = TypeVar("T")


class Voter(msgspec.Struct, forbid_unknown_fields=True):
    name: str


class Sending(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    text: str | None = None
    base64: bytes | None = None

    @property
    def data(self) -> str | bytes | None:
        """None unless there is exactly one."""
        return self.base64 if self.text is None else self.text if self.base64 is None else None


class Group(msgspec.Struct, forbid_unknown_fields=True):
    group: str


class Ids(msgspec.Struct, forbid_unknown_fields=True):
    ids: list[str]


class Replay(msgspec.Struct, forbid_unknown_fields=True):
    resource: str | None = None
    event_ids: list[str] | None = None


class Event(msgspec.Struct, forbid_unknown_fields=True):
    topic: str
    payload: Any
    event_id: str | None = None


class Pause(msgspec.Struct, forbid_unknown_fields=True):
    ids: list[str]
    reason: str = ""


async def body(request: web.Request, type: type[T], form: str) -> T:
    """What it says as *type*, which looks like *form*. Raises ConfigurationError if it says something else."""
    try:
        return msgspec.json.decode(await request.read(), type=type)
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"the body must be {form}: {error}") from error


def definitions(content_type: str, body: bytes) -> list[object]:
    """Of resources: one or many in JSON, or a line for each. Raises ConfigurationError if it is neither."""
    try:
        if content_type in LINES_TYPES:
            return list(_decoder.decode_lines(body))
        decoded = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the body is not valid JSON: {error}") from error
    return decoded if isinstance(decoded, list) else [decoded]


def timeout_of(request: web.Request) -> float:
    """In seconds. Raises ConfigurationError if it cannot be one."""
    text = request.query.get("timeout")
    try:
        seconds = TIMEOUT_DEFAULT_S if text is None else float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= TIMEOUT_MAX_S:
        raise ConfigurationError(f"must be seconds, above 0 and up to {TIMEOUT_MAX_S:g}, not {text!r}", field="timeout")
    return seconds
