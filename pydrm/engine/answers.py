"""
`Answers`: what callers on the app's loop wait for, and get from the engine's thread.

They share one mailbox, so that their loop is woken once for many answers; and one timer, because a timer for each of
some thousand requests costs more than the requests themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from pydrm.engine.mailbox import Mailbox

__all__ = ["Answers"]

_LOOK_S = 1.0

T = TypeVar("T")


class Answers:
    """Belongs to the app's loop, but for `give`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, missing: Callable[[], BaseException]) -> None:
        """*missing* makes what a caller is told who got no answer in time."""
        self._loop = loop
        self._missing = missing
        self._mailbox = Mailbox(loop)
        self._deadlines: dict[asyncio.Future[Any], float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def give(self, future: asyncio.Future[Any], result: object) -> None:
        """Have *future* end with *result*, which may be an exception. From any thread."""
        self._mailbox.post(_end, future, result)

    async def wait(self, future: asyncio.Future[T], timeout: float) -> T:
        """What *future* is given; raises what `missing` makes some time after *timeout* seconds."""
        self._deadlines[future] = self._loop.time() + timeout
        if self._timer is None:
            self._timer = self._loop.call_later(_LOOK_S, self._look)
        try:
            return await future
        finally:
            del self._deadlines[future]

    def _look(self) -> None:
        now = self._loop.time()
        for future in [future for future, deadline in self._deadlines.items() if deadline <= now]:
            _end(future, self._missing())
        self._timer = self._loop.call_later(_LOOK_S, self._look) if self._deadlines else None


def _end(future: asyncio.Future[Any], result: object) -> None:
    if future.done():
        return  # the caller was cancelled, or has been told already
    if isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)
