"""
`Handle`: what this node has for one token, from the first try to open it until it is gone for certain.

One task runs the kind's handler, again and again while it fails. Ending it has three steps, each with a
deadline: ask (cancel), cut (its sockets are shut down, cancel again), and if neither helps, say that it is
stuck and wait on. A handle is gone when its task has ended; nobody may say so earlier.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from math import isnan
from typing import Protocol

from pydrm.agent.backoff import Backoff
from pydrm.agent.detail import shown, told_by
from pydrm.agent.fence import Fence
from pydrm.agent.hold import Hold
from pydrm.agent.kind import Kind
from pydrm.agent.reconcile import Stage
from pydrm.agent.waiters import Waiter
from pydrm.clock import Clock
from pydrm.core.records import AssignmentKey, Condition
from pydrm.errors import ConfigurationError, Elsewhere, Fenced, Permanent, Temporary

__all__ = ["CUT_TIMEOUT_S", "STABLE_S", "Bookmarks", "Gate", "Handle"]

logger = logging.getLogger(__name__)

# How long a handler may take to end once its sockets are shut and it was cancelled for the second time.
CUT_TIMEOUT_S = 0.25

# A handler that was open for so long before it failed is tried again as soon as one that never failed.
STABLE_S = 5.0

# A try that comes sooner than this is not worth an entry of the log to announce it.
NEXT_TRY_SHOWN_S = 1.0

# How long to leave it alone once another node was asked for, for the cluster to decide.
DECISION_S = 1.0

# No handler waits for longer, whatever it says; a third party may have told it.
DELAY_MAX_S = 86_400.0


class Gate(Protocol):
    """What a run of the handler has to wait for."""

    async def enter(self, waits: Callable[[str], None]) -> None:
        """Return when it may connect; *waits* is called with what it waits for, if that takes a while."""

    def leave(self, delay: float | None) -> None:
        """It has nothing open, and tries again after so many seconds; None for never."""


class Bookmarks(Protocol):
    """Where the checkpoints of all handles go; the agent's `Checkpoints`."""

    def note(
        self,
        key: AssignmentKey,
        token: int,
        value: bytes,
        patience_s: float = 0.0,
        waiter: Waiter | None = None,
        *,
        parting: bool = False,
    ) -> None: ...

    def newest(self, key: AssignmentKey, token: int) -> bytes | None: ...

    def watermark_us(self, key: AssignmentKey) -> int: ...

    def raise_watermark(self, until_s: float, patience_s: float) -> Waiter: ...


class Handle:
    """
    The `Owner` of its hold.

    Attributes:
        stage: LIVE or CLOSING.
        condition, detail, next_try_ms: As it should be reported; see `core.records.Holder`.
        proven: Whether it has been open for so long that nobody needs to remember that it failed elsewhere.
    """

    __slots__ = (
        "_backoff",
        "_checkpoints",
        "_clock",
        "_cut",
        "_failures",
        "_fence",
        "_gate",
        "_gave_up",
        "_give_up_after",
        "_hold",
        "_opened_at",
        "_task",
        "_told",
        "condition",
        "detail",
        "key",
        "next_try_ms",
        "proven",
        "stage",
        "token",
    )

    def __init__(
        self,
        key: AssignmentKey,
        token: int,
        *,
        fence: Fence,
        clock: Clock,
        backoff: Backoff,
        checkpoints: Bookmarks,
        give_up_after: int,
        told: Callable[[Handle], None],
        gave_up: Callable[[Handle], None],
        gate: Gate | None = None,
    ) -> None:
        self.key = key
        self.token = token
        self.stage = Stage.LIVE
        self.condition = Condition.OPENING
        self.detail = ""
        self.next_try_ms = 0
        self.proven = False
        self._fence = fence
        self._clock = clock
        self._backoff = backoff
        self._checkpoints = checkpoints
        self._give_up_after = give_up_after
        self._told = told
        self._gave_up = gave_up
        self._gate = gate
        self._failures = 0
        self._hold: Hold | None = None
        self._task: asyncio.Task[None] | None = None
        self._opened_at: float | None = None
        self._cut = False

    @property
    def settled(self) -> bool:
        """Whether the first try to open it is over, well or not."""
        return self.condition is not Condition.OPENING

    @property
    def hold(self) -> Hold | None:
        """What the handler is given; None until it is run for the first time."""
        return self._hold

    @property
    def valid(self) -> bool:
        return self._hold is not None and self.stage is Stage.LIVE and self._hold.valid

    def owns(self, task: asyncio.Task[None]) -> None:
        """The task that runs `live`; the handle is gone when it has ended."""
        self._task = task

    def tell(self, condition: Condition, detail: str) -> None:
        """Note how it is. What a handler says once it is told to end is of no interest any more."""
        if self.stage is Stage.LIVE:
            self._note(condition, detail)

    def note(self, value: bytes, patience_s: float, waiter: Waiter | None) -> None:
        # One that was cut off may have been so at any point.
        parting = self.stage is Stage.CLOSING and not self._cut
        self._checkpoints.note(self.key, self.token, value, patience_s, waiter, parting=parting)

    def newest(self) -> bytes | None:
        return self._checkpoints.newest(self.key, self.token)

    def watermark_us(self) -> int:
        return self._checkpoints.watermark_us(self.key)

    def raise_watermark(self, until_s: float, patience_s: float) -> Waiter:
        return self._checkpoints.raise_watermark(until_s, patience_s)

    async def live(self, kind: Kind, hold: Hold) -> None:
        """Run the handler until told to end, or until the hold is over."""
        self._hold = hold
        # A handler that swallows its cancellation and returns must not be run again either.
        while self.stage is Stage.LIVE:
            await self._enter()
            # Known to the fence before the lease is looked at: so either it is seen to be over, or this will be cut.
            self._fence.opened(self.token)
            try:
                if not hold.valid:
                    return
                # Here, and not in a coroutine of its own, of which there would be one for each that is open.
                self._opened_at = None
                delay: float | None
                try:
                    await kind.run(hold)
                except BaseException as error:  # noqa: BLE001 (the border to code that is not ours: see `_after`)
                    delay = self._after(error)
                else:
                    delay = self._failed("the handler returned by itself")
            finally:
                hold.cut()
                self._fence.closed(self.token)
            if self._gate is not None:
                self._gate.leave(delay)
            await self._wait(delay)

    async def end(self, close_timeout_s: float) -> None:
        """Close it: ask, then cut, then wait for as long as it takes."""
        if self.stage is Stage.CLOSING:
            return
        self.stage = Stage.CLOSING
        if self._task is None:
            return
        self._task.cancel()
        if await self._ended_within(close_timeout_s):
            return
        logger.warning("close took longer than %.3g s and was cut off", close_timeout_s, extra=self._fields())
        self.cut()
        if await self._ended_within(CUT_TIMEOUT_S):
            return
        self._note(Condition.STUCK, "its handler does not end although it was cancelled")
        logger.error("stuck: its handler does not end although it was cancelled", extra=self._fields())
        await self._ended_within(None)

    def cut(self) -> None:
        """End it at once, without politeness. Idempotent; returns before it is gone."""
        self.stage = Stage.CLOSING
        if self._cut or self._task is None:
            return
        self._cut = True
        if self._hold is not None:
            self._hold.revoke()
        self._task.cancel()

    async def _enter(self) -> None:
        if self._gate is None:
            return
        said = ""

        def say(detail: str) -> None:
            nonlocal said
            # What was open may have been closed to come back; what fails goes on doing so, until it is open.
            failed = self.condition in (Condition.RETRYING, Condition.FAILED)
            self._note(self.condition if failed else Condition.OPENING, detail)
            said = self.detail

        await self._gate.enter(say)
        if said and self.detail == said:
            self._note(self.condition, "")

    def _after(self, error: BaseException) -> float | None:
        """What *error* of the handler's means: how long to wait before the next run, None for ever; or it is raised."""
        match error:
            case asyncio.CancelledError():
                # Unless it was for this task, the handler let one out that was meant for something of its own.
                if self._task is None or self._task.cancelling():
                    raise error
                return self._failed("something that the handler waited for was cancelled", error)
            case Fenced():
                return self._backoff.next_s()
            case Permanent() | ConfigurationError():
                self._note_failure(Condition.FAILED, told_by(error) or "the handler gave up for good")
                return None
            case Elsewhere():
                return self._failed(told_by(error) or "the handler wants another node to try", elsewhere=True)
            case Temporary():
                return self._failed(told_by(error) or "the handler asked for another try", delay=_delay_of(error))
            case Exception():  # it must not end the agent
                return self._failed(f"{type(error).__name__}: {told_by(error)}", error)
        raise error

    def _failed(
        self,
        detail: str,
        error: BaseException | None = None,
        delay: float | None = None,
        *,
        elsewhere: bool = False,
    ) -> float:
        """Note it, and say how long to wait before the next try."""
        if self._opened_at is not None and self._clock.now() - self._opened_at >= STABLE_S:
            self._backoff.reset()
            self._failures = 0
        gives_up = False
        if delay is None:
            # A handler that says when to try again knows better than to try elsewhere.
            self._failures = max(self._failures + 1, self._give_up_after if elsewhere else 0)
            gives_up = self.stage is Stage.LIVE and 0 < self._give_up_after <= self._failures
            delay = max(self._backoff.next_s(), DECISION_S if gives_up else 0.0)
        next_try_ms = round((self._clock.wall() + delay) * 1000) if delay > NEXT_TRY_SHOWN_S else 0
        self._note_failure(Condition.RETRYING, detail, error, next_try_ms)
        if gives_up:
            self._gave_up(self)
        return delay

    async def prove(self) -> None:
        """Say so if it is still open, as it is now, in `STABLE_S`."""
        opened_at = self._opened_at
        await self._clock.sleep(STABLE_S)
        still = self._opened_at == opened_at and self.condition is Condition.OPEN
        if opened_at is not None and still and self.stage is Stage.LIVE:
            self.proven = True
            self._told(self)

    async def _wait(self, delay: float | None) -> None:
        if delay is None:
            await asyncio.Event().wait()
        elif delay > 0:
            await self._clock.sleep(delay)

    async def _ended_within(self, timeout_s: float | None) -> bool:
        assert self._task is not None
        done, _ = await asyncio.wait({self._task}, timeout=timeout_s)
        return bool(done)

    def _note_failure(
        self, condition: Condition, detail: str, error: BaseException | None = None, next_try_ms: int = 0
    ) -> None:
        if self.stage is not Stage.LIVE:
            return
        # Once per outage: a third party that is away for an hour fails thousands of tries.
        level = logging.DEBUG if self.condition is Condition.RETRYING is condition else logging.WARNING
        logger.log(level, "%s: %s", condition.value, detail, exc_info=error, extra=self._fields())
        self._note(condition, detail, next_try_ms)

    def _note(self, condition: Condition, detail: str, next_try_ms: int = 0) -> None:
        detail = shown(detail)
        if condition is Condition.OPEN and (self._opened_at is None or self.condition is not Condition.OPEN):
            self._opened_at = self._clock.now()
            if self.condition is Condition.RETRYING:
                logger.info("open again", extra=self._fields())
        if condition is not Condition.OPEN:
            self.proven = False
        if (condition, detail, next_try_ms) != (self.condition, self.detail, self.next_try_ms):
            self.condition, self.detail, self.next_try_ms = condition, detail, next_try_ms
            self._told(self)

    def _fields(self) -> dict[str, object]:
        return {"resource": self.key[0], "token": self.token, "node": self._hold.node if self._hold else ""}


def _delay_of(error: Temporary) -> float | None:
    """How long it wants to wait, a day at most; None if it does not say so in seconds."""
    delay = error.delay
    if isinstance(delay, bool) or not isinstance(delay, (int, float)):
        return None
    bounded = float(min(max(delay, 0), DELAY_MAX_S))
    return None if isnan(bounded) else bounded
