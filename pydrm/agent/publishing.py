"""
`Publishing`: puts events into the ledger, for the app and for its handlers.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256

import attrs

from pydrm.agent.cluster import Proposer
from pydrm.agent.refusal import error_of
from pydrm.core.answers import Done, Reason
from pydrm.core.events import EVENT_ID_CHARACTERS_MAX, PAYLOAD_BYTES_MAX
from pydrm.core.ledger_commands import Publish, Publisher
from pydrm.core.resource import Json
from pydrm.core.topics import topic_problem
from pydrm.errors import ConfigurationError, Fenced

__all__ = ["Publication", "Publishing", "event_id"]


@attrs.frozen
class Publication:
    """
    Attributes:
        event_id: What receivers know the event by.
        matched: For how many subscriptions it was when it was published first.
        duplicate: That it was published before, and this time nothing was done.
    """

    event_id: str
    matched: int
    duplicate: bool


def event_id(*parts: str | int | bytes) -> str:
    """
    An id that is the same for equal *parts*, and another one for others.

    Made of what names the event where it comes from, such as the name of a feed and the number of a message there:
    then whoever is given that message too publishes the same event.
    """
    hashed = sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogatepass")
        hashed.update(b"%s%d:" % (type(part).__name__[:1].encode(), len(data)))
        hashed.update(data)
    return f"evt_{hashed.hexdigest()[:40]}"


class Publishing:
    """
    Args:
        new_id: Makes ids that nobody else has.
    """

    def __init__(self, proposer: Proposer, new_id: Callable[[], str]) -> None:
        self._proposer = proposer
        self._new_id = new_id

    async def publish(
        self,
        topic: str,
        payload: bytes | str | Json,
        *,
        event_id: str | None,
        by: Publisher | None,
        timeout: float,
    ) -> Publication:
        """See `ResourceManager.publish`."""
        body, content_type = _body(payload)
        id = f"evt_{self._new_id()}" if event_id is None else _checked_id(event_id)
        problem = topic_problem(topic) if isinstance(topic, str) else "must be a string"
        if problem:
            raise ConfigurationError(f"{topic!r} {problem}", field="topic")
        command = Publish(id, topic, body, content_type, known=event_id is not None, by=by)
        answer = await self._proposer.propose(command, timeout=max(timeout, 0.0))
        if isinstance(answer, Done):
            return Publication(id, answer.created, bool(answer.unchanged))
        if answer.reason is Reason.STALE:
            raise Fenced(f"nothing was published: {answer.detail}")
        raise error_of(answer, request="publishing it")


def _body(payload: bytes | str | Json) -> tuple[bytes, str]:
    if isinstance(payload, (bytes, bytearray, memoryview)):
        body, content_type = bytes(payload), "application/octet-stream"
    elif isinstance(payload, str):
        body, content_type = _encoded(payload), "text/plain; charset=utf-8"
    else:
        try:
            text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        except (TypeError, ValueError, RecursionError) as error:
            raise ConfigurationError(f"must be bytes, a string or JSON values: {error}", field="payload") from None
        body, content_type = _encoded(text), "application/json"
    if len(body) > PAYLOAD_BYTES_MAX:
        raise ConfigurationError(f"has {len(body)} bytes, more than {PAYLOAD_BYTES_MAX}", field="payload")
    return body, content_type


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError(f"is not valid Unicode: {error}", field="payload") from None


def _checked_id(id: str) -> str:
    if not isinstance(id, str) or not 0 < len(id) <= EVENT_ID_CHARACTERS_MAX:
        raise ConfigurationError(f"must have 1 to {EVENT_ID_CHARACTERS_MAX} characters: {id!r}", field="event_id")
    # It goes into a header, and is signed with full stops around it (Standard Webhooks 1.0, "Signature scheme").
    if not id.isascii() or not id.isprintable() or " " in id or "." in id:
        message = f"must be printable ASCII without spaces and full stops: {id!r}; pydrm.event_id makes one of anything"
        raise ConfigurationError(message, field="event_id")
    return id
