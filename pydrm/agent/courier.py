"""
`Courier`: data from any node to whatever the holder of a resource has open, and the word back on what became of it.

    sender                                             holder
    who holds it, by this node's own state  -------->  has a handle under just that token, and a valid lease:
      (resource, token, data)                            gives the data to the handler
                                            <--------  delivered | why not | unknown

Every answer but "unknown" is certain. A sender whose state is behind names an old token, or the wrong node, and is told
"not held"; it asks once more if it has heard of another holder since.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Literal, Protocol

import attrs
import msgspec

from pydrm.agent.agent import Agent
from pydrm.core.records import Condition, Holder
from pydrm.core.state import State
from pydrm.engine.codec import UNREADABLE
from pydrm.errors import ClusterRefused, ConfigurationError, DrmError, Fenced, HandlerError, Unavailable

__all__ = ["DATA_BYTES_MAX", "Courier", "Delivered", "Mail"]

logger = logging.getLogger(__name__)

DATA_BYTES_MAX = 1024 * 1024
TIMEOUT_S_MAX = 600.0

Outcome = Literal["delivered", "not-held", "not-open", "no-send", "refused", "unknown"]


class Mail(Protocol):
    """What the courier needs from below."""

    @property
    def state(self) -> State: ...

    async def ask(self, node: str, payload: bytes, *, timeout: float) -> bytes:
        """
        What *node*, another one, answers.

        Raises:
            Unavailable: No answer came within *timeout* seconds.
        """


@attrs.frozen
class Delivered:
    """
    Attributes:
        node, token: Who has sent it, and under which fencing token.
    """

    node: str
    token: int


class _Order(msgspec.Struct, frozen=True, array_like=True):
    """
    Attributes:
        content: The data; UTF-8 if it is text.
    """

    resource: str
    token: int
    is_text: bool
    content: bytes
    timeout_s: float

    @property
    def data(self) -> str | bytes:
        return self.content.decode() if self.is_text else self.content


class _Answer(msgspec.Struct, frozen=True, array_like=True):
    outcome: Outcome
    detail: str = ""


_encode = msgspec.msgpack.Encoder().encode
_orders = msgspec.msgpack.Decoder(_Order)
_answers = msgspec.msgpack.Decoder(_Answer)


class Courier:
    """Belongs to the app's loop."""

    def __init__(self, node: str, mail: Mail, agent: Agent) -> None:
        self._node = node
        self._mail = mail
        self._agent = agent

    async def send(self, resource: str, data: str | bytes, *, timeout: float) -> Delivered:
        """See `ResourceManager.send`."""
        content = _content(data)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + min(timeout, TIMEOUT_S_MAX)
        asked: Holder | None = None
        while True:
            holder = self._holder(resource)
            if asked is not None and holder.token == asked.token:
                raise ClusterRefused(
                    f"{holder.node} does not hold resource {resource!r} under token {holder.token}; nothing was sent",
                    reason="not-held",
                )
            asked = holder
            left_s = deadline - loop.time()
            if left_s <= 0:
                error = Unavailable(f"no time is left to ask {holder.node}; nothing was sent")
                error.unsent = True
                raise error
            answer = await self._ask(holder, _Order(resource, holder.token, isinstance(data, str), content, left_s))
            if answer.outcome == "delivered":
                return Delivered(holder.node, holder.token)
            if answer.outcome == "unknown":
                raise Unavailable(f"{answer.detail}; whether resource {resource!r} has sent it is unknown")
            if answer.outcome != "not-held":
                raise ClusterRefused(f"resource {resource!r} on {holder.node}: {answer.detail}", reason=answer.outcome)

    def asked(self, origin: str, payload: bytes, answer: Callable[[bytes], None]) -> None:
        """For the engine: node *origin* wants to send something over what this node holds; *answer* is called once."""

        def answered(delivery: asyncio.Task[_Answer]) -> None:
            # Also one that is cancelled before its first step: a question that nobody answers keeps its place.
            gone = delivery.cancelled() or delivery.exception() is not None
            answer(_encoded(_Answer("unknown", "the node stopped meanwhile") if gone else delivery.result()))

        try:
            order = _orders.decode(payload)
        except UNREADABLE as error:
            logger.warning("%s asks for what cannot be read: %s", origin, error, extra={"node": self._node})
            answer(_encoded(_Answer("refused", "the request cannot be read")))
            return
        delivery = self._agent.spawn(self._deliver(order), f"pydrm send {order.resource}")
        if delivery is None:
            answer(_encoded(_Answer("not-held")))
        else:
            delivery.add_done_callback(answered)

    # --- the sender's side -------------------------------------------------------------------------------------------

    def _holder(self, resource: str) -> Holder:
        state = self._mail.state
        assignment = state.assignments.get((resource, 0))
        if assignment is None:
            raise ClusterRefused(f"there is no resource {resource!r}", reason="not-found")
        if assignment.holder is None:
            raise ClusterRefused(f"nobody holds resource {resource!r} now; nothing was sent", reason="not-held")
        return assignment.holder

    async def _ask(self, holder: Holder, order: _Order) -> _Answer:
        if holder.node == self._node:
            return await self._deliver(order)
        try:
            async with asyncio.timeout(order.timeout_s):
                said = await self._mail.ask(holder.node, _encode(order), timeout=order.timeout_s)
            return _answers.decode(said)
        except TimeoutError:
            return _Answer("unknown", f"{holder.node} did not answer within {order.timeout_s:.3g} s")
        except UNREADABLE:
            return _Answer("unknown", f"the answer of {holder.node} cannot be read")

    # --- the holder's side -------------------------------------------------------------------------------------------

    async def _deliver(self, order: _Order) -> _Answer:
        handle = self._agent.handle(order.resource, order.token)
        hold = handle.hold if handle is not None else None
        if handle is None or hold is None:
            return _Answer("not-held")
        if handle.condition is not Condition.OPEN:
            return _Answer("not-open", f"it is {handle.condition.value}: {handle.detail or 'not open yet'}")
        if not hold.sends:
            return _Answer("no-send", f"kind {hold.resource.kind!r} does not send")
        try:
            data = order.data
        except UnicodeDecodeError:
            return _Answer("refused", "the text is not UTF-8")
        try:
            async with asyncio.timeout(min(order.timeout_s, TIMEOUT_S_MAX)):
                await hold.send(data)
        except HandlerError as refused:
            return _Answer("refused", str(refused)[:200] or "its handler refused")
        except TimeoutError:
            return _Answer("unknown", "it could not be written in time")
        except Fenced:
            return _Answer("unknown", "the hold ended meanwhile")
        except asyncio.CancelledError:
            if _is_being_cancelled():
                raise
            return _Answer("unknown", "what its handler waited for was cancelled")
        except Exception as error:  # noqa: BLE001 (the border to the handler's code)
            # Its message may show what a connection was opened with.
            if not isinstance(error, DrmError):
                logger.info("sending failed: %s", type(error).__name__, extra={"resource": order.resource})
            return _Answer("unknown", f"{type(error).__name__} while it was written")
        return _Answer("delivered")


def _is_being_cancelled() -> bool:
    """Whether it is this task that is cancelled, and not something that it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _encoded(answer: _Answer) -> bytes:
    # Some of its words are a handler's, and those may be no Unicode.
    detail = answer.detail.encode(errors="backslashreplace").decode()
    return _encode(_Answer(answer.outcome, detail))


def _content(data: object) -> bytes:
    if not isinstance(data, str | bytes):
        raise ConfigurationError(f"must be str or bytes, not {type(data).__name__}", field="data")
    try:
        content = data.encode() if isinstance(data, str) else data
    except UnicodeEncodeError:
        raise ConfigurationError("is not valid Unicode", field="data") from None
    if len(content) > DATA_BYTES_MAX:
        raise ClusterRefused(f"data has {len(content)} bytes, more than {DATA_BYTES_MAX}", reason="too-large")
    return content
