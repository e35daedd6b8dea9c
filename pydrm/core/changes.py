"""
What happened, in the past tense: what `decide` returns, `evolve` writes and everyone else reads.

A change carries the whole new record, so that writing it cannot fail and a reader needs nothing
else to understand it. As with commands, Python's collector does not see them.
"""

from __future__ import annotations

import enum

import msgspec

from pydrm.core.answers import Answer
from pydrm.core.budget_records import Budget
from pydrm.core.ledger_changes import LedgerChange
from pydrm.core.records import Assignment, AuditEntry, Checkpoint, Node, Record, Watermark
from pydrm.core.settings import Settings

__all__ = [
    "Answered",
    "AssignmentChanged",
    "AssignmentDropped",
    "Audited",
    "BudgetChanged",
    "BudgetDropped",
    "Cause",
    "Change",
    "CheckpointDropped",
    "CheckpointSaved",
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
    "WatermarkDropped",
    "WatermarkRaised",
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
    REPORTED = "reported"  # a node said how its handle is; nobody has anything to do for that
    PARKED = "parked"
    RESUMED = "resumed"
    GIVEN_UP = "given-up"
    PERMITTED = "permitted"


class Formed(msgspec.Struct, frozen=True, gc=False):
    settings: Settings


class VotersChanged(msgspec.Struct, frozen=True, gc=False):
    settings: Settings


class ProtocolRaised(msgspec.Struct, frozen=True, gc=False):
    settings: Settings


class RecoveryBegun(msgspec.Struct, frozen=True, gc=False):
    """The cluster is another one, of one voter. Never by the log. The numbers are what `State` calls so."""

    settings: Settings
    next_number: int
    next_incarnation: int


class RecoveryEnded(msgspec.Struct, frozen=True, gc=False):
    settings: Settings


class NodeChanged(msgspec.Struct, frozen=True, gc=False):
    """Joined, renewed or draining: the node's record as it is now."""

    node: Node


class LeaseEnded(msgspec.Struct, frozen=True, gc=False):
    """The incarnation in *node* is dead; *node* is its last record, LEFT."""

    node: Node


class Defined(msgspec.Struct, frozen=True, gc=False):
    record: Record


class Undefined(msgspec.Struct, frozen=True, gc=False):
    resource: str


class AssignmentChanged(msgspec.Struct, frozen=True, gc=False):
    assignment: Assignment
    cause: Cause


class AssignmentDropped(msgspec.Struct, frozen=True, gc=False):
    """The record went with it; *resource* is under management no more."""

    resource: str
    slot: int


class CheckpointSaved(msgspec.Struct, frozen=True, gc=False):
    checkpoint: Checkpoint


class CheckpointDropped(msgspec.Struct, frozen=True, gc=False):
    resource: str
    slot: int


class WatermarkRaised(msgspec.Struct, frozen=True, gc=False):
    watermark: Watermark


class WatermarkDropped(msgspec.Struct, frozen=True, gc=False):
    """Nobody can be given anything any more that this incarnation had."""

    node: str
    incarnation: int


class BudgetChanged(msgspec.Struct, frozen=True, gc=False):
    budget: Budget


class BudgetDropped(msgspec.Struct, frozen=True, gc=False):
    """Nothing limits the group, and nothing holds it back."""

    group: str


class Audited(msgspec.Struct, frozen=True, gc=False):
    entry: AuditEntry


class Answered(msgspec.Struct, frozen=True, gc=False):
    node: str
    incarnation: int
    sequence: int
    answer: Answer


class FloorRaised(msgspec.Struct, frozen=True, gc=False):
    """The client waits for nothing below *floor* any more."""

    node: str
    incarnation: int
    floor: int


class SessionEnded(msgspec.Struct, frozen=True, gc=False):
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
    | CheckpointSaved
    | CheckpointDropped
    | BudgetChanged
    | BudgetDropped
    | WatermarkRaised
    | WatermarkDropped
    | Audited
    | Answered
    | FloorRaised
    | SessionEnded
    | LedgerChange
)
