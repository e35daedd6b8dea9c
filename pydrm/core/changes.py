"""
What happened, in the past tense: what `decide` returns, `evolve` writes and everyone else reads.

A change carries the whole new record, so that writing it cannot fail and a reader needs nothing
else to understand it.
"""

from __future__ import annotations

import enum

import attrs

from pydrm.core.commands import Answer
from pydrm.core.records import Assignment, AuditEntry, Node, Record, Settings

__all__ = [
    "Answered",
    "AssignmentChanged",
    "AssignmentDropped",
    "Audited",
    "Cause",
    "Change",
    "Defined",
    "FloorRaised",
    "Formed",
    "LeaseEnded",
    "NodeChanged",
    "ProtocolRaised",
    "RecoveryBegun",
    "RecoveryEnded",
    "SessionEnded",
    "Undefined",
    "VotersChanged",
]


class Cause(enum.Enum):
    """Why an assignment changed: nothing moves without one."""

    ADDED = "added"
    UPDATED = "updated"
    REMOVED = "removed"
    PLACED = "placed"
    BALANCED = "balanced"
    DRAINED = "drained"
    RELEASED = "released"
    EXPIRED = "expired"
    FORCED = "forced"
    OPENED = "opened"
    REPORTED = "reported"


@attrs.frozen
class Formed:
    settings: Settings


@attrs.frozen
class VotersChanged:
    settings: Settings


@attrs.frozen
class ProtocolRaised:
    settings: Settings


@attrs.frozen
class RecoveryBegun:
    """The cluster is another one, of one voter. Never by the log. The numbers are what `State` calls so."""

    settings: Settings
    next_number: int
    next_incarnation: int


@attrs.frozen
class RecoveryEnded:
    settings: Settings


@attrs.frozen
class NodeChanged:
    """Joined, renewed or draining: the node's record as it is now."""

    node: Node


@attrs.frozen
class LeaseEnded:
    """The incarnation in *node* is dead; *node* is its last record, LEFT."""

    node: Node


@attrs.frozen
class Defined:
    record: Record


@attrs.frozen
class Undefined:
    resource: str


@attrs.frozen
class AssignmentChanged:
    assignment: Assignment
    cause: Cause


@attrs.frozen
class AssignmentDropped:
    """The record went with it; *resource* is under management no more."""

    resource: str
    slot: int


@attrs.frozen
class Audited:
    entry: AuditEntry


@attrs.frozen
class Answered:
    node: str
    incarnation: int
    sequence: int
    answer: Answer


@attrs.frozen
class FloorRaised:
    """The client waits for nothing below *floor* any more."""

    node: str
    incarnation: int
    floor: int


@attrs.frozen
class SessionEnded:
    node: str
    incarnation: int


Change = (
    Formed
    | VotersChanged
    | ProtocolRaised
    | RecoveryBegun
    | RecoveryEnded
    | NodeChanged
    | LeaseEnded
    | Defined
    | Undefined
    | AssignmentChanged
    | AssignmentDropped
    | Audited
    | Answered
    | FloorRaised
    | SessionEnded
)
