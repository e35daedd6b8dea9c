"""
`Ticks`: when something is done that is to be done soon after anything has happened, and now and then in any case.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Ticks"]


class Ticks:
    """To be made on the loop that it ticks on."""

    def __init__(self, tick: Callable[[], None], *, at_latest_s: Callable[[], float]) -> None:
        """*at_latest_s*: asked after each tick; the next comes so long after, unless something wakes it before."""
        self._tick = tick
        self._at_latest_s = at_latest_s
        self._stopped = False
        self._woken = False
        self._timer: asyncio.TimerHandle | None = None

    def wake(self) -> None:
        """Tick soon, and once, however often this is called meanwhile."""
        if not self._woken and not self._stopped:
            self._woken = True
            asyncio.get_running_loop().call_soon(self._run)

    def stop(self) -> None:
        """Never tick again. Idempotent."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def _run(self) -> None:
        self._woken = False
        if self._stopped:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            self._tick()
        finally:
            # When there is more to do at once, it will be asked again.
            if not self._woken and not self._stopped:
                self._timer = asyncio.get_running_loop().call_later(self._at_latest_s(), self._run)
