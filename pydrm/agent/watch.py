"""
`LeaseWatch`: when another node's lease may be ended. Sans I/O; the voters' half of the rule in `lease`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import attrs

from pydrm.core.changes import Change, LeaseEnded, NodeChanged
from pydrm.core.commands import Expire
from pydrm.core.records import Node

__all__ = ["LeaseWatch"]

_EXPIRE_AGAIN_S = 0.5


@attrs.define
class _Watched:
    incarnation: int
    count: int
    ttl_s: float
    applied_at: float
    proposed_at: float = float("-inf")


class LeaseWatch:
    """
    Attributes:
        next_at: When the first of them would be over, if it is not renewed; or before that, because a renewal leaves it
            as it is. So a tick for which nothing is due looks at none of them.
    """

    def __init__(self) -> None:
        self.next_at = math.inf
        self._watched: dict[str, _Watched] = {}

    def note(self, change: Change, now: float) -> None:
        """A change was applied here at *now*: what is replayed from the disk counts from the replay."""
        match change:
            case NodeChanged(node=node):
                self._note_node(node, now)
            case LeaseEnded(node=node):
                self._watched.pop(node.name, None)

    def restored(self, nodes: Iterable[Node], now: float) -> None:
        """The state was read from a snapshot at *now*: each lease may have been renewed as late as that."""
        before, self._watched = self._watched, {}
        self.next_at = -math.inf
        for node in nodes:
            if not node.lives:
                continue
            if node.name in before:
                self._watched[node.name] = before[node.name]
            self._note_node(node, now)

    def due(self, now: float, leads_since: float | None) -> list[Expire]:
        """
        The leases that this node, if it leads, should end now.

        A new leader waits a little, so that the living can renew with it first.
        """
        if leads_since is None or now <= self.next_at:
            return []
        due = []
        self.next_at = math.inf
        for name, watched in self._watched.items():
            rested = now - leads_since >= watched.ttl_s / 5 + 0.1
            over = now - watched.applied_at > watched.ttl_s
            if rested and over and now - watched.proposed_at >= _EXPIRE_AGAIN_S:
                watched.proposed_at = now
                due.append(Expire(name, watched.incarnation, watched.count))
            self.next_at = min(self.next_at, watched.applied_at + watched.ttl_s)
        return due

    def _note_node(self, node: Node, now: float) -> None:
        watched = self._watched.get(node.name)
        if watched is None or (watched.incarnation, watched.count) != (node.incarnation, node.count):
            watched = self._watched[node.name] = _Watched(node.incarnation, node.count, node.ttl_ms / 1000, now)
            self.next_at = min(self.next_at, watched.applied_at + watched.ttl_s)
