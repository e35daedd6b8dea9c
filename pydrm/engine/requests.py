"""
`Requests`: all that is to go into the log, from where it comes to where the core takes it.

The app's come as `proposals`, which are repeated until they are answered; the participant's and those of nodes that do
not lead are said once. `batches` makes entries of them.
"""

from __future__ import annotations

from pydrm.core.commands import Command, Request
from pydrm.core.state import State
from pydrm.engine.batches import Batches
from pydrm.engine.codec import encode_request, split_entry
from pydrm.engine.proposals import Proposals
from pydrm.engine.raft import Raft

__all__ = ["Requests"]


class Requests:
    """Belongs to the engine's loop."""

    def __init__(self, proposals: Proposals, state: State) -> None:
        self._proposals = proposals
        self._state = state
        self._batches = Batches()

    def say(self, command: Command) -> None:
        """Once, without an answer."""
        self._batches.urgent(encode_request(Request(command)))

    def forwarded(self, command: bytes) -> None:
        """Of another node, to this one because it leads. Raises ValueError if it cannot be read."""
        self._batches.forwarded(split_entry(command[1:]))

    @property
    def next_at(self) -> float:
        """When something may go into the log that has not yet; long ago if that is as soon as there is room."""
        return self._batches.next_at

    def submit(self, raft: Raft, now: float) -> None:
        """Give the core what is due. Before each tick, while there is a leader."""
        if raft.leader is None or raft.handing_over:
            return
        self._batches.add(self._proposals.due(now))
        # Nobody's renewals need to be gathered where there is one node.
        settings = self._state.settings if len(self._state.nodes) > 1 else None
        ttl_s = settings.lease_ttl_ms / 1000 if settings is not None else 0.0
        for entry in self._batches.due(now, leads=raft.is_leader, backlog=raft.backlog, lease_ttl_s=ttl_s):
            raft.submit(entry)
