"""
`Elections`: when this node stands for one, what it tells others that would, and how it makes way for another leader.

The core counts votes. Before it may stand this asks whether it would win, see `prevote`; and as long as that is not
known, it puts off the core's deadline.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from pydrm.clock import Clock
from pydrm.engine.frames import PreVote, PreVoteAnswer
from pydrm.engine.group import Group
from pydrm.engine.journal import Journal
from pydrm.engine.prevote import PreVotes
from pydrm.engine.syncobj import Stagger

__all__ = ["Elections"]

_HANDOVER_S = 0.15


class Elections:
    def __init__(
        self,
        name: str,
        core: Any,
        group: Group,
        journal: Journal,
        stagger: Stagger,
        *,
        loyalty_s: float,
        clock: Clock,
    ) -> None:
        """
        Args:
            stagger: The dice that *core* throws.
            loyalty_s: For how long after it was heard a leader is not to be replaced.
        """
        self._name = name
        self._core = core
        self._group = group
        self._journal = journal
        self._stagger = stagger
        self._clock = clock
        self._pre_votes = PreVotes(len(group.voters), loyalty_s)
        self._handed_over_at = -math.inf
        if group.voters == [name]:
            core._SyncObj__raftElectionDeadline = clock.now()  # there is nobody to wait for

    @property
    def next_at(self) -> float:
        """When it would stand, if it is not told of a leader before."""
        return float(self._core._SyncObj__raftElectionDeadline)

    def voters_changed(self) -> None:
        """After the group's have."""
        self._stagger.voters = self._group.voters
        self._pre_votes.voters = len(self._group.voters)

    def heard_leader(self) -> None:
        self._pre_votes.heard_leader(self._clock.now())

    # --- standing ----------------------------------------------------------------------------------------------------

    def canvass(self) -> list[tuple[str, PreVote]]:
        """Before each tick of the core: what to ask whom, if it would stand without having been told to by a leader."""
        self._stagger.term = self._term
        if not self._would_stand():
            return []
        _, last_index, last_term = self._journal[-1]
        question = self._pre_votes.ask(self._term + 1, last_index, last_term)
        # The core gets another deadline, which a majority of answers cuts short.
        timeout = self._core._SyncObj__generateRaftTimeout()
        self._core._SyncObj__raftElectionDeadline = self._clock.now() + timeout
        return [(peer, question) for peer in self._group.voters if peer != self._name]

    def _would_stand(self) -> bool:
        """Whether the core would at its next tick."""
        others = self._name in self._group.voters and len(self._group.voters) > 1
        if self._leads or not others or self._core._SyncObj__transferInProgress:
            return False
        return bool(self._clock.now() > self._core._SyncObj__raftElectionDeadline)

    def won_over(self, peer: str, answer: PreVoteAnswer) -> bool:
        """Whether with this answer it would win, so that it should `stand`."""
        return self._pre_votes.answered(peer, answer) and answer.term == self._term + 1 and not self._leads

    def stand(self) -> None:
        self._core._SyncObj__raftElectionDeadline = 0
        self._core.doTick(0)

    def tick_without_standing(self) -> None:
        """Have the core do all that is due but that."""
        deadline = self._core._SyncObj__raftElectionDeadline
        self._core._SyncObj__raftElectionDeadline = math.inf
        self._core.doTick(0)
        self._core._SyncObj__raftElectionDeadline = deadline

    def answer(self, question: PreVote) -> PreVoteAnswer:
        """What this node says to a peer that would stand."""
        _, last_index, last_term = self._journal[-1]
        leads, now = self._leads, self._clock.now()
        return self._pre_votes.answer(question, now, leads=leads, last_index=last_index, last_term=last_term)

    # --- making way --------------------------------------------------------------------------------------------------

    @property
    def handing_over(self) -> bool:
        """
        Whether another has been told to lead, a moment ago.

        Until it does nothing must be added to the log here: with less than this node has, it would not be elected, and
        nobody would lead for an election timeout (Ongaro, 2014, section 3.10).
        """
        return self._leads and self._clock.now() < self._handed_over_at + _HANDOVER_S

    def hand_over(self, candidates: Iterable[str]) -> None:
        """Have one of *candidates* stand that has all of this leader's log, if there is one. Nothing is promised."""
        last = self._journal[-1][1]
        for name in sorted(candidates):
            if name in self._group.voters and name != self._name and self._group.lacks(name, last) == 0:
                self._handed_over_at = self._clock.now()
                self._core.transferLeadership(self._group.node(name))
                return

    @property
    def _term(self) -> int:
        return int(self._core.raftCurrentTerm)

    @property
    def _leads(self) -> bool:
        return bool(self._core._isLeader())
