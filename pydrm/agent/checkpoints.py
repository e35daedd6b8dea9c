"""
`Checkpoints`: how far this node's handlers have got, on its way into the log.

A handler may note a new one with each message. Only its newest counts, so what waits is overwritten; each resource's
goes into the log at most once in an interval, and those of many resources go together: an entry costs much more than
one more checkpoint in it, so who can wait a little says for how long. What is not saved yet when a handler has ended
travels with the release. What is lost when a node dies is what its handlers noted in that interval.

Handlers that act at their times say so by the node's watermark, which is beside the checkpoints.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

import attrs

from pydrm.agent.backoff import Backoff
from pydrm.agent.cluster import Insistence, Proposer, ask
from pydrm.agent.outbox import fitting
from pydrm.agent.waiters import Waiter, refuse, tell
from pydrm.agent.watermark import RisingWatermark
from pydrm.clock import Clock
from pydrm.core.answers import Answer, Done
from pydrm.core.handle_commands import Save, SaveCheckpoints
from pydrm.core.records import AssignmentKey
from pydrm.core.state import State
from pydrm.errors import DrmError

__all__ = ["Checkpoints"]

logger = logging.getLogger(__name__)

GATHER_S = 0.003

# So many are enough for an entry to be worth it.
GATHERED_MIN = 64

_Say = Callable[[Callable[[], SaveCheckpoints | None]], Awaitable[Answer | None]]


@attrs.define
class _Noted:
    """
    Attributes:
        waiters: Who waits for this or for one that it took the place of.
        from_s: When it may be saved, because the one before is old enough.
        by_s: When it is to be saved, because whoever noted it does not want to wait for longer.
    """

    key: AssignmentKey
    value: bytes
    from_s: float
    by_s: float
    waiters: list[Waiter]
    under_way: bool = False


class Checkpoints:
    """
    Args:
        incarnation: The one that this node works for now.
        interval_s: How often one resource's may be saved.

    Attributes:
        rising: The watermark of this node's incarnation.
    """

    def __init__(
        self,
        node: str,
        incarnation: Callable[[], int],
        proposer: Proposer,
        state: Callable[[], State],
        *,
        clock: Clock,
        backoff: Backoff,
        interval_s: float,
    ) -> None:
        self._node = node
        self._incarnation = incarnation
        self._proposer = proposer
        self._state = state
        self._clock = clock
        self._insistence = Insistence(proposer, clock=clock, backoff=backoff)
        self._interval_s = interval_s
        self.rising = RisingWatermark(node, incarnation, proposer, clock=clock, backoff=backoff)
        self._noted: dict[int, _Noted] = {}
        self._from_s: dict[int, float] = {}
        self._parting: dict[int, bytes] = {}
        self._gathered = 0
        self._wakes_s = float("inf")
        self._woken = asyncio.Event()

    def newest(self, key: AssignmentKey, token: int) -> bytes | None:
        """What the holder under *token* noted last, or else what was saved, by whomever."""
        noted = self._noted.get(token)
        if noted is not None:
            return noted.value
        checkpoint = self._state().checkpoints.get(key)
        return checkpoint.value if checkpoint is not None else None

    def watermark_us(self, key: AssignmentKey) -> int:
        """Until when whoever saved the last checkpoint may have acted without saving another one; 0: not at all."""
        state = self._state()
        checkpoint = state.checkpoints.get(key)
        if checkpoint is None:
            return 0
        # It may be there still: this one, before its handler was run anew, or with overlap the one before.
        claim = state.claim(key, checkpoint.token)
        now = state.watermarks.get((claim.node, claim.incarnation)) if claim is not None else None
        return max(checkpoint.watermark_us, now.until_us if now is not None else 0)

    def raise_watermark(self, until_s: float, patience_s: float) -> Waiter:
        """As in `RisingWatermark`."""
        return self.rising.raise_to(until_s, patience_s)

    def note(
        self,
        key: AssignmentKey,
        token: int,
        value: bytes,
        patience_s: float = 0.0,
        waiter: Waiter | None = None,
        *,
        parting: bool = False,
    ) -> None:
        """
        Have *value* saved, instead of what waits.

        Args:
            patience_s: How long it may wait for those of others, to go into the log together with them; from when it
                may be saved at all.
            waiter: Done when it is saved, or with `Fenced` when it cannot be any more.
            parting: Whether its handler has been told to end; then it goes with the release, saved or not.
        """
        if parting:
            self._parting[token] = value
        now = self._clock.now()
        waiters = [waiter] if waiter is not None else []
        old = self._noted.get(token)
        if old is not None and not old.under_way:
            old.value, old.by_s = value, min(old.by_s, max(old.from_s, now) + patience_s)
            old.waiters += waiters
            self._wake(old.by_s)
            return
        from_s = self._from_s.get(token, 0.0)
        self._noted[token] = noted = _Noted(key, value, from_s, max(from_s, now) + patience_s, waiters)
        self._gathered += from_s <= now
        self._wake(0.0 if self._gathered >= GATHERED_MIN else noted.by_s)

    def last_word(self, token: int) -> tuple[bytes, bool]:
        """For the release of *token*: what was said in the end, and True; or else what is not saved yet."""
        parting = self._parting.get(token)
        if parting is not None:
            return parting, True
        noted = self._noted.get(token)
        return (noted.value if noted is not None else b""), False

    def forget(self, token: int) -> None:
        """The handle under *token* is over: what is not saved by now never will be."""
        self._from_s.pop(token, None)
        self._parting.pop(token, None)
        noted = self._noted.pop(token, None)
        if noted is not None:
            self._refuse(token, noted)

    async def run(self) -> None:
        """Until cancelled, or until the node cannot say anything any more."""
        while True:
            await self._gather()
            try:
                await self._save(self._insistence.say, self._clock.now)
            except DrmError:
                return

    async def flush(self) -> None:
        """Save all there is, now, and once; what cannot be saved is lost."""
        while self._noted:
            try:
                await self._save(self._say_once, lambda: float("inf"))
            except DrmError as error:
                logger.warning("%d checkpoints are lost: %s", len(self._noted), error)
                return

    def clear(self) -> None:
        """Forget all: it was about an incarnation that is over."""
        for token in [*self._noted]:
            self.forget(token)
        self._from_s.clear()
        self._parting.clear()
        self.rising.clear()

    async def _gather(self) -> None:
        """Return when one is to be saved, or there are enough; what is noted meanwhile counts as well."""
        while self._gathered < GATHERED_MIN:
            self._woken.clear()
            self._wakes_s = min((noted.by_s for noted in self._noted.values()), default=float("inf"))
            wait_s = self._wakes_s - self._clock.now()
            if wait_s <= 0:
                break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s if self._noted else None):
                    await self._woken.wait()
        await self._clock.sleep(GATHER_S)
        self._gathered = 0

    def _wake(self, by_s: float) -> None:
        if by_s < self._wakes_s:
            self._woken.set()

    async def _save(self, say: _Say, now: Callable[[], float]) -> None:
        """Have what may be saved by *now* saved, as far as it goes into one command."""
        batch: dict[int, _Noted] = {}

        def make() -> SaveCheckpoints | None:
            nonlocal batch
            self._not_saved(batch)
            due = ((token, noted) for token, noted in self._noted.items() if noted.from_s <= now())
            saves = tuple(fitting(Save(*noted.key, token, noted.value) for token, noted in due))
            batch = {save.token: self._noted[save.token] for save in saves}
            for noted in batch.values():
                noted.under_way = True
            return SaveCheckpoints(self._node, self._incarnation(), saves) if saves else None

        try:
            answer = await say(make)
        except BaseException:
            self._not_saved(batch)
            raise
        if answer is not None:
            tell(self._settle(batch, answer))

    async def _say_once(self, make: Callable[[], SaveCheckpoints | None]) -> Answer | None:
        command = make()
        return await ask(self._proposer, command) if command is not None else None

    def _settle(self, batch: dict[int, _Noted], answer: Answer) -> list[Waiter]:
        """Those who are to be told that theirs is saved."""
        saved: list[Waiter] = []
        refused = answer.missing if isinstance(answer, Done) else [str(token) for token in batch]
        from_s = self._clock.now() + self._interval_s
        for token, noted in batch.items():
            newest = self._noted.get(token)
            if newest is noted:
                del self._noted[token]
            if str(token) in refused:
                self._refuse(token, noted)
                continue
            if newest is not None:
                newest.from_s = self._from_s[token] = from_s
                newest.by_s = max(newest.by_s, from_s)
            saved += noted.waiters
        return saved

    def _not_saved(self, batch: dict[int, _Noted]) -> None:
        """Nobody knows whether it is; who waits waits on, for what took its place if something did."""
        for token, noted in batch.items():
            noted.under_way = False
            newest = self._noted.get(token)
            if newest is None:
                self._refuse(token, noted)
            elif newest is not noted:
                newest.waiters += noted.waiters

    def _refuse(self, token: int, noted: _Noted) -> None:
        refuse(noted.waiters, f"resource {noted.key[0]!r} is no longer held under token {token}")
