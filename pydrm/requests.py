"""
`Requests`: what an app asks of the cluster, in parts that commands have room for, within one timeout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from pydrm.agent.refusal import error_of
from pydrm.clock import Clock
from pydrm.core.answers import Done, Refused
from pydrm.core.commands import AddResources, Command
from pydrm.core.records import Definition
from pydrm.intake import PART_DEFINITIONS_MAX, parts
from pydrm.node import Node

__all__ = ["Requests"]


class Requests:
    """
    Timeouts are in seconds, and for the whole of what is asked.

    Each method raises what the cluster's refusal stands for, and Unavailable if no majority answered in time: then some
    of the parts may have taken effect, or still do.
    """

    def __init__(self, running: Callable[[], Node], clock: Clock) -> None:
        self._running = running
        self._clock = clock

    async def ask(self, command: Command, timeout: float) -> Done:
        answer = await self._running().engine.propose(command, timeout=max(timeout, 0.0))
        if isinstance(answer, Refused):
            raise error_of(answer)
        return answer

    async def add(self, definitions: Iterable[Definition], timeout: float, *, if_absent: bool = False) -> None:
        """Each part is added whole or not at all."""
        deadline = self._clock.now() + timeout
        for part in parts(definitions):
            await self.ask(AddResources(part, if_absent), deadline - self._clock.now())

    async def about(
        self, ids: Sequence[str], command: Callable[[tuple[str, ...]], Command], timeout: float
    ) -> list[str]:
        """Have *command* done about all of *ids*; which of them there were."""
        missing: set[str] = set()
        deadline = self._clock.now() + timeout
        for start in range(0, len(ids), PART_DEFINITIONS_MAX):
            part = tuple(ids[start : start + PART_DEFINITIONS_MAX])
            done = await self.ask(command(part), deadline - self._clock.now())
            missing.update(done.missing)
        return [id for id in dict.fromkeys(ids) if id not in missing]
