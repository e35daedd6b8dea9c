"""
`Handover`: a leader that leaves has another one lead, once it holds nothing any more: until then it has much to say.
"""

from __future__ import annotations

from pydrm.core.records import NodeState
from pydrm.core.state import State
from pydrm.engine.members import Members
from pydrm.engine.raft import Raft

__all__ = ["Handover"]

_AGAIN_S = 0.25


class Handover:
    def __init__(self, me: str, state: State, members: Members) -> None:
        self._me = me
        self._state = state
        self._members = members
        self._tried_at = float("-inf")

    def look(self, raft: Raft, now: float) -> None:
        """Begin one if it is due. After each tick."""
        if not raft.is_leader or now - self._tried_at < _AGAIN_S:
            return
        me = self._state.nodes.get(self._me)
        if me is None or me.state is not NodeState.DRAINING or self._state.held_count(me.name, me.incarnation):
            return
        self._tried_at = now
        raft.transfer_leadership([name for name in self._members.voters if self._may_lead(name)])

    def _may_lead(self, name: str) -> bool:
        node = self._state.nodes.get(name)
        return node is not None and node.state is NodeState.ALIVE
