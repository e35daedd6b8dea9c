"""
`Holdbacks`: third parties that have asked this node to be left alone, and telling the others so.

This node obeys at once. The others do when the command is applied; it is said again for as long as there is anything
left of the time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from itertools import islice

import attrs

from pydrm.agent.backoff import Backoff
from pydrm.agent.detail import shown
from pydrm.agent.outbox import ANSWER_TIMEOUT_S, Proposer
from pydrm.clock import Clock
from pydrm.core.answers import Done
from pydrm.core.budget_commands import HoldBack
from pydrm.core.decide_budgets import HOLDBACK_MS_MAX
from pydrm.errors import DrmError, Unavailable

__all__ = ["Holdbacks"]

logger = logging.getLogger(__name__)


@attrs.frozen
class _Holdback:
    until: float
    reason: str


class Holdbacks:
    """
    Args:
        incarnation: The one that this node works for now.
    """

    def __init__(
        self, node: str, incarnation: Callable[[], int], proposer: Proposer, *, clock: Clock, backoff: Backoff
    ) -> None:
        self._node = node
        self._incarnation = incarnation
        self._proposer = proposer
        self._clock = clock
        self._backoff = backoff
        self._own: dict[str, _Holdback] = {}
        self._to_say: dict[str, _Holdback] = {}
        self._any = asyncio.Event()

    def begin(self, group: str, seconds: float, reason: str) -> None:
        """Leave the group's third party alone for so long from now; a day at most."""
        seconds = min(seconds, HOLDBACK_MS_MAX / 1000)
        if not seconds > 0:
            return
        reason = shown(reason)
        until = self._clock.now() + seconds
        if group in self._own and self._own[group].until >= until:
            return
        logger.warning("%s is held back for %.3g s: %s", group, seconds, reason, extra={"node": self._node})
        self._own[group] = self._to_say[group] = _Holdback(until, reason)
        self._any.set()

    def runs(self, group: str) -> bool:
        """Whether one that began here is not over."""
        own = self._own.get(group)
        if own is not None and self._clock.now() >= own.until:
            del self._own[group]
            return False
        return own is not None

    async def run(self) -> None:
        """Until cancelled, or until the node cannot say anything any more."""
        while True:
            if not self._to_say:
                self._any.clear()
                await self._any.wait()
            group, holdback = next(islice(self._to_say.items(), 1))
            try:
                said = await self._say(group, holdback)
            except DrmError as error:
                logger.warning("the others do not hear that %s is held back: %s", group, error)
                return
            if said:
                self._backoff.reset()
                if self._to_say[group] is holdback:
                    del self._to_say[group]
            else:
                await self._clock.sleep(self._backoff.next_s())

    async def _say(self, group: str, holdback: _Holdback) -> bool:
        """Whether the others know, or need not know any more."""
        left_ms = round((holdback.until - self._clock.now()) * 1000)
        if left_ms <= 0:
            return True
        try:
            command = HoldBack(self._node, self._incarnation(), group, left_ms, holdback.reason)
            answer = await self._proposer.propose(command, timeout=ANSWER_TIMEOUT_S)
        except Unavailable as error:
            logger.warning("the others do not know so far that %s is held back: %s", group, error)
            return False
        return isinstance(answer, Done)
