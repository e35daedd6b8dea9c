"""
`SimHost`: one machine with one process on it: two loops, a clock, a disk. It is pydrm's `Host`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

from pydrm.engine.host import Aside
from pydrm.testing.simulation.disk import SimDisk
from pydrm.testing.simulation.network import SimNetwork
from pydrm.testing.simulation.scheduler import Scheduler, SimLoop

__all__ = ["SimHost"]

_DISK_S = 0.0003
_EPOCH_S = 1_700_000_000.0


class SimHost:
    """
    Attributes:
        rate: How many seconds its clock counts in one second of true time.
        wall_jump_s: How far its time of day is off what it should be.
        alive: Whether the process runs; a paused one does.
        paused: Whether the process is stopped (SIGSTOP).
        thawed_at: When it last went on after a pause, in true time.
    """

    def __init__(self, name: str, scheduler: Scheduler, network: SimNetwork, random: Random) -> None:
        self.name = name
        self.rate = 1.0
        self.wall_jump_s = 0.0
        self.alive = False
        self.paused = False
        self.thawed_at = float("-inf")
        self.died: Callable[[], None] = lambda: None
        self.clock = _Clock(self)
        self.disk = SimDisk(Random(random.random()))
        self._seeds = random
        self.scheduler = scheduler
        self._network = network
        self._clock_base = (0.0, 1000.0 + 1000.0 * random.random())
        self._threads: list[Callable[[], None]] = []
        self.boot()

    def boot(self) -> None:
        """A new process, with fresh loops; the disk and the clock are those of before."""
        self.app = self._make_loop("app")
        self.aside = self._make_loop("engine")
        # Of this process only: what its remains do when they are collected, sooner or later, must not change the dice.
        self.random = Random(self._seeds.random())
        self.alive = True
        self.paused = False
        self._app_busy_until = float("-inf")
        self._dies_writing = False

    def _make_loop(self, name: str) -> SimLoop:
        # An abstract class to mypy only: what is missing raises NotImplementedError, and pydrm does not use it.
        return SimLoop(self.scheduler, f"{self.name}.{name}", self.clock.now, self._network, self)  # type: ignore[abstract]

    # --- faults ------------------------------------------------------------------------------------------------------

    def kill_writing(self) -> None:
        """kill -9 in the middle of what it writes next, which a kill at any moment hardly ever hits."""
        self._dies_writing = self.alive

    def kill(self, *, power: bool = False) -> None:
        """kill -9, or a power cut. What was being written may be there in part."""
        if not self.alive:
            return
        self.alive = False
        self.app.kill()
        self.aside.kill()
        threads, self._threads = self._threads, []
        self.disk.torn()
        for work in threads:
            work()
        self.disk.mended()
        self.disk.process_gone()
        self._network.host_gone(self.name, silently=power)
        self.died()
        self.scheduler.call_later(0.0, self._bury(self.app, self.aside))

    def _bury(self, *loops: SimLoop) -> Callable[[], None]:
        def bury() -> None:
            for loop in loops:
                loop.bury()

        # Later, because it may be one of their own tasks that ends the process.
        return bury

    def pause(self) -> None:
        self.paused = True
        self.app.held_up = self.aside.held_up = True

    def resume(self) -> None:
        if self.paused:
            self.paused = False
            self.thawed_at = self.scheduler.now
            self.aside.go_on()
            self._app_goes_on()

    def block_app(self, seconds: float) -> None:
        """The app's loop does something else for so long."""
        self._app_busy_until = max(self._app_busy_until, self.scheduler.now + seconds)
        self.app.held_up = True
        self.scheduler.call_later(seconds, self._app_goes_on)

    def free_app(self) -> None:
        """Whatever held the app's loop up is over."""
        self._app_busy_until = float("-inf")
        self._app_goes_on()

    def _app_goes_on(self) -> None:
        if self.app.held_up and not self.paused and self.scheduler.now >= self._app_busy_until:
            self.app.go_on()

    def set_rate(self, rate: float) -> None:
        self._clock_base = (self.scheduler.now, self.clock.now())
        self.rate = rate

    # --- Host --------------------------------------------------------------------------------------------------------

    def new_id(self) -> str:
        return f"{self.random.getrandbits(64):016x}"

    def run_aside(self, main: Callable[[], Coroutine[Any, Any, None]], name: str) -> Aside:
        return _Life(self.app, self.aside, main)

    def exit(self, code: int) -> None:
        self.kill()

    # --- for its loops -----------------------------------------------------------------------------------------------

    def true_seconds(self, seconds: float) -> float:
        return seconds / self.rate

    def local_time(self) -> float:
        since, reading = self._clock_base
        return reading + (self.scheduler.now - since) * self.rate

    def wall_time(self) -> float:
        return _EPOCH_S + self.local_time() + self.wall_jump_s

    def in_a_thread(self, work: Callable[[], None]) -> None:
        """Run *work* when the disk is done with it; a process that dies before dies in the middle of it."""
        self._threads.append(work)
        if self._dies_writing:
            self._dies_writing = False
            self.scheduler.call_later(0.0, self.kill)

        def done() -> None:
            if work in self._threads:
                self._threads.remove(work)
                work()

        self.scheduler.call_later(_DISK_S * (0.5 + 2 * self._seeds.random()), done)


class _Clock:
    def __init__(self, host: SimHost) -> None:
        self._host = host

    def wall(self) -> float:
        return self._host.wall_time()

    def now(self) -> float:
        return self._host.local_time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _Life:
    def __init__(self, app: SimLoop, aside: SimLoop, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._app = app
        self._done: asyncio.Future[None] = app.create_future()
        aside.call_soon(self._begin, aside, main)

    def _begin(self, aside: SimLoop, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._task = aside.create_task(main())
        self._task.add_done_callback(lambda task: self._app.call_soon_threadsafe(self._ended))

    def _ended(self) -> None:
        if not self._done.done():
            self._done.set_result(None)

    async def ended(self) -> None:
        await asyncio.shield(self._done)
