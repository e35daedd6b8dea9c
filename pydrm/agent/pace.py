"""
`Handoffs`: how many resources this node has taken from itself that nobody has open yet.

A node that gives away a thousand resources could close them all at once and leave each without a holder
until the receivers have worked through their queues. Instead it closes a few and goes on as the receivers
report them open, like a window of unacknowledged segments: the gap of each stays that of one small batch.
"""

from __future__ import annotations

from pydrm.core.records import Assignment, AssignmentKey, Condition, NodeState, Phase
from pydrm.core.state import State

__all__ = ["Handoffs", "is_over"]


class Handoffs:
    """
    Args:
        window: How many may be under way.
        patience_s: How long to wait for a receiver; a third party that is slow must not stop a drain.
    """

    def __init__(self, window: int, *, patience_s: float = 1.0) -> None:
        self._window = window
        self._patience_s = patience_s
        self._under_way: dict[AssignmentKey, tuple[int, float]] = {}

    @property
    def full(self) -> bool:
        return len(self._under_way) >= self._window

    def began(self, key: AssignmentKey, token: int, now: float) -> None:
        """The handle under *token* is about to be closed, for another node to open it."""
        self._under_way[key] = (token, now + self._patience_s)

    def update(self, state: State, now: float) -> None:
        """Forget those that are over, by what the state says now."""
        if not self._under_way:
            return
        takers = any(node.state is NodeState.ALIVE for node in list(state.nodes.values()))
        for key, (token, deadline) in list(self._under_way.items()):
            if now >= deadline or is_over(state.assignments.get(key), token, takers=takers):
                del self._under_way[key]

    def clear(self) -> None:
        self._under_way.clear()


def is_over(assignment: Assignment | None, token: int, *, takers: bool) -> bool:
    """
    Whether the handoff of what was held under *token* needs no more waiting.

    Also when the receiver tried and failed: waiting would not help it, and the others should not wait for it.
    """
    if assignment is None or assignment.phase is Phase.PARKED:
        return True
    if assignment.phase is Phase.WAITING:
        return not takers
    holder = assignment.holder
    assert holder is not None
    if holder.token == token:
        # Closing it here takes as long as it takes; the deadline is for the receiver.
        return assignment.phase is Phase.REMOVING
    return holder.condition is not Condition.OPENING
