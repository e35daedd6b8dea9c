"""
Tests on a real event loop: what they wait for has a generous deadline, and nothing is timed.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine

DEADLINE_S = 30.0


def on_a_loop(test: Callable[..., Coroutine[None, None, None]]) -> Callable[..., None]:
    """Let pytest run *test*, a coroutine function."""

    @functools.wraps(test)
    def run(*arguments: object, **fixtures: object) -> None:
        async def limited() -> None:
            async with asyncio.timeout(2 * DEADLINE_S):
                await test(*arguments, **fixtures)

        asyncio.run(limited())

    return run


async def until(condition: Callable[[], object], *, within_s: float = DEADLINE_S) -> None:
    """Return once *condition* is true."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.002)
