"""
`Holdbacks`: third parties that have asked this node to be left alone, and telling the others so.

This node obeys at once. The others do when the command is applied; it is said again for as long as there is anything
left of the time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

import attrs

from pydrm.agent.backoff import Backoff
from pydrm.agent.cluster import Insistence, Proposer
from pydrm.agent.detail import shown
from pydrm.clock import Clock
from pydrm.core.answers import Refused
from pydrm.core.budget_commands import HoldBack
from pydrm.core.decide_budgets import HOLDBACK_MS_MAX
from pydrm.errors import DrmError

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
        self._insistence = Insistence(proposer, clock=clock, backoff=backoff)
        self._clock = clock
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
            group, holdback = next(iter(self._to_say.items()))
            try:
                answer = await self._insistence.say(partial(self._command, group, holdback))
            except DrmError:
                return
            if self._to_say[group] is holdback:
                del self._to_say[group]
            if isinstance(answer, Refused):
                # Most often the incarnation is over; the next one says it.
                self._to_say.setdefault(group, holdback)
                await self._insistence.rest()

    def _command(self, group: str, holdback: _Holdback) -> HoldBack | None:
        """None when the others need not know any more."""
        left_ms = round((holdback.until - self._clock.now()) * 1000)
        return HoldBack(self._node, self._incarnation(), group, left_ms, holdback.reason) if left_ms > 0 else None
