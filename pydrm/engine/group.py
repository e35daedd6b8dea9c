"""
`Group`: the members as PySyncObj's core knows them: which of them vote, which are connected, and what each has.

The core tells nodes with a vote from read-only ones, and keeps what it knows of a peer in tables that have no public
way to them. Whoever has or loses a vote changes sides there, and stays connected if it was.

A peer is *away* while it is linked and the core must not know: it needs a snapshot before anything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pysyncobj.node import Node
from pysyncobj.transport import Transport

from pydrm.engine.syncobj import Member

__all__ = ["Group"]


class Group:
    """
    Attributes:
        voters: Their names, sorted; this node's if it has a vote.
    """

    def __init__(self, core: Any, transport: Transport, voters: Iterable[str]) -> None:
        self.voters = sorted(voters)
        self._core = core
        self._transport = transport
        self._nodes: dict[str, Node] = {}
        self._away: set[str] = set()
        self._connected: set[str] = set()

    @property
    def has_company(self) -> bool:
        """Whether anybody is connected, with a vote or without."""
        return bool(self._connected)

    def node(self, name: str) -> Node:
        """*name*, as the core calls it."""
        if name not in self._nodes:
            self._nodes[name] = Member(name)
        return self._nodes[name]

    def set_voters(self, voters: Sequence[str]) -> None:
        """Count these from now on."""
        before, after = set(self.voters), set(voters)
        for gone in sorted(before - after):
            connected = self.is_connected(gone)
            self._transport._onNodeDisconnected(self.node(gone))
            self._core._SyncObj__doChangeCluster(("rem", gone, self.node(gone)))
            if connected:
                # It follows on, and so learns that it has no vote any more.
                self._transport._onReadonlyNodeConnected(self.node(gone))
        for new in sorted(after - before):
            connected = self.is_connected(new)
            self._transport._onReadonlyNodeDisconnected(self.node(new))
            self._core._SyncObj__doChangeCluster(("add", new, self.node(new)))
            if connected:
                self._transport._onNodeConnected(self.node(new))
        self.voters = sorted(after)

    # --- who is connected --------------------------------------------------------------------------------------------

    def is_connected(self, peer: str) -> bool:
        """Whether it is, as far as the core knows."""
        return bool(self._core.isNodeConnected(self.node(peer)))

    def connected(self, peer: str) -> None:
        self._away.discard(peer)
        self._connected.add(peer)
        if peer in self.voters:
            self._transport._onNodeConnected(self.node(peer))
        else:
            self._transport._onReadonlyNodeConnected(self.node(peer))

    def disconnected(self, peer: str) -> None:
        self._away.discard(peer)
        self._connected.discard(peer)
        if peer in self.voters:
            self._transport._onNodeDisconnected(self.node(peer))
        else:
            self._transport._onReadonlyNodeDisconnected(self.node(peer))

    def put_away(self, peer: str) -> None:
        """Until it is `connected` again the core sends it nothing."""
        self.disconnected(peer)
        self._away.add(peer)

    def all_back(self) -> None:
        """Nobody is away any more."""
        for peer in sorted(self._away):
            self.connected(peer)

    # --- what the leader knows of each -------------------------------------------------------------------------------

    def lacks(self, peer: str, last_index: int) -> int:
        """How many entries of a log that ends at *last_index* it is not known to have."""
        return last_index - int(self._core._SyncObj__raftMatchIndex.get(self.node(peer), 0))

    def next_index(self, peer: str) -> int:
        """The entry that *peer* is sent next; 0 if nothing is known."""
        return int(self._core._SyncObj__raftNextIndex.get(self.node(peer), 0))

    def send_from(self, peer: str, index: int) -> None:
        """Have *peer* sent *index* next."""
        self._core._SyncObj__raftNextIndex[self.node(peer)] = index

    def answered(self, peer: str, now: float) -> None:
        """*peer* counts for the leader's majority as of *now*."""
        self._core._SyncObj__lastResponseTime[self.node(peer)] = now
