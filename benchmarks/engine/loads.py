"""
Requests made one after the other, or many at once; and how long they took.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

__all__ = ["batches", "flood", "one_by_one"]

T = TypeVar("T")


async def one_by_one(request: Callable[[], Awaitable[object]], count: int, seconds: float) -> list[float]:
    """The milliseconds of each of *count* requests, or of as many as there is time for."""
    took_ms: list[float] = []
    ends_s = time.monotonic() + seconds
    while len(took_ms) < count and time.monotonic() < ends_s:
        began_s = time.monotonic()
        await request()
        took_ms.append((time.monotonic() - began_s) * 1000)
    return took_ms


async def flood(request: Callable[[], Awaitable[object]], window: int, seconds: float) -> float:
    """Requests per second, with *window* of them under way."""
    began_s = time.monotonic()
    answered = 0

    async def go_on() -> None:
        nonlocal answered
        while time.monotonic() - began_s < seconds:
            await request()
            answered += 1

    await asyncio.gather(*(go_on() for _ in range(window)))
    return answered / (time.monotonic() - began_s)


async def batches(
    add: Callable[[Sequence[T]], Awaitable[object]], things: Sequence[T], size: int, window: int
) -> float:
    """Things per second, *size* in each request, with *window* requests under way."""
    began_s = time.monotonic()
    parts = iter([things[start : start + size] for start in range(0, len(things), size)])

    async def go_on() -> None:
        for part in parts:
            await add(part)

    await asyncio.gather(*(go_on() for _ in range(window)))
    return len(things) / (time.monotonic() - began_s)
