"""
Who waits for something that the log says, and how they are told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from pydrm.errors import Fenced

__all__ = ["TOLD_AT_ONCE", "Waiter", "refuse", "tell"]

Waiter = asyncio.Future[None]

# So many handlers go on in one turn of the loop. If all of an entry's did, what they make to go on with would all be
# there at the same time, and Python's collector would run for each entry, and look through it in vain.
TOLD_AT_ONCE = 8


def tell(waiters: list[Waiter]) -> None:
    """It is so: some hear it now, and the others in the next turns of the loop."""
    for waiter in waiters[:TOLD_AT_ONCE]:
        if not waiter.done():
            waiter.set_result(None)
    if len(waiters) > TOLD_AT_ONCE:
        asyncio.get_running_loop().call_soon(tell, waiters[TOLD_AT_ONCE:])


def refuse(waiters: Iterable[Waiter], detail: str) -> None:
    """It never will be."""
    for waiter in waiters:
        if not waiter.done():
            waiter.set_exception(Fenced(detail))
