"""
`Decision`: what deciding about a command returns, and what the deciders share.
"""

from __future__ import annotations

import msgspec

from pydrm.core.answers import Answer, Reason, Refused
from pydrm.core.changes import Change
from pydrm.core.records import Node
from pydrm.core.state import State

__all__ = ["Decision", "current", "refused"]


class Decision(msgspec.Struct, frozen=True):
    """What a command does: its answer and the changes to write, in order."""

    answer: Answer
    changes: tuple[Change, ...] = ()
    bug: Exception | None = None


def refused(reason: Reason, detail: str = "") -> Decision:
    return Decision(Refused(reason, detail))


def current(state: State, name: str, incarnation: int) -> Node | Refused:
    """That very incarnation of the node, if it lives; else why a command in its name is refused."""
    node = state.nodes.get(name)
    if node is None or node.incarnation != incarnation:
        return Refused(Reason.SUPERSEDED, f"{name} is at incarnation {node.incarnation if node else 0}")
    if not node.lives:
        return Refused(Reason.EXPIRED, f"incarnation {incarnation} of {name} has ended")
    return node
