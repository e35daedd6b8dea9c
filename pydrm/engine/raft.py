"""
`Raft`: PySyncObj's consensus core with everything around it taken away.

It elects, replicates and commits; nothing else of PySyncObj is used. It ticks when it is told to, sends
into an outbox, receives through the guards, keeps its log in our journal and applies bytes through one
replicated entry point.

PySyncObj has no parameters for its clock, its dice, its journal and its pickle, but it looks them up as
globals of one module. Each `Raft` loads a private copy of that module and sets its globals; so an app that
uses PySyncObj itself is not touched, and two nodes in one process can live on two clocks.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any
from zlib import crc32

import attrs
from pysyncobj.config import SyncObjConf
from pysyncobj.node import Node
from pysyncobj.transport import Transport
from pysyncobj.version import VERSION

from pydrm.clock import Clock, Random
from pydrm.engine import guards
from pydrm.engine.codec import Append, Forward, Frame, NextIndex, PreVote, PreVoteAnswer, RequestVote, Vote
from pydrm.engine.journal import FIRST_INDEX, Journal
from pydrm.engine.prevote import PreVotes

__all__ = ["ELECTION_TIMEOUT_MAX_S", "ENTRY_BYTES_MAX", "HEARTBEAT_S", "QUORUM_TIMEOUT_S", "Raft"]

# A heartbeat lost or late by one scheduling hiccup must not depose a leader: several fit into the shortest timeout.
HEARTBEAT_S = 0.08
_ELECTION_TIMEOUT_MIN_S = 0.3
ELECTION_TIMEOUT_MAX_S = 0.6
_LOYALTY_S = 0.8 * _ELECTION_TIMEOUT_MIN_S  # less, because not everybody heard the last heartbeat at the same time
QUORUM_TIMEOUT_S = 1.0  # a leader that heard from no majority for so long steps down

# PySyncObj pickles an entry that does not fit into one message; so none may come near that.
_MESSAGE_BYTES_MAX = 1024 * 1024
ENTRY_BYTES_MAX = 512 * 1024

_NEVER = 2**62
_KNOWN_VERSIONS = ("0.3.17",)
_NEEDED_ATTRIBUTES = ("_SyncObj__raftNextIndex", "_SyncObj__raftElectionDeadline", "_SyncObj__generateRaftTimeout")
_NEEDED = ("createJournal", "pickle", "monotonicTime", "random", "PIPE_NOTIFIER_ENABLED")


class Raft:
    """One member of the group. Not thread-safe; belongs to the engine's loop."""

    def __init__(
        self,
        name: str,
        others: Sequence[str],
        journal: Journal,
        apply: Callable[[bytes, int], None],
        *,
        clock: Clock,
        random: Random,
    ) -> None:
        """*apply* gets each committed entry and its index, in order, and must not raise."""
        self.outbox: list[tuple[str, Frame]] = []
        self._journal = journal
        self._nodes = {other: _Member(other) for other in others}
        self._transport = _OutboxTransport(self)
        self._proved: int | None = None
        self._clock = clock
        self._pre_votes = PreVotes(1 + len(others), _LOYALTY_S)
        self._stagger = _Stagger(sorted([name, *others]).index(name), 1 + len(others), random)
        module = _private_module(journal, clock, self._stagger)
        self._core = _core_class(module)(
            apply, _Member(name), list(self._nodes.values()), _conf(journal, alone=not others), self._transport
        )

    @property
    def _next_indexes(self) -> dict[Node, int]:
        """What the leader will send to each peer next. PySyncObj has no public way to it; see `_private_module`."""
        indexes: dict[Node, int] = self._core._SyncObj__raftNextIndex
        return indexes

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
        return int(self._core.raftCommitIndex)

    @property
    def applied(self) -> int:
        return int(self._core.raftLastApplied)

    @property
    def backlog(self) -> int:
        """How many entries are in the log, and not applied yet."""
        return self._journal[-1][1] - self.applied

    def tick(self) -> None:
        """Do what is due; messages go into `outbox`, notes for the disk into the journal."""
        self._stagger.term = self.term
        if self._nodes and not self.is_leader and self._clock.now() > self._core._SyncObj__raftElectionDeadline:
            self._ask_before_standing()
        self._core.doTick(0)

    def _ask_before_standing(self) -> None:
        """The core would stand at its next tick; it gets another deadline, which a majority of answers cuts short."""
        _, last_index, last_term = self._journal[-1]
        question = self._pre_votes.ask(self.term + 1, last_index, last_term)
        self.outbox += [(peer, question) for peer in self._nodes]
        timeout = self._core._SyncObj__generateRaftTimeout()
        self._core._SyncObj__raftElectionDeadline = self._clock.now() + timeout

    def submit(self, entry: bytes) -> None:
        """Have *entry* appended by the leader. Nothing is promised: it may be lost on the way."""
        assert len(entry) <= ENTRY_BYTES_MAX
        self._core._applyCommand(entry, None, 0)

    def connected(self, peer: str) -> None:
        self._transport._onNodeConnected(self._nodes[peer])

    def disconnected(self, peer: str) -> None:
        self._transport._onNodeDisconnected(self._nodes[peer])

    def receive(self, peer: str, frame: Frame) -> None:
        """
        Process a peer's message; what it answers is in `outbox`.

        Raises:
            LogDiverged: The message contradicts what is committed here.
            ValueError: It has entries of a kind that nobody here sends.
        """
        node = self._nodes[peer]
        match frame:
            case Append():
                self._receive_append(node, frame)
            case NextIndex():
                if guards.of_this_term(frame, self.term):
                    self._receive_next_index(node, frame)
            case Forward(command=command):
                _check(command)
                self._deliver(node, type="apply_command", command=command)
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
                _, last_index, last_term = self._journal[-1]
                leads, now = self.is_leader, self._clock.now()
                answer = self._pre_votes.answer(frame, now, leads=leads, last_index=last_index, last_term=last_term)
                self.outbox.append((peer, answer))
            case PreVoteAnswer():
                if self._pre_votes.answered(peer, frame) and frame.term == self.term + 1 and not self.is_leader:
                    self._stand()
            case _:
                raise ValueError(f"{type(frame).__name__} is not a message of the consensus")

    def _stand(self) -> None:
        self._core._SyncObj__raftElectionDeadline = 0
        self._core.doTick(0)

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
        sent_up_to = self._next_indexes.get(node, 0)
        self._deliver(
            node,
            type="next_node_idx",
            # Every log begins with the same first entry; who asks for that too would be sent a snapshot, for ever.
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

    def _send(self, peer: str, message: dict[str, Any]) -> None:
        frame = self._frame(message)
        if frame is not None:
            self.outbox.append((peer, frame))

    def _frame(self, message: dict[str, Any]) -> Frame | None:
        match message["type"]:
            case "append_entries":
                if "prevLogIdx" not in message:
                    return None  # it wants to send a snapshot (S2, S3, S6)
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
            case unknown:
                raise AssertionError(f"PySyncObj sends {unknown}")


# PySyncObj has no types; so whatever is made from its classes cannot be checked, here and below.
class _Member(Node):  # type: ignore[misc]
    """PySyncObj walks over sets of these: in the same order in every process, whatever its PYTHONHASHSEED."""

    def __hash__(self) -> int:
        return crc32(str(self.id).encode())


@attrs.define
class _Stagger:
    """
    PySyncObj's dice, which it throws for election timeouts and for nothing else.

    In each term every voter has a stratum of its own, so that two of them stand at the same time only if a message
    takes longer than half a stratum. With dice alone, two elections in a row that were lost to split votes could
    cost healthy nodes their leases. The strata rotate with the term, so that a voter whose log is too short to
    win does not come first for ever.
    """

    rank: int
    voters: int
    dice: Random
    term: int = 0

    def random(self) -> float:
        stratum = (self.rank + self.term) % self.voters
        return (stratum + self.dice.random() / 2) / self.voters


class _OutboxTransport(Transport):  # type: ignore[misc]
    """What PySyncObj takes for a network."""

    ready = True

    def __init__(self, raft: Raft) -> None:
        super().__init__(None, None, [])
        self._raft = raft

    def send(self, node: Node, message: dict[str, Any]) -> bool:
        self._raft._send(str(node.id), message)
        return True

    def tryGetReady(self) -> None:
        pass

    def waitReady(self) -> None:
        pass

    def destroy(self) -> None:
        pass


def _check(command: bytes) -> None:
    if not guards.acceptable(command):
        raise ValueError(f"an entry of kind {command[:1]!r}")


def _conf(journal: Journal, *, alone: bool) -> SyncObjConf:
    # Alone there is nobody to wait for.
    haste = 0.05 if alone else 1.0
    return SyncObjConf(
        autoTick=False,
        raftMinTimeout=_ELECTION_TIMEOUT_MIN_S * haste,
        raftMaxTimeout=ELECTION_TIMEOUT_MAX_S * haste,
        appendEntriesPeriod=HEARTBEAT_S * haste,
        connectionTimeout=QUORUM_TIMEOUT_S,
        leaderFallbackTimeout=QUORUM_TIMEOUT_S,
        # Sent at once, one message for each entry; batching is done before, where it is known what belongs together.
        appendEntriesUseBatch=False,
        appendEntriesBatchSizeBytes=_MESSAGE_BYTES_MAX,
        # Without a leader a command is dropped here and proposed again by us, rather than applied minutes later.
        commandsWaitLeader=False,
        commandsQueueSize=0,
        logCompactionMinEntries=_NEVER,
        logCompactionMinTime=_NEVER,
        journalFile=journal,
        fullDumpFile=None,
        useFork=False,
        dynamicMembershipChange=False,
    )


def _private_module(journal: Journal, clock: Clock, random: Random) -> ModuleType:
    spec = importlib.util.find_spec("pysyncobj.syncobj")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    missing = [name for name in _NEEDED if not hasattr(module, name)]
    begun = module.SyncObj.__init__.__code__.co_names
    missing += [name for name in _NEEDED_ATTRIBUTES if name not in begun and not hasattr(module.SyncObj, name)]
    if missing:
        known = " or ".join(_KNOWN_VERSIONS)
        raise ImportError(f"PySyncObj {VERSION} has no {missing[0]} any more; install {known}")
    module.createJournal = lambda configured: journal  # type: ignore[attr-defined]
    module.pickle = SimpleNamespace(loads=lambda data: (0, (data,)))  # type: ignore[attr-defined]
    module.monotonicTime = clock.now  # type: ignore[attr-defined]
    module.random = random  # type: ignore[attr-defined]
    module.PIPE_NOTIFIER_ENABLED = False  # type: ignore[attr-defined]
    return module


def _core_class(module: Any) -> Any:
    class Core(module.SyncObj):  # type: ignore[misc]
        def __init__(
            self, apply: Callable[[bytes, int], None], node: Node, others: list[Node], conf: SyncObjConf, transport: Any
        ) -> None:
            self._apply = apply
            super().__init__(node, others, conf, nodeClass=Node, transport=transport)

        @module.replicated  # type: ignore[untyped-decorator]
        def entry(self, data: bytes) -> None:
            self._apply(data, self.raftLastApplied + 1)

    return Core
