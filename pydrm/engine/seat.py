"""
`Seat`: this node's place in the group, taken when the cluster is formed: who votes, and the `Raft` that counts them.

    Rule 1.  The identity is on disk before the first vote: the core, which votes, does not exist before that.
    Rule 2.  Who votes is what the state says, and it counts from the end of the tick that applied it: see `raft`.
    Rule 3.  Peers of another cluster are linked, but not connected: the core never hears of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from pydrm.clock import Clock, Random
from pydrm.engine.data_directory import DataDirectory
from pydrm.engine.frames import Hello
from pydrm.engine.members import Members
from pydrm.engine.raft import Raft
from pydrm.engine.transport import Transport

__all__ = ["Seat"]

_log = logging.getLogger(__name__)


class Seat:
    """
    Belongs to the engine's loop.

    Attributes:
        raft: None until the cluster is formed; another one when this node gets a vote or loses it.
    """

    def __init__(
        self,
        me: str,
        members: Members,
        directory: DataDirectory,
        transport: Transport,
        apply: Callable[[bytes, int], None],
        *,
        connected: Callable[[], None],
        clock: Clock,
        random: Random,
    ) -> None:
        """
        Args:
            apply: Gets each committed entry that is not in the state and its index, in order, and must not raise.
            connected: Called for each peer that the core hears of from now on.
        """
        self.raft: Raft | None = None
        self._me = me
        self._members = members
        self._directory = directory
        self._transport = transport
        self._apply = apply
        self._connected = connected
        self._clock = clock
        self._random = random
        self._voters_revision = 0

    def form(self) -> bool:
        """Take part, if that can begin by what the linked peers say; whether it has begun now. Raises OSError."""
        if self.raft is not None or not self._members.form(self._transport.heard()):
            return False
        self.take(self._directory.journal.base[0])
        return True

    def take(self, applied: int) -> None:
        """From now on, by what is in the journal, of which everything up to entry *applied* is in the state."""
        self.raft = Raft(
            self._me,
            self._members.voting,
            self._directory.journal,
            self._apply,
            applied=applied,
            clock=self._clock,
            random=self._random,
        )
        self._voters_revision = self._members.revision
        self._transport.expect(self._members.addresses)
        for peer, hello in self._transport.heard().items():
            self.linked(peer, hello)

    def follow_voters(self, raft: Raft) -> None:
        """Rule 2. After each tick of *raft*, which may not be the one in use any more afterwards."""
        if self._members.revision == self._voters_revision:
            return
        voters = self._members.voting
        _log.info("the voters are %s now", ", ".join(voters))
        if raft.votes == (self._me in voters):
            self._voters_revision = self._members.revision
            self._transport.expect(self._members.addresses)
            raft.set_voters(voters)
        else:
            self.take(raft.applied)
        self._transport.announce()

    def linked(self, peer: str, hello: Hello) -> None:
        if self.raft is not None and hello.cluster_id == self._directory.identity.cluster_id:
            self.raft.connected(peer)
            self._connected()

    def unlinked(self, peer: str) -> None:
        if self.raft is not None:
            self.raft.disconnected(peer)
