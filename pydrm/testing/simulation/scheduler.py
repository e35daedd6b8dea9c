"""
`Scheduler` and `SimLoop`: virtual time, and asyncio loops that live in it.

All loops of all nodes share one queue of events, ordered by time and then by age. An event takes no time; what
should take time says so. A loop can be held up (its node is paused, or its app is busy): its events then wait and
run when it goes on, late, as they would in a process that was stopped.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from asyncio import events
from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import Any

__all__ = ["Scheduler", "SimLoop"]

# Time passes a little with each event, so that two readings of a clock are not the same for ever.
_EVENT_S = 1e-6
_UNWINDS_MAX = 50


class Scheduler:
    """
    Attributes:
        now: Seconds of true time since the beginning.
        errors: Exceptions that nobody caught, in words.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.errors: list[str] = []
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def call_at(self, when: float, call: Callable[[], None]) -> None:
        """Run *call* at *when*, outside of all loops."""
        self._count += 1
        heapq.heappush(self._queue, (max(when, self.now), self._count, call))

    def call_later(self, delay: float, call: Callable[[], None]) -> None:
        self.call_at(self.now + delay, call)

    def run_until(self, when: float) -> None:
        """Live through everything that happens up to *when*."""
        while self._queue and self._queue[0][0] <= when:
            at, _, call = heapq.heappop(self._queue)
            self.now = max(self.now + _EVENT_S, at)
            call()
        self.now = max(self.now, when)


class SimLoop(asyncio.AbstractEventLoop):
    """One event loop of one process, as far as pydrm uses one.

    The arguments of callbacks are not typed here, which is what each override is ignored for.
    """

    def __init__(self, scheduler: Scheduler, name: str, clock: Callable[[], float], network: Any, host: Any) -> None:
        self._gone = False
        self.name = name
        self.held_up = False
        self._scheduler = scheduler
        self._clock = clock
        self._network = network
        self._host = host
        self._waiting: list[asyncio.Handle] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self._tasks_left = 100

    # --- the scheduler's side ----------------------------------------------------------------------------------------

    def run(self, handle: asyncio.Handle) -> None:
        if self._gone or handle.cancelled():
            return
        if self.held_up:
            self._waiting.append(handle)
            return
        events._set_running_loop(self)
        try:
            handle._run()
        finally:
            events._set_running_loop(None)

    def go_on(self) -> None:
        """Not held up any more: what has waited runs now, in its order."""
        self.held_up = False
        waiting, self._waiting = self._waiting, []
        for handle in waiting:
            self._schedule(self._scheduler.now, handle)

    def kill(self) -> None:
        """The process is gone: nothing more runs here, not even what tidies up."""
        self._gone = True
        self._waiting.clear()

    def bury(self) -> None:
        """
        Unwind what the process left unfinished, now rather than whenever it is collected.

        It reaches nobody any more. A coroutine that waits while it is unwound is unwound from there.
        """
        # What it would say of its unwinding was never said.
        silenced = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        try:
            self._unwind()
        finally:
            logging.disable(silenced)

    def _unwind(self) -> None:
        for task in self._tasks:
            coroutine = task.get_coro() if not task.done() else None
            for _ in range(_UNWINDS_MAX):
                try:
                    if coroutine is not None:
                        coroutine.close()
                except BaseException:  # noqa: BLE001 (it may raise what it likes, for nobody hears it)
                    continue
                break
        self._tasks.clear()

    def _schedule(self, when: float, handle: asyncio.Handle) -> None:
        if not self._gone:
            self._scheduler.call_at(when, partial(self.run, handle))

    # --- asyncio's side ----------------------------------------------------------------------------------------------

    def time(self) -> float:
        return self._clock()

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._schedule(self._scheduler.now, handle)
        return handle

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        delay = self._host.true_seconds(when - self.time())
        self._schedule(self._scheduler.now + delay, handle)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None, **_: Any) -> Any:
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        if self._gone:
            coro.close()  # it will never begin
        self._tasks.append(task)
        if len(self._tasks) > 2 * self._tasks_left:
            self._tasks = [kept for kept in self._tasks if not kept.done()]
            self._tasks_left = max(len(self._tasks), 100)
        return task

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> Any:
        """A thread of the process: it takes the time that the disk takes."""
        future = self.create_future()

        def work() -> None:
            try:
                result = func(*args)
            except BaseException as error:  # noqa: BLE001 (as an executor does)
                self.call_soon(_finish, future, None, error)
            else:
                self.call_soon(_finish, future, result, None)

        if not self._gone:
            self._host.in_a_thread(work)
        return future

    async def create_server(self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:
        return self._network.listen(self._host, self, protocol_factory, host, port)

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:
        return await self._network.connect(self._host, self, protocol_factory, host, port)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        message = str(context.get("message", ""))
        if self._gone or "never retrieved" in message or "destroyed" in message:
            return
        error = context.get("exception")
        self._scheduler.errors.append(f"{self.name}: {message}: {error!r}")

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self._gone

    def is_closed(self) -> bool:
        return self._gone


def _finish(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
