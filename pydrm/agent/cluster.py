"""
`Cluster`: what the agent needs of the engine. And `Insistence`: what has to be said is said until it is known to be.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from pydrm.agent.backoff import Backoff
from pydrm.clock import Clock
from pydrm.core.answers import Answer, Done, Reason, Refused
from pydrm.core.commands import Command
from pydrm.core.state import State
from pydrm.errors import ClusterRefused, DrmError, Outdated, Superseded, Unavailable

__all__ = ["ANSWER_TIMEOUT_S", "Cluster", "Insistence", "Proposer", "ask"]

logger = logging.getLogger(__name__)

ANSWER_TIMEOUT_S = 5.0


class Proposer(Protocol):
    async def propose(self, command: Command, *, timeout: float) -> Answer:
        """
        The answer once *command* is applied on this node.

        Raises:
            Unavailable: It was not within *timeout* seconds.
            ClusterRefused: It cannot be proposed: it is too long, say. But Superseded and Outdated are of those below.
            DrmError: Why this node stops; nothing can be proposed here any more.
        """


class Cluster(Proposer, Protocol):
    @property
    def state(self) -> State: ...


async def ask(proposer: Proposer, command: Command) -> Answer:
    """
    What the cluster answers to *command*; what cannot be proposed is refused like anything else.

    Raises:
        Unavailable: There was no answer in time; whether it took effect is unknown.
        DrmError: Why this node stops; nothing can be proposed here any more.
    """
    try:
        return await proposer.propose(command, timeout=ANSWER_TIMEOUT_S)
    except (Superseded, Outdated):
        raise
    except ClusterRefused as error:
        logger.error("%s cannot be proposed; please report it: %s", type(command).__name__, error)
        return Refused(Reason.INVALID, str(error))


class Insistence:
    """Says one thing after the other; each for as long as it is unknown whether it took effect."""

    def __init__(self, proposer: Proposer, *, clock: Clock, backoff: Backoff) -> None:
        self._proposer = proposer
        self._clock = clock
        self._backoff = backoff

    async def say(self, make: Callable[[], Command | None]) -> Answer | None:
        """
        What was answered to the command that *make* makes, anew for each try; None if it makes none any more.

        Raises:
            DrmError: This node stops, and that was logged; whether it took effect is unknown. Not Unavailable.
        """
        while (command := make()) is not None:
            name = type(command).__name__
            try:
                answer = await ask(self._proposer, command)
            except Unavailable as error:
                # It may be because the node stops; then whoever insists is cancelled soon.
                logger.warning("%s is not answered, and is repeated for as long as this node runs: %s", name, error)
                await self.rest()
                continue
            except DrmError as error:
                logger.warning("%s is not answered, and is not repeated, because this node stops: %s", name, error)
                raise
            if isinstance(answer, Done):
                self._backoff.reset()
            return answer
        return None

    async def rest(self) -> None:
        """Wait before the next try: longer each time, until something takes effect."""
        await self._clock.sleep(self._backoff.next_s())
