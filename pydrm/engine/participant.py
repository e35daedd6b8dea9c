"""
`Participant`: who takes part in the consensus besides the requests of the app, on the engine's own thread.

A lease must be renewed and watched while the app's loop is busy; so what does that runs here.
"""

from __future__ import annotations

from typing import Protocol

import attrs
import msgspec

from pydrm.core.commands import Command, Request
from pydrm.core.machine import Outcome
from pydrm.core.records import Incarnation
from pydrm.core.settings import Voter
from pydrm.core.state import State

__all__ = ["Footing", "Membership", "Participant", "Port"]


@attrs.frozen
class Membership:
    """What the formed cluster consists of, as this node's data directory knows it."""

    cluster_id: str
    voters: tuple[Voter, ...]
    directory: str  # DataDirectory.on_this_host


class Footing(msgspec.Struct, frozen=True):
    """
    How this node stands in the group. Seconds are on the engine's clock.

    Attributes:
        leads_since: When it became the leader; None if it does not believe that it is.
        leader: Who leads, as far as it knows.
        up_to_date_at: The newest time at which it heard the leader and has since applied what was committed then.
    """

    leads_since: float | None
    leader: str | None
    term: int
    applied: int
    up_to_date_at: float


class Port(Protocol):
    """What a participant may ask of the engine, on its thread."""

    state: State

    def submit(self, command: Command) -> None:
        """Put *command* into the log at the next tick. Nothing is promised, nothing is repeated."""

    def speak_as(self, client: Incarnation) -> None:
        """Make the app's requests in the name of this incarnation from now on."""

    def wake(self) -> None:
        """Tick soon."""


class Participant(Protocol):
    def formed(self, port: Port, membership: Membership) -> None:
        """The cluster is formed; called once, before anything is applied."""

    def applied(self, request: Request, outcome: Outcome, now: float) -> None:
        """One request was applied, at *now*."""

    def restored(self, now: float) -> None:
        """The state is another one, which was read from a snapshot, *now*; what led to it was not seen here."""

    def tick(self, now: float, footing: Footing) -> None:
        """Do what is due. Called at least each `IDLE_S`, when `next_at` says so, and after all that was applied."""

    def next_at(self, now: float) -> float:
        """When something is due by then that is to be on time; *now* or before: there may be something soon."""

    async def stopped(self) -> None:
        """The engine stops and cannot renew anything any more; called once, and waited for."""
