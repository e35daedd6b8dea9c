"""
`VoterChanges`: what changes who votes, between being asked for and being applied (defect S8).

    Rule 1.  A change counts when it is applied, as in etcd's Raft: who votes is said by whoever applies the log.
    Rule 2.  A leader appends no change before it has applied the one before and an entry of its own term. And nobody
             stands while it has something committed to apply.
    Rule 3.  What was appended after a change proves that the change before that was committed, so a log that is read
             again is applied up to there first.
    Rule 4.  Whoever is asked for its vote gives it, also one that knows of none: it may be the asking node that knows
             better.

So no two configurations that are in use at once are more than one voter apart (Ongaro, "Consensus: Bridging Theory and
Practice", 2014, sections 4.1 and 4.2.2).
"""

from __future__ import annotations

from typing import Any

from pydrm.engine.codec import changes_voters, voter_to_change
from pydrm.engine.elections import Elections
from pydrm.engine.group import Group
from pydrm.engine.journal import Journal

__all__ = ["VoterChanges"]

_LACKING_MAX = 100  # entries; who becomes a voter must be nearly up to date (Ongaro, 2014, section 4.2.1)


class VoterChanges:
    def __init__(self, name: str, core: Any, group: Group, journal: Journal, elections: Elections) -> None:
        self._name = name
        self._core = core
        self._group = group
        self._journal = journal
        self._elections = elections
        self._queued_in: int | None = None

    def submit(self, entry: bytes) -> None:
        """On the leader. A change that comes too early is dropped, and asked for again by who wants it."""
        ready = self._core.raftLastApplied >= self._core._SyncObj__noopIDx and self._queued_in != self._term
        if not ready or self._under_way():
            return
        name, goes = voter_to_change(entry)
        if goes and name == self._name and len(self._group.voters) > 1:
            self._elections.hand_over(self._group.voters)  # who leads must not be the one who goes
            return
        if not goes and self._group.lacks(name, self._journal[-1][1]) > _LACKING_MAX:
            return  # with a vote it would count for majorities that it cannot help to make
        self._queued_in = self._term
        self._core._applyCommand(entry, None, 0)
        self._core._checkCommandsToApply()
        if self._under_way():
            self._queued_in = None  # it is in the log, and found there

    def proved(self) -> int:
        """Rule 3: up to where the log is known to be committed by that; 0 if it is not."""
        changes = self._under_way()
        return changes[-2] if len(changes) > 1 else 0

    def _under_way(self) -> list[int]:
        """The indexes of those that are in the log and not applied here, in order."""
        first = int(self._core.raftLastApplied) + 1 - self._journal.base[0]
        return [index for command, index, _ in self._journal[first:] if changes_voters(command[1:])]

    @property
    def _term(self) -> int:
        return int(self._core.raftCurrentTerm)
