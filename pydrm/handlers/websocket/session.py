"""
`Session`: one open connection of a websocket resource: what arrives is delivered, what is sent leaves, under one hold.

    when_full     who reads                       what waits
    wait          the one who delivers            frames, in the connection; then the third party
    drop_oldest   a task of its own               messages, here; the oldest goes when one more arrives
    disconnect    a task of its own               messages, here; one more ends the connection

So the default costs no task and no queue beyond the connection's own.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

import msgspec
from websockets.exceptions import ConnectionClosed, ConnectionClosedError

from pydrm.agent.hold import Hold
from pydrm.agent.message import Message
from pydrm.core.resource import Json
from pydrm.errors import Fenced, InvalidResource, Temporary
from pydrm.handlers.callbacks import Callback
from pydrm.handlers.counts import Counts
from pydrm.handlers.websocket.connection import LEAVE_TIMEOUT_S, Connection
from pydrm.handlers.websocket.endpoint import Endpoint

__all__ = ["Session", "leave"]

logger = logging.getLogger(__name__)

_decode = msgspec.json.Decoder().decode

Receiving = Callable[["_Idle | None"], Coroutine[Any, Any, NoReturn]]


class Session:
    """
    Attributes:
        broken: Why this side cut the connection; "" if it did not.
    """

    __slots__ = ("_callback", "_complained", "_connection", "_counts", "_endpoint", "_hold", "broken")

    def __init__(
        self, connection: Connection, endpoint: Endpoint, hold: Hold, callback: Callback | None, counts: Counts
    ) -> None:
        self.broken = ""
        self._connection = connection
        self._endpoint = endpoint
        self._hold = hold
        self._callback = callback
        self._counts = counts
        self._complained = False

    async def subscribe(self) -> None:
        for message in self._endpoint.subscribe:
            await self._connection.send(message)

    async def send(self, data: str | bytes) -> None:
        """
        Return once the operating system has *data*, or, for wss, TLS has it.

        Raises:
            Temporary: The connection is over; nothing was sent.
            ConnectionClosed: It was lost meanwhile.
        """
        if not self._connection.is_open:
            raise Temporary("the connection is being closed")
        await self._connection.send(data)

    def receive(self) -> Coroutine[Any, Any, NoReturn]:
        """Deliver what arrives until the connection is lost, which is the only way in which this ends."""
        # Not a coroutine of its own: one more that waits is some hundred bytes more for each connection.
        receiving = self._receive if self._endpoint.options.when_full == "wait" else self._receive_apart
        if self._endpoint.options.idle_timeout_s is None:
            return receiving(None)
        return self._while_heard(receiving, self._endpoint.options.idle_timeout_s)

    # --- receiving ---------------------------------------------------------------------------------------------------

    async def _while_heard(self, receiving: Receiving, timeout_s: float) -> NoReturn:
        idle = _Idle(timeout_s, self._cut)
        try:
            await receiving(idle)
        finally:
            idle.stop()

    async def _receive(self, idle: _Idle | None) -> NoReturn:
        while True:
            data = await self._connection.recv()
            if idle is None:
                await self._deliver(data)
                continue
            idle.busy()
            await self._deliver(data)
            idle.heard()

    async def _receive_apart(self, idle: _Idle | None) -> NoReturn:
        queue = _Queue(self._endpoint.options.queue)
        delivering = asyncio.create_task(self._deliver_all(queue), name=f"pydrm {self._hold.resource.id} queue")
        try:
            await self._fill(queue, delivering, idle)
        except ConnectionClosed:
            # What had arrived by then is delivered before anybody goes on from there.
            emptied = asyncio.create_task(queue.until_done())
            await asyncio.wait({delivering, emptied}, return_when=asyncio.FIRST_COMPLETED)
            emptied.cancel()
            raise
        finally:
            delivering.cancel()
            await asyncio.gather(delivering, return_exceptions=True)

    async def _fill(self, queue: _Queue, delivering: asyncio.Task[None], idle: _Idle | None) -> NoReturn:
        while True:
            data = await self._connection.recv()
            if idle is not None:
                idle.heard()
            if delivering.done():
                delivering.result()
            if queue.full:
                # Messages that came in one piece are all read before anybody else has had a turn.
                await asyncio.sleep(0)
            if not queue.full:
                queue.put(data)
            elif self._endpoint.options.when_full == "drop_oldest":
                queue.drop_oldest()
                queue.put(data)
                self._counts.overflowed_messages += 1
            else:
                self._cut(f"{self._endpoint.options.queue} messages wait for the callback, and one more came")
                raise ConnectionClosedError(None, None)

    async def _deliver_all(self, queue: _Queue) -> None:
        while True:
            await self._deliver(await queue.take())
            queue.done()

    async def _deliver(self, data: str | bytes) -> None:
        """Raises Fenced if it came too late."""
        hold = self._hold
        if not hold.valid:
            self._counts.dropped_messages += 1
            raise Fenced(f"a message for resource {hold.resource.id!r} came when token {hold.token} was over")
        message: object = data
        if self._endpoint.options.decodes:
            try:
                message = _decode(data)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                self._undecodable(error)
                return
        if self._callback is not None:
            try:
                await self._callback(Message(message, hold))
            except Exception:
                # The border to the app's code: one message must not cost the connection.
                self._counts.callback_failures += 1
                logger.exception("a callback failed; the message is lost to it", extra=self._fields())
                return
        if self._endpoint.options.position is not None:
            self._note(self._endpoint.options.position.of(message))

    def _note(self, position: Json) -> None:
        if position is None:
            return
        try:
            self._hold.note_checkpoint(position)
        except InvalidResource as error:
            self._complain("what is in checkpoint_field cannot be saved: %s", error)

    def _undecodable(self, error: Exception) -> None:
        self._counts.undecodable_messages += 1
        self._complain("a message that is not JSON is dropped: %s", error)

    def _complain(self, text: str, error: Exception) -> None:
        """Once for each connection: a third party that does it at all does it all the time."""
        logger.log(logging.DEBUG if self._complained else logging.WARNING, text, error, extra=self._fields())
        self._complained = True

    def _cut(self, why: str) -> None:
        self.broken = self.broken or why
        self._connection.abort()

    def _fields(self) -> dict[str, object]:
        return {"resource": self._hold.resource.id, "token": self._hold.token, "node": self._hold.node}


async def leave(connection: Connection, hold: Hold, *, words: tuple[str, ...] = ()) -> None:
    """Close politely, after *words*, while there is a right to; then for certain."""
    try:
        if hold.valid:
            async with asyncio.timeout(LEAVE_TIMEOUT_S):
                if connection.is_open:
                    for word in words:
                        await connection.send(word)
                await connection.close()
    except (TimeoutError, ConnectionClosed):
        pass
    finally:
        connection.abort()


class _Queue:
    """Messages between the one task that reads and the one that delivers."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._messages: deque[str | bytes] = deque()
        self._filled = asyncio.Event()
        self._done = asyncio.Event()
        self._done.set()

    @property
    def full(self) -> bool:
        return len(self._messages) >= self._size

    def put(self, message: str | bytes) -> None:
        self._messages.append(message)
        self._filled.set()
        self._done.clear()

    def drop_oldest(self) -> None:
        self._messages.popleft()

    async def take(self) -> str | bytes:
        while not self._messages:
            self._filled.clear()
            await self._filled.wait()
        return self._messages.popleft()

    def done(self) -> None:
        """What was taken last is delivered."""
        if not self._messages:
            self._done.set()

    async def until_done(self) -> None:
        await self._done.wait()


class _Idle:
    """One timer for a connection, that looks now and then; one for each message would cost more than the message."""

    def __init__(self, timeout_s: float, cut: Callable[[str], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout_s = timeout_s
        self._cut = cut
        self._heard_at = self._loop.time()
        self._busy = False
        self._timer = self._loop.call_later(timeout_s, self._look)

    def busy(self) -> None:
        """Nothing is read for now, so nothing can be missed."""
        self._busy = True

    def heard(self) -> None:
        self._heard_at = self._loop.time()
        self._busy = False

    def stop(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        left_s = self._timeout_s if self._busy else self._heard_at + self._timeout_s - self._loop.time()
        if left_s <= 0:
            self._cut(f"no message for {self._timeout_s:g} s")
        else:
            self._timer = self._loop.call_later(left_s, self._look)
