"""
`Probe`: for how long at most nothing else ran on the engine's loop, and how long the garbage collector took.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from pydrm.engine import SystemHost
from pydrm.engine.host import Aside

__all__ = ["Probe"]

PERIOD_S = 0.005


class Probe(SystemHost):
    """A node's host, with a look into the loop that runs beside the app's: 200 a second, from `begin` to `end`."""

    def __init__(self, *, begun: bool = False) -> None:
        """*begun*: from the loop's first moment on."""
        super().__init__()
        self._begun = begun
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = self._collecting_since_s = 0.0
        self._stall_s = self._collection_s = 0.0
        gc.callbacks.append(self._collects)

    def run_aside(self, main: Callable[[], Coroutine[Any, Any, None]], name: str) -> Aside:
        async def probed() -> None:
            self._loop = asyncio.get_running_loop()
            if self._begun:
                self._begin()
            await main()

        return super().run_aside(probed, name)

    def begin(self) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._begin)

    async def end(self) -> Mapping[str, float]:
        """What was seen since `begin`, in milliseconds."""
        assert self._loop is not None
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._end(), self._loop))
        return {"stall_ms": self._stall_s * 1000, "collection_ms": self._collection_s * 1000}

    def _begin(self) -> None:
        self._stall_s = self._collection_s = 0.0
        self._due_s = time.monotonic()
        self._look()

    async def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._stall_s = max(self._stall_s, time.monotonic() - self._due_s)

    def _look(self) -> None:
        assert self._loop is not None
        now_s = time.monotonic()
        self._stall_s = max(self._stall_s, now_s - self._due_s)
        self._due_s = now_s + PERIOD_S
        self._timer = self._loop.call_later(PERIOD_S, self._look)

    def _collects(self, phase: str, info: Mapping[str, int]) -> None:
        now_s = time.monotonic()
        if phase == "start":
            self._collecting_since_s = now_s
        else:
            self._collection_s = max(self._collection_s, now_s - self._collecting_since_s)
