"""
`check_kind`: what every kind has to do, played with a kind of anybody's and the real thing that it talks to.

    async def test_my_kind():
        await check_kind(MyKind(), Resource("r", kind="mine", url=server.url), server)

Each scene is a promise that pydrm makes for all kinds, and that a kind can break. What is looked at is what the
counterpart sees, not what the kind says of itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from random import SystemRandom

from pydrm.clock import SystemClock
from pydrm.core.records import Condition
from pydrm.core.resource import Resource
from pydrm.handlers.custom import kind_of
from pydrm.testing.conformance.checked import Checked, Counterpart

__all__ = ["check_kind"]

logger = logging.getLogger(__name__)

# How long to watch that nothing happens.
QUIET_S = 0.3


async def check_kind(
    kind: object,
    resource: Resource,
    counterpart: Counterpart,
    *,
    refused: Iterable[tuple[Resource, str]] = (),
    close_timeout_s: float = 5.0,
) -> None:
    """
    Play all scenes with *resource* of *kind*; *counterpart* is started and stopped meanwhile.

    What `ResourceManager.handler` takes is a kind, too: an async function, or a class or an object with hooks.

    A kind that delivers events (it has a method `topics`) is given one each twentieth of a second.

    Args:
        refused: Resources that the kind must refuse, each with the field that the error has to name.
        close_timeout_s: How long the kind may take to close politely.

    Raises:
        AssertionError: A promise is broken; the message says which.
    """
    kind = kind_of(resource.kind, kind, clock=SystemClock(), random=SystemRandom())
    Checked(kind, resource, counterpart).check_fields(refused)
    await counterpart.start()
    try:
        for scene in (_opens, _lets_go, _is_cut, _stays_away, _ends_while_it_opens, _comes_back, _waits_for_it):
            logger.info("%s: %s", resource.kind, (scene.__doc__ or "").strip())
            checked = Checked(kind, resource, counterpart, close_timeout_s)
            try:
                await scene(checked)
            finally:
                await checked.close()
    finally:
        await counterpart.stop()


Scene = Callable[[Checked], Awaitable[None]]


async def _opens(checked: Checked) -> None:
    """It is open once the counterpart has it, and says so."""
    held = await checked.hold_open()
    await held.release(checked.close_timeout_s)


async def _lets_go(checked: Checked) -> None:
    """Told to release it, it ends in time, and nothing of it is open any more."""
    held = await checked.hold_open()
    began = asyncio.get_running_loop().time()
    await held.release(checked.close_timeout_s)
    took_s = asyncio.get_running_loop().time() - began
    assert held.task.done(), "its handler does not end when it is told to"
    assert took_s < checked.close_timeout_s, f"it took {took_s:.1f} s to close, and was cut off"
    await checked.until_gone("it was released, and the counterpart still has it")


async def _is_cut(checked: Checked) -> None:
    """When the lease is over, nothing of it is open any more, whatever the handler would still like to do."""
    held = await checked.hold_open()
    await held.end_lease()
    await checked.until_gone("the lease is over, and the counterpart still has it")


async def _stays_away(checked: Checked) -> None:
    """Under a lease that is over it opens nothing."""
    held = checked.hold()
    held.lease.deadline = 0.0
    await asyncio.sleep(QUIET_S)
    assert not checked.counterpart.is_held(), "it was opened under a lease that is over"
    held.handle.cut()
    await asyncio.wait({held.task})


async def _ends_while_it_opens(checked: Checked) -> None:
    """Released at any moment of being opened, it leaves nothing behind."""
    for steps in (0, 1, 2, 5, 10, 50):
        held = checked.hold()
        for _ in range(steps):
            await asyncio.sleep(0)
        await held.release(checked.close_timeout_s)
        await checked.until_gone(f"it was released {steps} steps into being opened, and the counterpart has it")


async def _comes_back(checked: Checked) -> None:
    """When the counterpart goes away it says so, and is open again when that is back."""
    held = await checked.hold_open()
    await checked.counterpart.stop()
    await checked.until(lambda: not held.is_open, "the counterpart is gone, and it still says that it is open")
    await checked.counterpart.start()
    await checked.until(lambda: held.is_open, f"the counterpart is back, and it is not open; it said {held.told[-3:]}")
    await checked.until(checked.counterpart.is_held, "it says that it is open again, and the counterpart differs")
    await held.release(checked.close_timeout_s)


async def _waits_for_it(checked: Checked) -> None:
    """With the counterpart away from the beginning it tries again, says why, and gets there."""
    await checked.counterpart.stop()
    held = checked.hold()
    await checked.until(
        lambda: Condition.RETRYING in held.conditions, "the counterpart is away, and it does not say so"
    )
    assert all(detail for condition, detail in held.told if condition is Condition.RETRYING), "it does not say why"
    await checked.counterpart.start()
    await checked.until(lambda: held.is_open, f"the counterpart is there, and it is not open; it said {held.told[-3:]}")
    await held.release(checked.close_timeout_s)
