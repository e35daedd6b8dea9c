"""
`Raft`: PySyncObj's consensus core with everything around it taken away.

It elects, replicates and commits; nothing else of PySyncObj is used. It ticks when it is told to, sends
into an outbox, receives through the guards, keeps its log in our journal and applies bytes through one
replicated entry point.

    Voters.     A change counts when it is applied: see `voter_changes`.
    Lagging.    A peer that needs an entry from before the log is away, as far as the core knows, until it has a
                snapshot: see `lagging` and `caught_up`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import msgspec
from pysyncobj.node import Node

from pydrm.clock import Clock, Random
from pydrm.engine import guards
from pydrm.engine.codec import changes_voters
from pydrm.engine.elections import Elections
from pydrm.engine.entries import FIRST_INDEX
from pydrm.engine.frames import (
    Append,
    Forward,
    Frame,
    NextIndex,
    PreVote,
    PreVoteAnswer,
    RequestVote,
    TimeoutNow,
    Vote,
)
from pydrm.engine.group import Group
from pydrm.engine.journal import Journal
from pydrm.engine.messages import Message, from_core, to_core, wants_snapshot
from pydrm.engine.syncobj import Member, Stagger, Timing, make_core
from pydrm.engine.voter_changes import VoterChanges

__all__ = ["ELECTION_TIMEOUT_MAX_S", "ENTRY_BYTES_MAX", "HEARTBEAT_S", "QUORUM_TIMEOUT_S", "Raft"]

# A heartbeat lost or late by one scheduling hiccup must not depose a leader: several fit into the shortest timeout.
HEARTBEAT_S = 0.08
_ELECTION_TIMEOUT_MIN_S = 0.3
ELECTION_TIMEOUT_MAX_S = 0.6
_LOYALTY_S = 0.8 * _ELECTION_TIMEOUT_MIN_S  # less, because not everybody heard the last heartbeat at the same time
QUORUM_TIMEOUT_S = 1.0
_MESSAGE_BYTES_MAX = 1024 * 1024
ENTRY_BYTES_MAX = 512 * 1024
_APPLY_BYTES_PER_TICK = 64 * 1024

_TIMING = Timing(HEARTBEAT_S, _ELECTION_TIMEOUT_MIN_S, ELECTION_TIMEOUT_MAX_S, QUORUM_TIMEOUT_S, _MESSAGE_BYTES_MAX)


class Raft:
    """
    One member of the group. Not thread-safe; belongs to the engine's loop.

    Attributes:
        outbox: What is to be sent, once the journal is on disk.
        lagging: Peers that need what is not in the log any more; filled while this node leads.
    """

    def __init__(
        self,
        name: str,
        voters: Iterable[str],
        journal: Journal,
        apply: Callable[[bytes, int], None],
        *,
        applied: int,
        clock: Clock,
        random: Random,
    ) -> None:
        """
        A *name* that is not among *voters* only follows.

        Args:
            apply: Gets each committed entry after *applied* and its index, in order, and must not raise.
        """
        self.outbox: list[tuple[str, Frame]] = []
        self.lagging: list[str] = []
        self._name = name
        self._journal = journal
        self._clock = clock
        self._proved: int | None = None
        self._order: tuple[str, TimeoutNow] | None = None  # who told this node to stand, while it cannot yet
        voters = sorted(voters)
        stagger = Stagger(name, voters, random)
        others = [Member(voter) for voter in voters if voter != name]
        self._core, self._transport = make_core(name, others, journal, apply, self, _TIMING, clock=clock, dice=stagger)
        self._group = Group(self._core, self._transport, voters)
        self._elections = Elections(name, self._core, self._group, journal, stagger, loyalty_s=_LOYALTY_S, clock=clock)
        self._changes = VoterChanges(name, self._core, self._group, journal, self._elections)
        applied = max(applied, FIRST_INDEX)  # that does nothing
        self._core._SyncObj__raftLastApplied = applied
        self._committed: int = max(applied, self._proved_by_later_changes(), self._core.raftCommitIndex)

    # --- how it stands -----------------------------------------------------------------------------------------------

    @property
    def votes(self) -> bool:
        """Whether this node has a vote."""
        return self._name in self._group.voters

    @property
    def is_leader(self) -> bool:
        """Whether it believes so; another may have been elected meanwhile."""
        return bool(self._core._isLeader())

    @property
    def leader(self) -> str | None:
        """The last leader heard of in this term."""
        leader = self._core._getLeader()
        return str(leader.id) if leader is not None else None

    @property
    def term(self) -> int:
        return int(self._core.raftCurrentTerm)

    @property
    def commit_index(self) -> int:
        return max(self._committed, int(self._core.raftCommitIndex))

    @property
    def applied(self) -> int:
        return int(self._core.raftLastApplied)

    @property
    def backlog(self) -> int:
        """How many entries are in the log, and not applied yet."""
        return self._journal[-1][1] - self.applied

    @property
    def next_at(self) -> float:
        """When it has something to do though nothing happens: to be heard as the leader, or to stand for election."""
        if self.is_leader:
            return float(self._core._SyncObj__newAppendEntriesTime) if self._group.has_company else math.inf
        return self._elections.next_at if self.votes else math.inf

    # --- ticking and submitting --------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Do what is due; messages go into `outbox`, notes for the disk into the journal."""
        if not self.is_leader:
            self._group.all_back()  # it may lead again, and begins anew with all of them then
        self.outbox += self._elections.canvass()
        self._pace()
        # Alone, the core would stand and commit its log before it applies what says that others vote by now.
        if not self.votes or (len(self._group.voters) == 1 and self.applied < self.commit_index):
            self._elections.tick_without_standing()
        else:
            self._core.doTick(0)
        self._obey()

    def _pace(self) -> None:
        """Have the core know of no more commits than it can apply in this tick without holding everything up."""
        self._committed = self.commit_index
        most = self._journal.bytes_after(self.applied) - _APPLY_BYTES_PER_TICK
        upto = self.applied
        while upto < self._committed and self._journal.bytes_after(upto) > most:
            upto += 1
        self._core._SyncObj__raftCommitIndex = upto

    def submit(self, entry: bytes) -> None:
        """Have *entry* appended by the leader. Nothing is promised: it may be lost on the way."""
        assert len(entry) <= ENTRY_BYTES_MAX
        if self.is_leader and changes_voters(entry):
            self._changes.submit(entry)
        else:
            self._core._applyCommand(entry, None, 0)

    def _proved_by_later_changes(self) -> int:
        return self._changes.proved()

    # --- who votes ---------------------------------------------------------------------------------------------------

    def set_voters(self, voters: Sequence[str]) -> None:
        """Count these from now on. Whether this node itself votes cannot change: make another `Raft` for that."""
        assert (self._name in voters) == self.votes
        self._group.set_voters(voters)
        self._elections.voters_changed()

    def connected(self, peer: str) -> None:
        self._group.connected(peer)

    def disconnected(self, peer: str) -> None:
        self._group.disconnected(peer)

    def _node(self, name: str) -> Node:
        return self._group.node(name)

    # --- peers that lag ----------------------------------------------------------------------------------------------

    def heard_from(self, peer: str) -> None:
        """A *lagging* voter answers in this term: it counts for this node's majority."""
        if self.is_leader and peer in self._group.voters:
            self._group.answered(peer, self._clock.now())

    def heard_leader(self, peer: str, term: int) -> bool:
        """The leader of *term* says something that is not of the core's; whether it leads as far as this node knows."""
        if term < self.term:
            return False
        self._elections.heard_leader()
        # S2: it says nothing about what is committed.
        self._deliver(self._node(peer), type="append_entries", term=term, commit_index=0)
        return True

    def holds(self, index: int, term: int) -> bool:
        """S6: whether the log has that entry, or it was applied here."""
        if index <= self.applied:
            return True
        first, last = self._journal.base[0], self._journal[-1][1]
        return first <= index <= last and self._journal[index - first][2] == term

    def caught_up(self, peer: str, index: int) -> None:
        """*peer* has everything up to *index*; what follows is in the log, or it will be found to lag again."""
        if not self.is_leader:
            return
        self._group.connected(peer)
        self._group.send_from(peer, index + 1)

    # --- elections ---------------------------------------------------------------------------------------------------

    @property
    def handing_over(self) -> bool:
        """Whether another has been told to lead, a moment ago: until it does nothing must be added to the log here."""
        return self._elections.handing_over

    def transfer_leadership(self, candidates: Iterable[str]) -> None:
        """Have one of *candidates* stand that has all of this leader's log, if there is one. Nothing is promised."""
        self._elections.hand_over(candidates)

    def _obey(self) -> None:
        """Stand as a leader has told this node to, once it may; of a leader of before the core takes no orders."""
        if self._order is not None and self._may_stand:
            (peer, frame), self._order = self._order, None
            self._deliver(self._node(peer), **to_core(frame))

    @property
    def _may_stand(self) -> bool:
        """As long as something committed is to be applied, who votes may be about to change."""
        return self.votes and self.applied >= self.commit_index

    # --- messages ----------------------------------------------------------------------------------------------------

    def receive(self, peer: str, frame: Frame) -> None:
        """
        Process a peer's message; what it answers is in `outbox`.

        Raises:
            LogDiverged: The message contradicts what is committed here.
            ValueError: It has entries of a kind that nobody here sends.
        """
        match frame:
            case Append():
                self._receive_append(peer, frame)
            case NextIndex():
                if guards.of_this_term(frame, self.term):
                    self._receive_next_index(peer, frame)
            case Forward(command=command):
                _check(command)
                if self.is_leader:
                    self.submit(command[1:])
            case RequestVote() | Vote():
                self._deliver(self._node(peer), **to_core(frame))
            case TimeoutNow():
                self._order = (peer, frame)
                self._obey()
            case PreVote():
                self.outbox.append((peer, self._elections.answer(frame)))
            case PreVoteAnswer():
                if self._elections.won_over(peer, frame) and self._may_stand:
                    self._elections.stand()
            case _:
                raise ValueError(f"{type(frame).__name__} is not a message of the consensus")

    def _receive_append(self, peer: str, frame: Append) -> None:
        for command, _, _ in frame.entries:
            _check(command)
        if frame.term < self.term and self.votes:
            # The core would say nothing, and who led before this node stood and never heard of it would lead on; this
            # node could not follow it, and would be refused each pre-vote. The question cannot be won; who is asked
            # steps down by it (as in etcd's Raft, where an Append of an old term is answered under pre-vote).
            self.outbox.append((peer, RequestVote(self.term, 0, 0)))
            return
        if frame.term >= self.term:
            self._elections.heard_leader()
            frame, self._proved = guards.only_news(self._journal, frame, self.commit_index)
            if frame.entries:
                self._order = None  # its time is up, and the leader goes on
        try:
            self._deliver(self._node(peer), **to_core(frame))
        finally:
            self._proved = None

    def _receive_next_index(self, peer: str, frame: NextIndex) -> None:
        if not self._group.is_connected(peer):
            return  # it is away, to be sent a snapshot
        sent_up_to = self._group.next_index(peer)
        # Every log begins with the same first entry; nobody needs that.
        frame = msgspec.structs.replace(frame, next_index=max(frame.next_index, FIRST_INDEX + 1))
        self._deliver(self._node(peer), **to_core(frame))
        # At each acknowledgement the core goes back to what is acknowledged, and sends all that is under way again.
        # On a link that loses nothing that is waste; what a broken link lost is asked for with a reset.
        if self.is_leader and frame.success and not frame.reset:
            self._group.send_from(peer, max(sent_up_to, self._group.next_index(peer)))

    def _deliver(self, node: Node, **message: object) -> None:
        self._transport._onMessageReceived(node, message)

    def send(self, peer: str, message: Message) -> None:
        """The core sends something."""
        if wants_snapshot(message):
            self._group.put_away(peer)
            self.lagging.append(peer)
            return
        frame = from_core(message, self.term)
        if isinstance(frame, NextIndex):
            committed = max(self.commit_index, self.applied)
            frame = guards.back_to_commit(frame, committed, self._journal[-1][1])
            frame = guards.proved_only(frame, self._proved)
        self.outbox.append((peer, frame))


def _check(command: bytes) -> None:
    if not guards.acceptable(command):
        raise ValueError(f"an entry of kind {command[:1]!r}")
