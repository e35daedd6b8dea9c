"""
PySyncObj's consensus core, made so that nothing of it reaches the world: no thread, socket, file, clock or die.

PySyncObj has no parameters for its clock, its dice, its journal, its pickle and its snapshots, but it looks them up as
globals of one module. `make_core` loads a private copy of that module and sets its globals; so an app that uses
PySyncObj itself is not touched, and two nodes in one process can live on two clocks.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable
from types import ModuleType, SimpleNamespace
from typing import Any, Protocol
from zlib import crc32

import attrs
from pysyncobj.config import SyncObjConf
from pysyncobj.node import Node
from pysyncobj.serializer import SERIALIZER_STATE
from pysyncobj.transport import Transport
from pysyncobj.version import VERSION

from pydrm.clock import Clock, Random
from pydrm.engine.journal import Journal

__all__ = ["Member", "Stagger", "Timing", "Wire", "make_core"]

_KNOWN_VERSIONS = ("0.3.17",)
# Its name-mangled attributes and methods that `raft`, `group`, `elections`, `voter_changes` and `make_core` reach for.
_NEEDED_ATTRIBUTES = (
    "_SyncObj__applyLogEntries",
    "_SyncObj__doChangeCluster",
    "_SyncObj__generateRaftTimeout",
    "_SyncObj__lastResponseTime",
    "_SyncObj__newAppendEntriesTime",
    "_SyncObj__noopIDx",
    "_SyncObj__raftCommitIndex",
    "_SyncObj__raftElectionDeadline",
    "_SyncObj__raftLastApplied",
    "_SyncObj__raftMatchIndex",
    "_SyncObj__raftNextIndex",
    "_SyncObj__transferInProgress",
)
_NEEDED = ("createJournal", "pickle", "monotonicTime", "random", "createPoller", "Serializer", "PIPE_NOTIFIER_ENABLED")
_NEVER = 2**62
# Enough for many small entries, and what one that moves many resources takes by itself.
_APPLY_S = 0.01


# PySyncObj has no types; so whatever is made from its classes cannot be checked, here and below.
class Member(Node):  # type: ignore[misc]
    """PySyncObj walks over sets of these: in the same order in every process, whatever its PYTHONHASHSEED."""

    def __init__(self, id: str, **more: Any) -> None:
        super().__init__(id, **more)
        self._hash = crc32(id.encode())

    def __hash__(self) -> int:
        return self._hash


@attrs.frozen
class Timing:
    """
    Attributes:
        heartbeat_s: How often a leader that has nothing to say says so.
        election_min_s, election_max_s: After how long without a leader a voter would stand.
        quorum_s: A leader that heard from no majority for so long steps down.
        message_bytes: PySyncObj pickles an entry that does not fit into one message; so none may come near that.
    """

    heartbeat_s: float
    election_min_s: float
    election_max_s: float
    quorum_s: float
    message_bytes: int


@attrs.define
class Stagger:
    """
    PySyncObj's dice, which it throws for election timeouts and for nothing else.

    In each term every voter has a stratum of its own, so that two of them stand at the same time only if a message
    takes longer than half a stratum. With dice alone, two elections in a row that were lost to split votes could
    cost healthy nodes their leases. The strata rotate with the term, so that a voter whose log is too short to
    win does not come first for ever.
    """

    name: str
    voters: list[str]
    dice: Random
    term: int = 0

    def random(self) -> float:
        if self.name not in self.voters:
            return self.dice.random()
        stratum = (self.voters.index(self.name) + self.term) % len(self.voters)
        return (stratum + self.dice.random() / 2) / len(self.voters)


class Wire(Protocol):
    """Takes what PySyncObj would send."""

    def send(self, peer: str, message: dict[str, Any]) -> None: ...


class _WireTransport(Transport):  # type: ignore[misc]
    """What PySyncObj takes for a network."""

    ready = True

    def __init__(self, wire: Wire) -> None:
        super().__init__(None, None, [])
        self._wire = wire

    def send(self, node: Node, message: dict[str, Any]) -> bool:
        self._wire.send(str(node.id), message)
        return True

    def addNode(self, node: Node) -> None:
        pass

    def dropNode(self, node: Node) -> None:
        pass

    def tryGetReady(self) -> None:
        pass

    def waitReady(self) -> None:
        pass

    def destroy(self) -> None:
        pass


class _NoSnapshots:
    """What PySyncObj takes for its snapshots: for ever at work on one, so it never begins one and has none to send."""

    def checkSerializing(self) -> tuple[int, None]:
        return SERIALIZER_STATE.SERIALIZING, None

    def getTransmissionData(self, peer: Node) -> None:
        return None

    def cancelTransmisstion(self, peer: Node) -> None:
        pass


class _NoSockets:
    """What PySyncObj looks for sockets with at each tick. It has none; and a look lets go of the interpreter's lock."""

    def poll(self, timeout: float) -> None:
        pass


def make_core(
    me: str,
    others: Iterable[Node],
    journal: Journal,
    apply: Callable[[bytes, int], None],
    wire: Wire,
    timing: Timing,
    *,
    clock: Clock,
    dice: Stagger,
) -> tuple[Any, Transport]:
    """
    A SyncObj that ticks when it is told to, and the transport through which it is told what came in.

    A tick that has something to apply applies one entry, and goes on until `_APPLY_S` have passed: how long an entry is
    does not tell what it costs. `Place` has a few bytes and moves 500 resources, and who comes back has hundreds.

    Args:
        me: This node's name.
        apply: Gets each committed entry and its index, in order, and must not raise.
    """
    module = _private_module(journal, clock, dice)
    transport = _WireTransport(wire)

    class Core(module.SyncObj):  # type: ignore[misc, name-defined]
        _SyncObj__raftCommitIndex: int

        @module.replicated  # type: ignore[untyped-decorator]
        def entry(self, data: bytes) -> None:
            apply(data, self.raftLastApplied + 1)

        def _SyncObj__applyLogEntries(self) -> bool:
            committed = self._SyncObj__raftCommitIndex
            if self.raftLastApplied >= committed:
                return False
            until_s = clock.now() + _APPLY_S
            for index in range(self.raftLastApplied + 1, committed + 1):
                self._SyncObj__raftCommitIndex = index
                super()._SyncObj__applyLogEntries()
                if clock.now() >= until_s:
                    break
            self._SyncObj__raftCommitIndex = committed
            return True

    return Core(Member(me), list(others), _conf(journal, timing), nodeClass=Member, transport=transport), transport


def _conf(journal: Journal, timing: Timing) -> SyncObjConf:
    return SyncObjConf(
        autoTick=False,
        raftMinTimeout=timing.election_min_s,
        raftMaxTimeout=timing.election_max_s,
        appendEntriesPeriod=timing.heartbeat_s,
        connectionTimeout=timing.quorum_s,
        leaderFallbackTimeout=timing.quorum_s,
        # Sent at once, one message for each entry; batching is done before, where it is known what belongs together.
        appendEntriesUseBatch=False,
        appendEntriesBatchSizeBytes=timing.message_bytes,
        # Without a leader a command is dropped here and proposed again by us, rather than applied minutes later.
        commandsWaitLeader=False,
        commandsQueueSize=0,
        logCompactionMinEntries=_NEVER,
        logCompactionMinTime=_NEVER,
        journalFile=journal,
        fullDumpFile=None,
        useFork=False,
        # It would unpickle entries, and count a change too late (S8); see `group.Group.set_voters`.
        dynamicMembershipChange=False,
    )


def _private_module(journal: Journal, clock: Clock, dice: Stagger) -> ModuleType:
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
    module.random = dice  # type: ignore[attr-defined]
    module.createPoller = lambda kind: _NoSockets()  # type: ignore[attr-defined]
    module.Serializer = lambda *_: _NoSnapshots()  # type: ignore[attr-defined]
    module.PIPE_NOTIFIER_ENABLED = False  # type: ignore[attr-defined]
    return module
