"""
`Raft`: PySyncObj's consensus core with everything around it taken away.

It elects, replicates and commits; nothing else of PySyncObj is used. It ticks when it is told to, sends
into an outbox, receives through the guards, keeps its log in our journal and applies bytes through one
replicated entry point.

    Voters.     Who votes is said by whoever applies the log: a change counts when it is applied, as in etcd's Raft.
                That is safe because no two configurations that are in use at once are more than one voter apart: a
                leader appends no change before it has applied the one before and an entry of its own term, and
                nobody stands while it has something committed to apply. What was appended after a change
                proves that the change before that was committed, so a log that is read again is applied up to
                there first. Whoever is asked for its vote gives it, also one that knows of none: it may be the
                asking node that knows better (defect S8; Ongaro, "Consensus: Bridging Theory and Practice", 2014,
                sections 4.1 and 4.2.2).
    Lagging.    A peer that needs an entry from before the log is not connected, as far as the core knows, until
                it has a snapshot: see `lagging` and `caught_up`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pysyncobj.node import Node

from pydrm.clock import Clock, Random
from pydrm.engine import guards
from pydrm.engine.codec import changes_voters, voter_to_change
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
from pydrm.engine.journal import Journal
from pydrm.engine.prevote import PreVotes
from pydrm.engine.syncobj import Member, Stagger, Timing, make_core

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
_HANDOVER_S = 0.15
_LACKING_MAX = 100  # entries; who becomes a voter must be nearly up to date (Ongaro, 2014, section 4.2.1)

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
        self._voters = sorted(voters)
        self._journal = journal
        self._clock = clock
        self._nodes: dict[str, Node] = {}
        self._away: set[str] = set()
        self._change_queued_in: int | None = None
        self._handed_over_at = -math.inf
        self._proved: int | None = None
        self._pre_votes = PreVotes(len(self._voters), _LOYALTY_S)
        self._stagger = Stagger(name, self._voters, random)
        others = [self._node(voter) for voter in self._voters if voter != name]
        self._core, self._transport = make_core(
            name,
            others,
            journal,
            apply,
            self,
            _TIMING,
            clock=clock,
            dice=self._stagger,
        )
        if self.votes and not others:
            self._core._SyncObj__raftElectionDeadline = clock.now()  # there is nobody to wait for
        applied = max(applied, FIRST_INDEX)  # that does nothing
        self._core._SyncObj__raftLastApplied = applied
        self._committed: int = max(applied, self._proved_by_later_changes(), self._core.raftCommitIndex)

    # --- how it stands -----------------------------------------------------------------------------------------------

    @property
    def votes(self) -> bool:
        """Whether this node has a vote."""
        return self._name in self._voters

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
    def stands_at(self) -> float:
        """When it would stand for election, if it is not told of a leader before."""
        return float(self._core._SyncObj__raftElectionDeadline)

    # --- ticking and submitting --------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Do what is due; messages go into `outbox`, notes for the disk into the journal."""
        self._stagger.term = self.term
        if self._away and not self.is_leader:
            # It may lead again, and begins anew with all of them then.
            for peer in sorted(self._away):
                self.connected(peer)
        if self._would_stand():
            self._ask_before_standing()
        self._pace()
        if not self.votes or (len(self._voters) == 1 and self.applied < self.commit_index):
            self._tick_without_standing()
        else:
            self._core.doTick(0)

    def _tick_without_standing(self) -> None:
        """Alone, the core would stand and commit its log before it applies what says that others vote by now."""
        deadline = self._core._SyncObj__raftElectionDeadline
        self._core._SyncObj__raftElectionDeadline = math.inf
        self._core.doTick(0)
        self._core._SyncObj__raftElectionDeadline = deadline

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
            self._submit_change(entry)
        else:
            self._core._applyCommand(entry, None, 0)

    def _submit_change(self, entry: bytes) -> None:
        """One at a time: a change that comes too early is dropped, and proposed again by who wants it."""
        ready = self.applied >= self._core._SyncObj__noopIDx and self._change_queued_in != self.term
        if not ready or self._unapplied_changes():
            return
        name, goes = voter_to_change(entry)
        if goes and name == self._name and len(self._voters) > 1:
            self.transfer_leadership(self._voters)  # who leads must not be the one who goes
            return
        if not goes and self._lacks(name) > _LACKING_MAX:
            return  # with a vote it would count for majorities that it cannot help to make
        self._change_queued_in = self.term
        self._core._applyCommand(entry, None, 0)
        self._core._checkCommandsToApply()
        if self._unapplied_changes():
            self._change_queued_in = None  # it is in the log, and found there

    def _lacks(self, peer: str) -> int:
        """How many entries *peer* is not known to have."""
        return self._journal[-1][1] - int(self._core._SyncObj__raftMatchIndex.get(self._node(peer), 0))

    def _unapplied_changes(self) -> list[int]:
        """The indexes of the entries that are in the log, not applied here, and change who votes."""
        first = self.applied + 1 - self._journal.base[0]
        return [index for command, index, _ in self._journal[first:] if changes_voters(command[1:])]

    def _proved_by_later_changes(self) -> int:
        changes = self._unapplied_changes()
        return changes[-2] if len(changes) > 1 else 0

    # --- who votes ---------------------------------------------------------------------------------------------------

    def set_voters(self, voters: Sequence[str]) -> None:
        """Count these from now on. Whether this node itself votes cannot change: make another `Raft` for that."""
        before, after = set(self._voters), set(voters)
        assert (self._name in before) == (self._name in after)
        for gone in sorted(before - after):
            connected = self._core.isNodeConnected(self._node(gone))
            self._transport._onNodeDisconnected(self._node(gone))
            self._core._SyncObj__doChangeCluster(("rem", gone, self._node(gone)))
            if connected:
                # It follows on, and so learns that it has no vote any more.
                self._transport._onReadonlyNodeConnected(self._node(gone))
        for new in sorted(after - before):
            connected = self._core.isNodeConnected(self._node(new))
            self._transport._onReadonlyNodeDisconnected(self._node(new))
            self._core._SyncObj__doChangeCluster(("add", new, self._node(new)))
            if connected:
                self._transport._onNodeConnected(self._node(new))
        self._voters = sorted(after)
        self._stagger.voters = self._voters
        self._pre_votes.voters = len(after)

    def connected(self, peer: str) -> None:
        self._away.discard(peer)
        if peer in self._voters:
            self._transport._onNodeConnected(self._node(peer))
        else:
            self._transport._onReadonlyNodeConnected(self._node(peer))

    def disconnected(self, peer: str) -> None:
        self._away.discard(peer)
        self._cut_off(peer)

    def _cut_off(self, peer: str) -> None:
        node = self._node(peer)
        if peer in self._voters:
            self._transport._onNodeDisconnected(node)
        else:
            self._transport._onReadonlyNodeDisconnected(node)

    def _node(self, name: str) -> Node:
        if name not in self._nodes:
            self._nodes[name] = Member(name)
        return self._nodes[name]

    # --- peers that lag ----------------------------------------------------------------------------------------------

    def heard_from(self, peer: str) -> None:
        """A *lagging* voter answers in this term: it counts for this node's majority."""
        if self.is_leader and peer in self._voters:
            self._core._SyncObj__lastResponseTime[self._node(peer)] = self._clock.now()

    def heard_leader(self, peer: str, term: int) -> bool:
        """The leader of *term* says something that is not of the core's; whether it leads as far as this node knows."""
        if term < self.term:
            return False
        self._pre_votes.heard_leader(self._clock.now())
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
        self.connected(peer)
        self._next_indexes[self._node(peer)] = index + 1

    # --- elections ---------------------------------------------------------------------------------------------------

    @property
    def handing_over(self) -> bool:
        """
        Whether another has been told to lead, a moment ago.

        Until it does nothing must be added to the log here: with less than this node has, it would not be elected, and
        nobody would lead for an election timeout (Ongaro, 2014, section 3.10).
        """
        return self.is_leader and self._clock.now() < self._handed_over_at + _HANDOVER_S

    def transfer_leadership(self, candidates: Iterable[str]) -> None:
        """Have one of *candidates* stand that has all of this leader's log, if there is one. Nothing is promised."""
        for name in sorted(candidates):
            if name in self._voters and name != self._name and self._lacks(name) == 0:
                self._handed_over_at = self._clock.now()
                self._core.transferLeadership(self._node(name))
                return

    def _would_stand(self) -> bool:
        """Whether the core would stand at its next tick, without having been told to by the leader."""
        if self.is_leader or not self.votes or len(self._voters) == 1 or self._core._SyncObj__transferInProgress:
            return False
        return bool(self._clock.now() > self._core._SyncObj__raftElectionDeadline)

    def _ask_before_standing(self) -> None:
        """The core gets another deadline, which a majority of answers cuts short."""
        _, last_index, last_term = self._journal[-1]
        question = self._pre_votes.ask(self.term + 1, last_index, last_term)
        self.outbox += [(peer, question) for peer in self._voters if peer != self._name]
        timeout = self._core._SyncObj__generateRaftTimeout()
        self._core._SyncObj__raftElectionDeadline = self._clock.now() + timeout

    def _stand(self) -> None:
        if not self.votes or self.applied < self.commit_index:
            return  # who votes may be about to change
        self._core._SyncObj__raftElectionDeadline = 0
        self._core.doTick(0)

    # --- messages ----------------------------------------------------------------------------------------------------

    @property
    def _next_indexes(self) -> dict[Node, int]:
        """What the leader will send to each peer next. PySyncObj has no public way to it."""
        indexes: dict[Node, int] = self._core._SyncObj__raftNextIndex
        return indexes

    def receive(self, peer: str, frame: Frame) -> None:
        """
        Process a peer's message; what it answers is in `outbox`.

        Raises:
            LogDiverged: The message contradicts what is committed here.
            ValueError: It has entries of a kind that nobody here sends.
        """
        node = self._node(peer)
        match frame:
            case Append():
                self._receive_append(node, frame)
            case NextIndex():
                if guards.of_this_term(frame, self.term):
                    self._receive_next_index(node, frame)
            case Forward(command=command):
                _check(command)
                if self.is_leader:
                    self.submit(command[1:])
            case RequestVote():
                self._deliver(
                    node,
                    type="request_vote",
                    term=frame.term,
                    last_log_index=frame.last_index,
                    last_log_term=frame.last_term,
                )
            case Vote(term=term):
                self._deliver(node, type="response_vote", term=term)
            case PreVote():
                self._answer_pre_vote(peer, frame)
            case PreVoteAnswer():
                if self._pre_votes.answered(peer, frame) and frame.term == self.term + 1 and not self.is_leader:
                    self._stand()
            case TimeoutNow(term=term):
                if self.votes and self.applied >= self.commit_index:
                    self._deliver(node, type="timeout_now", term=term)
            case _:
                raise ValueError(f"{type(frame).__name__} is not a message of the consensus")

    def _answer_pre_vote(self, peer: str, frame: PreVote) -> None:
        _, last_index, last_term = self._journal[-1]
        leads, now = self.is_leader, self._clock.now()
        answer = self._pre_votes.answer(frame, now, leads=leads, last_index=last_index, last_term=last_term)
        self.outbox.append((peer, answer))

    def _receive_append(self, node: Node, frame: Append) -> None:
        for command, _, _ in frame.entries:
            _check(command)
        if frame.term >= self.term:
            self._pre_votes.heard_leader(self._clock.now())
            frame, self._proved = guards.only_news(self._journal, frame, self.commit_index)
        try:
            self._deliver(
                node,
                type="append_entries",
                term=frame.term,
                commit_index=frame.commit_index,
                entries=frame.entries,
                prevLogIdx=frame.previous_index,
                prevLogTerm=frame.previous_term,
            )
        finally:
            self._proved = None

    def _receive_next_index(self, node: Node, frame: NextIndex) -> None:
        if not self._core.isNodeConnected(node):
            return  # it is away, to be sent a snapshot
        sent_up_to = self._next_indexes.get(node, 0)
        self._deliver(
            node,
            type="next_node_idx",
            # Every log begins with the same first entry; nobody needs that.
            next_node_idx=max(frame.next_index, FIRST_INDEX + 1),
            reset=frame.reset,
            success=frame.success,
        )
        # At each acknowledgement the core goes back to what is acknowledged, and sends all that is under way again.
        # On a link that loses nothing that is waste; what a broken link lost is asked for with a reset.
        if self.is_leader and frame.success and not frame.reset:
            self._next_indexes[node] = max(sent_up_to, self._next_indexes[node])

    def _deliver(self, node: Node, **message: object) -> None:
        self._transport._onMessageReceived(node, message)

    def send(self, peer: str, message: dict[str, Any]) -> None:
        """The core sends something."""
        frame = self._frame(peer, message)
        if frame is not None:
            self.outbox.append((peer, frame))

    def _frame(self, peer: str, message: dict[str, Any]) -> Frame | None:
        match message["type"]:
            case "append_entries":
                if "prevLogIdx" not in message:
                    # It wants to send a snapshot, of which it has none; and would ask for that without end.
                    self._cut_off(peer)
                    self._away.add(peer)
                    self.lagging.append(peer)
                    return None
                return Append(
                    term=message["term"],
                    commit_index=message["commit_index"],
                    previous_index=message["prevLogIdx"],
                    previous_term=message["prevLogTerm"],
                    entries=tuple(message["entries"]),
                )
            case "next_node_idx":
                answer = NextIndex(self.term, message["next_node_idx"], message["reset"], message["success"])
                last = self._journal[-1][1]
                answer = guards.back_to_commit(answer, max(self.commit_index, self.applied), last)
                return guards.proved_only(answer, self._proved)
            case "apply_command":
                return Forward(message["command"])
            case "request_vote":
                return RequestVote(message["term"], message["last_log_index"], message["last_log_term"])
            case "response_vote":
                return Vote(message["term"])
            case "timeout_now":
                return TimeoutNow(message["term"])
            case unknown:
                raise AssertionError(f"PySyncObj sends {unknown}")


def _check(command: bytes) -> None:
    if not guards.acceptable(command):
        raise ValueError(f"an entry of kind {command[:1]!r}")
