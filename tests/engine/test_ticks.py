"""`Ticks`: soon after anything has happened, and when it was said that something will be due."""

from __future__ import annotations

import asyncio

from pydrm.engine.ticks import Ticks
from tests.engine.loops import on_a_loop, until


class Ticking:
    """What ticks, and when it says that it is to tick next."""

    def __init__(self, at_latest_s: float = 1000.0) -> None:
        self.count = 0
        self.asked: list[int] = []
        self.at_latest_s = at_latest_s
        self.ticks = Ticks(self._tick, at_latest_s=self._until_next)
        self.then = lambda: None

    def _tick(self) -> None:
        self.count += 1
        self.then()

    def _until_next(self) -> float:
        self.asked.append(self.count)
        return self.at_latest_s


@on_a_loop
async def test_it_ticks_once_however_often_it_is_woken():
    it = Ticking()
    for _ in range(3):
        it.ticks.wake()
    await asyncio.sleep(0.01)

    assert it.count == 1
    it.ticks.stop()


@on_a_loop
async def test_it_is_asked_after_each_tick_when_the_next_is_due():
    """Only then is it known: a tick may have put something off."""
    it = Ticking(0.001)
    it.ticks.wake()
    await until(lambda: it.count >= 3)
    it.ticks.stop()

    assert it.asked[:3] == [1, 2, 3]


@on_a_loop
async def test_who_is_woken_by_his_own_tick_needs_no_timer():
    it = Ticking()
    it.then = lambda: it.ticks.wake() if it.count < 3 else None
    it.ticks.wake()
    await asyncio.sleep(0.01)

    assert (it.count, it.asked) == (3, [3])
    it.ticks.stop()


@on_a_loop
async def test_a_tick_that_fails_is_not_the_last_one():
    it = Ticking(0.001)

    def fail() -> None:
        if it.count == 1:
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
            raise ZeroDivisionError

    it.then = fail
    it.ticks.wake()
    await until(lambda: it.count >= 2)
    it.ticks.stop()


@on_a_loop
async def test_once_stopped_it_ticks_no_more():
    it = Ticking(0.001)
    it.ticks.wake()
    await until(lambda: it.count >= 1)
    it.ticks.stop()
    it.ticks.wake()
    before = it.count
    await asyncio.sleep(0.02)

    assert it.count == before
