"""
`Host`: what a node stands on. The system's, or a simulated one on which a whole cluster lives in one thread.

Whatever is not a function of a node's inputs comes from here: time, chance, the disk, a second loop
beside the app's, and the end of the process.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from pydrm.clock import Clock, Random, SystemClock
from pydrm.engine.disk import Disk
from pydrm.engine.local_disk import LocalDisk

__all__ = ["Aside", "Host", "SystemHost"]


class Aside(Protocol):
    """Something that runs on a loop of its own."""

    async def ended(self) -> None:
        """Return when it has ended; from the app's loop."""


class Host(Protocol):
    @property
    def clock(self) -> Clock: ...

    @property
    def random(self) -> Random: ...

    @property
    def disk(self) -> Disk: ...

    def new_id(self) -> str:
        """An id that nobody else has."""

    def run_aside(self, main: Callable[[], Coroutine[Any, Any, None]], name: str) -> Aside:
        """Run *main* on a loop of its own, which the app's loop cannot hold up. *main* must not raise."""

    def exit(self, code: int) -> None:
        """End the process at once; nothing is flushed or tidied up."""


class SystemHost:
    """The process, its threads and its disk."""

    def __init__(self) -> None:
        self.clock: Clock = SystemClock()
        self.random: Random = random.Random()
        self.disk: Disk = LocalDisk()

    def new_id(self) -> str:
        return secrets.token_hex(8)

    def run_aside(self, main: Callable[[], Coroutine[Any, Any, None]], name: str) -> Aside:
        return _Thread(main, name)

    def exit(self, code: int) -> None:
        os._exit(code)


class _Thread:
    def __init__(self, main: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        # A daemon: an app that leaves without stopping its manager must not hang for ever.
        self._thread = threading.Thread(target=lambda: asyncio.run(main()), name=name, daemon=True)
        self._thread.start()

    async def ended(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)
