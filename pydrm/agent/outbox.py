"""
`Outbox`: tells the cluster something about many handles, one proposal at a time.

While one is under way, what comes up meanwhile waits and goes together in the next, so a busy node sends
few large commands and an idle one sends small ones at once. Only the newest about each token is kept. What
was not answered is sent again: whatever goes in here must be safe to repeat. When the node stops by itself, nothing
is: whatever was left unsaid the cluster learns when the lease is over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from pydrm.agent.backoff import Backoff
from pydrm.agent.cluster import ANSWER_TIMEOUT_S, Insistence, Proposer
from pydrm.clock import Clock
from pydrm.core.answers import Done
from pydrm.core.commands import Command
from pydrm.engine.codec import encoded_bytes
from pydrm.errors import DrmError

__all__ = ["ANSWER_TIMEOUT_S", "BATCH_ITEMS_MAX", "Outbox", "Proposer", "fitting"]

logger = logging.getLogger(__name__)

# Well below what the engine takes as one request, so that one that is large does not keep others waiting either.
BATCH_BYTES_MAX = 128 * 1024
BATCH_ITEMS_MAX = 256


class _Item(Protocol):
    @property
    def token(self) -> int: ...


T = TypeVar("T", bound=_Item)
P = TypeVar("P")


def fitting(items: Iterable[P]) -> list[P]:
    """As many of *items*, from the first on, as go into one command; at least one, if there is any."""
    batch: list[P] = []
    size = 0
    for item in items:
        size += encoded_bytes(item)
        if batch and size > BATCH_BYTES_MAX:
            break
        batch.append(item)
        if len(batch) == BATCH_ITEMS_MAX:
            break
    return batch


class Outbox(Generic[T]):
    """
    Args:
        command: Makes a command of a batch.
        due: Whether an item still has to be said; asked just before it is sent.
        said: Called with each batch that took effect.
        gather_s: How long to wait for more before each proposal.
    """

    def __init__(
        self,
        proposer: Proposer,
        *,
        command: Callable[[tuple[T, ...]], Command],
        due: Callable[[T], bool],
        said: Callable[[Sequence[T]], None],
        clock: Clock,
        backoff: Backoff,
        gather_s: float = 0.0,
    ) -> None:
        self._insistence = Insistence(proposer, clock=clock, backoff=backoff)
        self._command = command
        self._due = due
        self._said = said
        self._clock = clock
        self._gather_s = gather_s
        self._items: dict[int, T] = {}
        self._batch: list[T] = []
        self._any = asyncio.Event()

    def put(self, item: T) -> None:
        """Have it said. The same again changes nothing; another about the same token takes its place."""
        if self._items.get(item.token) != item:
            self._items[item.token] = item
            self._any.set()

    def holds(self, token: int) -> bool:
        """Whether something about it is still to be said, or is under way."""
        return token in self._items

    def clear(self) -> None:
        """Forget all: it was about an incarnation that is over."""
        self._items.clear()

    async def run(self) -> None:
        """Until cancelled, or until the node cannot say anything any more."""
        while True:
            if not self._items:
                self._any.clear()
                await self._any.wait()
            if self._gather_s:
                await self._clock.sleep(self._gather_s)
            try:
                answer = await self._insistence.say(self._next)
            except DrmError:
                return
            if isinstance(answer, Done):
                for item in self._batch:
                    if self._items.get(item.token) is item:
                        del self._items[item.token]
                self._said(self._batch)
            elif answer is not None:
                # Most often the incarnation is over: then `joined` is on its way and clears this outbox.
                logger.info("%s was refused: %s", type(self._command(())).__name__, answer.reason.value)
                self._put_last(self._batch)
                await self._insistence.rest()

    def _next(self) -> Command | None:
        over: list[int] = []
        self._batch = fitting(self._from_the_first(over))
        for token in over:
            del self._items[token]
        return self._command(tuple(self._batch)) if self._batch else None

    def _from_the_first(self, over: list[int]) -> Iterator[T]:
        """What is to be said, looked at no further than it is taken; what need not be said any more goes to *over*."""
        for token, item in self._items.items():
            if self._due(item):
                yield item
            else:
                over.append(token)

    def _put_last(self, batch: Iterable[T]) -> None:
        """So that what is refused for what it is does not keep the rest from being said."""
        for item in batch:
            if self._items.get(item.token) is item:
                self._items[item.token] = self._items.pop(item.token)
