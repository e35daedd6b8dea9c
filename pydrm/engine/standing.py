"""
`Standing`: how this node stands in the group, as far as it can tell. Sans I/O.

What it says decides whether the node may renew its lease; so everything in it is as old as the newest proof of it.
"""

from __future__ import annotations

from pydrm.engine.participant import Footing
from pydrm.engine.raft import QUORUM_TIMEOUT_S, Raft

__all__ = ["Standing"]


class Standing:
    """
    Attributes:
        leader: Who leads, as far as it was seen at the last `look`.
    """

    def __init__(self) -> None:
        self.leader: str | None = None
        self._leads_since: float | None = None
        self._heard_at = self._up_to_date_at = float("-inf")
        self._heard_commit: tuple[float, int] | None = None

    def heard(self, now: float, commit_index: int) -> None:
        """The leader of this term said something, and what is committed."""
        self._heard_at = now
        if self._heard_commit is None:
            self._heard_commit = (now, commit_index)

    def look(self, raft: Raft, now: float) -> bool:
        """After each tick; returns whether there is another leader."""
        if raft.is_leader:
            self._leads_since = now if self._leads_since is None else self._leads_since
            self._heard_at = now
            if raft.applied >= raft.commit_index:
                self._up_to_date_at = now
        else:
            self._leads_since = None
            if self._heard_commit is not None and raft.applied >= self._heard_commit[1]:
                self._up_to_date_at = self._heard_commit[0]
                self._heard_commit = None
        before, self.leader = self.leader, raft.leader
        return self.leader is not None and self.leader != before

    def footing(self, raft: Raft) -> Footing:
        return Footing(self._leads_since, raft.leader, raft.term, raft.applied, self._up_to_date_at)

    def has_majority(self, raft: Raft, now: float) -> bool:
        """Whether a majority answered lately."""
        return raft.leader is not None and now - self._heard_at < QUORUM_TIMEOUT_S
