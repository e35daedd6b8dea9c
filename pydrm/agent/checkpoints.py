"""
`Checkpoints`: how far this node's handlers have got, on its way into the log.

A handler may note a new one with each message. Only its newest counts, so what waits is overwritten; each resource's
goes into the log at most once in an interval, and those of many resources go together. What is not saved yet when a
handler has ended travels with the release. What is lost when a node dies is what its handlers noted in that interval.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import attrs

from pydrm.agent.backoff import Backoff
from pydrm.agent.cluster import Insistence, Proposer, ask
from pydrm.agent.outbox import fitting
from pydrm.clock import Clock
from pydrm.core.answers import Answer, Done
from pydrm.core.handle_commands import Save, SaveCheckpoints
from pydrm.core.records import AssignmentKey
from pydrm.core.state import State
from pydrm.errors import DrmError, Fenced

__all__ = ["Bookmark", "Checkpoints"]

logger = logging.getLogger(__name__)

GATHER_S = 0.003

_Say = Callable[[Callable[[], SaveCheckpoints | None]], Awaitable[Answer | None]]


@attrs.define
class _Noted:
    """
    Attributes:
        saved: Who waits for what was noted up to now; done when it is saved, or cannot be any more.
    """

    key: AssignmentKey
    value: bytes
    saved: asyncio.Future[None]
    due_at: float
    under_way: bool = False


@attrs.frozen(eq=False)
class Bookmark:
    """One handle's place in `Checkpoints`."""

    _checkpoints: Checkpoints
    _key: AssignmentKey
    _token: int

    def note(self, value: bytes) -> asyncio.Future[None]:
        return self._checkpoints.note(self._key, self._token, value)

    def newest(self) -> bytes | None:
        return self._checkpoints.newest(self._key, self._token)


class Checkpoints:
    """
    Args:
        incarnation: The one that this node works for now.
        interval_s: How often one resource's may be saved.
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
        self._noted: dict[int, _Noted] = {}
        self._due_at: dict[int, float] = {}
        self._any = asyncio.Event()

    def newest(self, key: AssignmentKey, token: int) -> bytes | None:
        """What the holder under *token* noted last, or else what was saved, by whomever."""
        noted = self._noted.get(token)
        if noted is not None:
            return noted.value
        checkpoint = self._state().checkpoints.get(key)
        return checkpoint.value if checkpoint is not None else None

    def note(self, key: AssignmentKey, token: int, value: bytes) -> asyncio.Future[None]:
        """Have *value* saved, instead of what waits; done when it is, or with `Fenced` when it cannot be any more."""
        old = self._noted.get(token)
        if old is not None and not old.under_way:
            old.value = value
            return old.saved
        saved: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Nobody has to wait for it.
        saved.add_done_callback(lambda done: done.cancelled() or done.exception())
        due_at = self._due_at.get(token, self._clock.now())
        if old is not None:
            # What is under way may come to nothing; then whoever waits for it waits for this one.
            saved.add_done_callback(lambda done: _pass_on(done, old.saved))
        self._noted[token] = _Noted(key, value, saved, due_at)
        self._any.set()
        return saved

    def unsaved(self, token: int) -> bytes:
        """What was noted and is not saved yet; for the release of *token*."""
        noted = self._noted.get(token)
        return noted.value if noted is not None else b""

    def forget(self, token: int) -> None:
        """The handle under *token* is over: what is not saved by now never will be."""
        self._due_at.pop(token, None)
        noted = self._noted.pop(token, None)
        if noted is not None:
            self._refuse(token, noted)

    async def run(self) -> None:
        """Until cancelled, or until the node cannot say anything any more."""
        while True:
            if not self._noted:
                self._any.clear()
                await self._any.wait()
            await self._clock.sleep(max(self._first_due_at() - self._clock.now(), GATHER_S))
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
        self._due_at.clear()

    def _first_due_at(self) -> float:
        return min((noted.due_at for noted in self._noted.values()), default=0.0)

    async def _save(self, say: _Say, now: Callable[[], float]) -> None:
        """Have what is due saved, as far as it goes into one command."""
        batch: dict[int, _Noted] = {}

        def make() -> SaveCheckpoints | None:
            nonlocal batch
            _land(batch)
            due = ((token, noted) for token, noted in self._noted.items() if noted.due_at <= now())
            saves = tuple(fitting(Save(*noted.key, token, noted.value) for token, noted in due))
            batch = {save.token: self._noted[save.token] for save in saves}
            for noted in batch.values():
                noted.under_way = True
            return SaveCheckpoints(self._node, self._incarnation(), saves) if saves else None

        try:
            answer = await say(make)
        finally:
            _land(batch)
        if answer is not None:
            self._settle(batch, answer)

    async def _say_once(self, make: Callable[[], SaveCheckpoints | None]) -> Answer | None:
        command = make()
        return await ask(self._proposer, command) if command is not None else None

    def _settle(self, batch: dict[int, _Noted], answer: Answer) -> None:
        refused = answer.missing if isinstance(answer, Done) else [noted.key[0] for noted in batch.values()]
        due_at = self._clock.now() + self._interval_s
        for token, noted in batch.items():
            newest = self._noted.get(token)
            if newest is noted:
                del self._noted[token]
            if noted.key[0] in refused:
                self._refuse(token, noted)
                continue
            if newest is not None:
                newest.due_at = self._due_at[token] = due_at
            if not noted.saved.done():
                noted.saved.set_result(None)

    def _refuse(self, token: int, noted: _Noted) -> None:
        if not noted.saved.done():
            noted.saved.set_exception(Fenced(f"resource {noted.key[0]!r} is no longer held under token {token}"))


def _land(batch: dict[int, _Noted]) -> None:
    for noted in batch.values():
        noted.under_way = False


def _pass_on(done: asyncio.Future[None], to: asyncio.Future[None]) -> None:
    if to.done():
        return
    error = None if done.cancelled() else done.exception()
    if done.cancelled():
        to.cancel()
    elif error is not None:
        to.set_exception(error)
    else:
        to.set_result(None)
