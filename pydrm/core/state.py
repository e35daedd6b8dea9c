"""
`State`: everything the nodes replicate, and `evolve`, the only thing that writes it.

`evolve` cannot fail: a change carries the whole record that is to be written. The state belongs to
the thread that applies the log; others may read single records, which are frozen.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

from pydrm.core.brought import Brought
from pydrm.core.budget_records import Budget
from pydrm.core.changes import (
    Answered,
    AssignmentChanged,
    AssignmentDropped,
    Audited,
    BudgetChanged,
    BudgetDropped,
    Change,
    CheckpointDropped,
    CheckpointSaved,
    Defined,
    FloorRaised,
    Formed,
    LeaseEnded,
    NodeChanged,
    ProtocolRaised,
    RecoveryBegun,
    RecoveryEnded,
    SessionEnded,
    Undefined,
    VotersChanged,
    WatermarkDropped,
    WatermarkRaised,
)
from pydrm.core.index import Index
from pydrm.core.ledger import Ledger
from pydrm.core.queue import Queue
from pydrm.core.records import AssignmentKey, AuditEntry, Holder, Incarnation, Node, ParkedCause, Record, Watermark
from pydrm.core.sessions import Sessions
from pydrm.core.settings import Settings
from pydrm.core.sharded_table import AssignmentTable, CheckpointTable, RecordTable
from pydrm.core.table import Table

__all__ = ["AUDIT_ENTRIES_MAX", "State", "evolve"]

AUDIT_ENTRIES_MAX = 1000


class State:
    """
    Attributes:
        settings: What all nodes agree on; None before the cluster is formed.
        nodes: Each node's newest incarnation, by name; kept after it left.
        records: Resources under management, by id.
        assignments: Who holds what, by (resource id, slot).
        checkpoints: How far holders have got, by (resource id, slot).
        watermarks: Until when incarnations may have acted for all they hold, by (node, incarnation).
        budgets: What limits groups of resources, and holds them back, by group.
        quarantined: Derived from the records: the number of each quarantine, by resource.
        brought: Derived from the records: what each source owns.
        ledger: Events and their deliveries.
        sessions: Answers that clients may still ask for again.
        audit: Releases by force, the newest `AUDIT_ENTRIES_MAX`.
        next_number: The next token or ticket; one counter for both, and it never goes back.
        next_incarnation: The next incarnation number of any node.
        index: Derived from the assignments; not part of the digest.
    """

    def __init__(self) -> None:
        self.settings: Settings | None = None
        self.nodes: Table[str, Node] = Table()
        self.records = RecordTable()
        self.assignments = AssignmentTable()
        self.checkpoints = CheckpointTable()
        self.watermarks: Table[Incarnation, Watermark] = Table()
        self.budgets: Table[str, Budget] = Table()
        self.quarantined: dict[str, int] = {}
        self.brought = Brought()
        self.ledger = Ledger()
        self.sessions = Sessions()
        self.audit: Table[int, AuditEntry] = Table()
        self.next_number = 1
        self.next_incarnation = 1
        self.index = Index()

    @property
    def digest(self) -> int:
        """128 bits that are equal on all replicas that applied the same log."""
        parts = (
            self.settings.parts() if self.settings else None,
            self.nodes.digest,
            self.records.digest,
            self.assignments.digest,
            self.checkpoints.digest,
            self.watermarks.digest,
            self.ledger.digest,
            self.budgets.digest,
            self.sessions.digest,
            self.audit.digest,
            self.next_number,
            self.next_incarnation,
        )
        return int.from_bytes(blake2b(repr(parts).encode(), digest_size=16).digest(), "big")

    def held_by(self, node: str, incarnation: int) -> list[AssignmentKey]:
        """Every assignment in which that incarnation has a claim, oldest token first. From any thread."""
        claims = self.index.claims.get((node, incarnation))
        return [assignment.key for assignment in claims.copy()] if claims is not None else []

    def held_count(self, node: str, incarnation: int) -> int:
        """How many `held_by` would name; at no cost. From any thread."""
        claims = self.index.claims.get((node, incarnation))
        return len(claims) if claims is not None else 0

    def claim(self, key: AssignmentKey, token: int) -> Holder | None:
        """Who has a claim on *key* under *token*, if somebody has. From any thread."""
        assignment = self.assignments.get(key)
        return assignment.claim(token) if assignment is not None else None

    def is_current(self, incarnation: Incarnation) -> bool:
        """Whether this incarnation's lease has not been ended."""
        node = self.nodes.get(incarnation[0])
        return node is not None and node.incarnation == incarnation[1] and node.lives

    def note_parked(self, record: Record) -> None:
        """Follow whether a record is in quarantine. For `evolve` and `restoring`."""
        parked = record.parked
        if parked is not None and parked.cause is ParkedCause.QUARANTINED:
            self.quarantined[record.definition.id] = parked.number
        else:
            self.quarantined.pop(record.definition.id, None)

    def queues(self) -> list[Queue[Any]]:
        """All that is kept in the order of numbers, and made from the records."""
        return [*self.index.queues(), *self.brought.queues()]

    def become(self, other: State) -> None:
        """
        Exchange everything with *other*, each attribute by one assignment.

        Whoever shares this object reads the other's content from now on. What was here before is in *other*: `empty`
        it in steps, because a million records that go at once stop the thread.
        """
        for name, mine in list(vars(self).items()):
            setattr(self, name, getattr(other, name))
            setattr(other, name, mine)

    def empty(self) -> Iterator[None]:
        """Give up what there may be a million of, in steps of milliseconds. It is good for nothing afterwards."""
        yield from self.records.empty()
        yield from self.assignments.empty()
        yield from self.checkpoints.empty()
        yield from self.ledger.empty()
        for queue in self.queues():
            yield from queue.empty()


def evolve(state: State, change: Change) -> None:
    """Write one change."""
    # The cases are tried one after the other, so those that nearly every request leaves behind it are the first.
    match change:
        case AssignmentChanged(assignment=assignment):
            state.index.update(state.assignments.put(assignment.key, assignment), assignment)
            newest = max([claim.token for claim in assignment.claims()], default=assignment.ticket)
            state.next_number = max(state.next_number, newest + 1, assignment.ticket + 1)
        case Defined(record=record):
            state.brought.update(state.records.put(record.definition.id, record), record)
            state.note_parked(record)
            state.ledger.follow(record)
            parked = record.parked.number if record.parked is not None else 0
            state.next_number = max(state.next_number, record.revision + 1, parked + 1)
        case Answered(node=node_name, incarnation=incarnation, sequence=sequence, answer=answer):
            state.sessions.remember((node_name, incarnation), sequence, answer)
        case FloorRaised(node=node_name, incarnation=incarnation, floor=floor):
            state.sessions.forget_below((node_name, incarnation), floor)
        case AssignmentDropped(resource=resource, slot=slot):
            state.index.update(state.assignments.drop((resource, slot)), None)
        case Undefined(resource=resource):
            state.brought.update(state.records.drop(resource), None)
            state.quarantined.pop(resource, None)
            state.ledger.topics.drop(resource)
        case CheckpointSaved(checkpoint=checkpoint):
            state.checkpoints.put(checkpoint.key, checkpoint)
        case CheckpointDropped(resource=resource, slot=slot):
            state.checkpoints.drop((resource, slot))
        case WatermarkRaised(watermark=watermark):
            state.watermarks.put(watermark.by, watermark)
        case WatermarkDropped(node=node_name, incarnation=incarnation):
            state.watermarks.drop((node_name, incarnation))
        case BudgetChanged(budget=budget):
            state.budgets.put(budget.group, budget)
            newest = max([budget.hour, *(holdback.number for holdback in budget.holdbacks)])
            state.next_number = max(state.next_number, newest + 1)
        case BudgetDropped(group=group):
            state.budgets.drop(group)
        case NodeChanged(node=node):
            state.nodes.put(node.name, node)
            state.next_incarnation = max(state.next_incarnation, node.incarnation + 1)
        case LeaseEnded(node=node):
            state.nodes.put(node.name, node)
            state.index.ended((node.name, node.incarnation))
        case SessionEnded(node=node_name, incarnation=incarnation):
            state.sessions.end((node_name, incarnation))
        case Formed(settings=settings) | VotersChanged(settings=settings) | ProtocolRaised(settings=settings):
            state.settings = settings
        case RecoveryBegun(settings=settings, next_number=next_number, next_incarnation=next_incarnation):
            state.settings = settings
            state.next_number = next_number
            state.next_incarnation = next_incarnation
        case RecoveryEnded(settings=settings):
            state.settings = settings
        case Audited(entry=entry):
            state.audit.put(entry.number, entry)
            state.audit.drop(entry.number - AUDIT_ENTRIES_MAX)
        case _:
            state.next_number = max(state.next_number, state.ledger.evolve(change) + 1)
