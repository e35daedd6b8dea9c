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
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Generic, Protocol, TypeVar

from pydrm.agent.backoff import Backoff
from pydrm.clock import Clock
from pydrm.core.answers import Answer, Done
from pydrm.core.commands import Command
from pydrm.errors import DrmError, Unavailable

__all__ = ["BATCH_ITEMS_MAX", "Outbox", "Proposer"]

logger = logging.getLogger(__name__)

BATCH_ITEMS_MAX = 256
ANSWER_TIMEOUT_S = 5.0


class Proposer(Protocol):
    async def propose(self, command: Command, *, timeout: float) -> Answer:
        """
        The answer once *command* is applied on this node.

        Raises:
            Unavailable: It was not within *timeout* seconds.
            DrmError: Why this node stops; nothing can be proposed here any more.
        """


class _Item(Protocol):
    @property
    def token(self) -> int: ...


T = TypeVar("T", bound=_Item)


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
        self._proposer = proposer
        self._command = command
        self._due = due
        self._said = said
        self._clock = clock
        self._backoff = backoff
        self._gather_s = gather_s
        self._items: dict[int, T] = {}
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
            batch = self._take()
            if not batch:
                continue
            try:
                said = await self._say(batch)
            except DrmError as error:
                name = type(self._command(tuple(batch))).__name__
                logger.warning("%s is not answered, and is not repeated, because this node stops: %s", name, error)
                return
            if said:
                self._backoff.reset()
            else:
                await self._clock.sleep(self._backoff.next_s())

    def _take(self) -> list[T]:
        for token in [token for token, item in self._items.items() if not self._due(item)]:
            del self._items[token]
        return list(islice(self._items.values(), BATCH_ITEMS_MAX))

    async def _say(self, batch: list[T]) -> bool:
        """Whether it took effect. Raises DrmError, but not Unavailable, if nothing can be said any more."""
        command = self._command(tuple(batch))
        try:
            answer = await self._proposer.propose(command, timeout=ANSWER_TIMEOUT_S)
        except Unavailable as error:
            # It may be because the node stops; then this outbox is cancelled soon.
            logger.warning(
                "%s is not answered, and is repeated for as long as this node runs: %s", type(command).__name__, error
            )
            return False
        if not isinstance(answer, Done):
            # Most often the incarnation is over: then `joined` is on its way and clears this outbox.
            logger.info("%s was refused: %s", type(command).__name__, answer.reason.value)
            return False
        for item in batch:
            if self._items.get(item.token) is item:
                del self._items[item.token]
        self._said(batch)
        return True
