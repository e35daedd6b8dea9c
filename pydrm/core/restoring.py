"""
`Restoring`: makes a `State` of a picture, in steps that each take milliseconds.

It is for bytes whose checksum was right. So it hashes nothing of what there may be a million of, takes those digests
from the head, and refuses only what no picture has; `invariants.verify` finds the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from sys import intern
from typing import Any

from msgspec import Struct
from msgspec.structs import force_setattr

from pydrm.core.budget_records import Budget
from pydrm.core.events import Delivery, Event, Published, Remains
from pydrm.core.picture import Head, Section, digests
from pydrm.core.records import Assignment, AuditEntry, Checkpoint, Holder, Node, Record, Watermark
from pydrm.core.sessions import Floor, Remembered
from pydrm.core.state import State

__all__ = ["Restoring"]


class Restoring:
    """
    Give it the chunks of all sections in their order by `add`, then exhaust `finish`; then `state` is there.

    Each call of `add` and each step of `finish` may be followed by something else. The items given are its own from
    then on: where records have equal strings and numbers, it makes them share one.

    Raises:
        ValueError: from `add` and `finish`; the message names what is wrong. Throw it away then.
    """

    def __init__(self, head: Head) -> None:
        self._head = head
        self._state = State()
        self._state.settings = head.settings
        self._state.next_number = head.next_number
        self._state.next_incarnation = head.next_incarnation
        self._counts: Counter[Section] = Counter()
        self._numbers = 0  # Tokens and tickets.
        self._finished = False
        self._adders: dict[Section, Callable[[Any], None]] = {
            Section.NODES: self._add_nodes,
            Section.RECORDS: self._add_records,
            Section.ASSIGNMENTS: self._add_assignments,
            Section.CHECKPOINTS: self._add_checkpoints,
            Section.WATERMARKS: self._add_watermarks,
            Section.EVENTS: self._add_events,
            Section.DELIVERIES: self._add_deliveries,
            Section.REMAINS: self._add_remains,
            Section.PUBLISHED: self._add_published,
            Section.BUDGETS: self._add_budgets,
            Section.FLOORS: self._add_floors,
            Section.ANSWERS: self._add_answers,
            Section.AUDIT: self._add_audit,
        }

    @property
    def state(self) -> State:
        assert self._finished, "finish() was not exhausted"
        return self._state

    def add(self, section: Section, items: Sequence[Struct]) -> None:
        """Add some of *section*; about `CHUNK_ITEMS` at a time is a few milliseconds."""
        self._adders[section](items)
        self._counts[section] += len(items)

    def finish(self) -> Iterator[None]:
        for section in Section:
            if self._counts[section] != self._head.counts.get(section, 0):
                raise ValueError(
                    f"{self._counts[section]} {section.value} were read, "
                    f"there should be {self._head.counts.get(section, 0)}"
                )
        index = self._state.index
        if len(index.waiting) + sum(map(len, index.claims.values())) != self._numbers:
            raise ValueError("a token or ticket is there twice")
        self._state.brought.restored(self._state.records)
        for queue in self._state.queues():
            for _ in queue.sort():
                yield
        for incarnation in index.claims:
            if not self._state.is_current(incarnation):
                index.ended(incarnation)
        self._state.ledger.restored()
        self._state.records.digest = self._digest(Section.RECORDS)
        self._state.assignments.digest = self._digest(Section.ASSIGNMENTS)
        self._state.checkpoints.digest = self._digest(Section.CHECKPOINTS)
        for section, digest in digests(self._state).items():
            if digest != self._digest(section):
                raise ValueError(f"the {section.value} are not those that were written")
        self._finished = True

    def _digest(self, section: Section) -> int:
        return int.from_bytes(self._head.digests.get(section, b""), "big")

    # --- one section each

    def _add_nodes(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            if node.name in self._state.nodes:
                raise ValueError(f"node {node.name} is there twice")
            self._state.nodes.put(node.name, node)

    def _add_records(self, records: Sequence[Record]) -> None:
        table = self._state.records
        for record in records:
            if not table.load(record.definition.id, record):
                raise ValueError(f"resource {record.definition.id} is there twice")
            self._state.brought.update(None, record)
            if record.parked is not None:
                self._state.note_parked(record)
            self._state.ledger.follow(record)

    def _add_assignments(self, assignments: Sequence[Assignment]) -> None:
        state = self._state
        for assignment in assignments:
            record = state.records.get(assignment.resource)
            if record is None:
                raise ValueError(f"{assignment.resource} is assigned and not defined")
            force_setattr(assignment, "resource", record.definition.id)
            if assignment.group:
                force_setattr(assignment, "group", intern(assignment.group))
            claims = assignment.claims()
            for claim in claims:
                self._share(claim, record)
            self._numbers += len(claims) + (assignment.ticket > 0)
            if not state.assignments.load(assignment.key, assignment):
                raise ValueError(f"the assignment {assignment.key} is there twice")
            state.index.update(None, assignment)

    def _add_checkpoints(self, checkpoints: Sequence[Checkpoint]) -> None:
        for checkpoint in checkpoints:
            record = self._state.records.get(checkpoint.resource)
            if record is None:
                raise ValueError(f"{checkpoint.resource} has a checkpoint and is not defined")
            force_setattr(checkpoint, "resource", record.definition.id)
            if not self._state.checkpoints.load(checkpoint.key, checkpoint):
                raise ValueError(f"the checkpoint of {checkpoint.key} is there twice")

    def _add_watermarks(self, watermarks: Sequence[Watermark]) -> None:
        for watermark in watermarks:
            if watermark.by in self._state.watermarks:
                raise ValueError(f"the watermark of {watermark.by} is there twice")
            self._state.watermarks.put(watermark.by, watermark)

    def _add_events(self, items: Sequence[Event]) -> None:
        for event in items:
            if event.number in self._state.ledger.events:
                raise ValueError(f"event {event.number} is there twice")
            self._state.ledger.keep(event)

    def _add_deliveries(self, deliveries: Sequence[Delivery]) -> None:
        ledger = self._state.ledger
        for delivery in deliveries:
            record = self._state.records.get(delivery.resource)
            if record is None or delivery.event not in ledger.events:
                raise ValueError(f"the delivery {delivery.key} is of no event, or for nobody")
            if ledger.delivery(*delivery.key) is not None:
                raise ValueError(f"the delivery {delivery.key} is there twice")
            force_setattr(delivery, "resource", record.definition.id)
            ledger.put(delivery)

    def _add_remains(self, items: Sequence[Remains]) -> None:
        for remains in items:
            if any(number not in self._state.ledger.events for number in remains.events):
                raise ValueError(f"remains {remains.number} are of no event")
            self._state.ledger.leave(remains)

    def _add_published(self, items: Sequence[Published]) -> None:
        for published in items:
            if published.id in self._state.ledger.published:
                raise ValueError(f"the published id {published.id} is there twice")
            self._state.ledger.published.put(published.id, published)

    def _add_budgets(self, budgets: Sequence[Budget]) -> None:
        for budget in budgets:
            if budget.group in self._state.budgets:
                raise ValueError(f"the budget of {budget.group} is there twice")
            self._state.budgets.put(budget.group, budget)

    def _share(self, claim: Holder, record: Record) -> None:
        node = self._state.nodes.get(claim.node)
        if node is None:
            raise ValueError(f"{record.definition.id} is held by {claim.node}, which is not there")
        force_setattr(claim, "node", node.name)
        if claim.revision == record.revision:
            force_setattr(claim, "revision", record.revision)
        if claim.permit:
            force_setattr(claim, "permit", intern(claim.permit))

    def _add_floors(self, floors: Sequence[Floor]) -> None:
        for floor in floors:
            if self._state.sessions.floor(floor.client):
                raise ValueError(f"the floor of {floor.client} is there twice")
            self._state.sessions.forget_below(floor.client, floor.floor)

    def _add_answers(self, answers: Sequence[Remembered]) -> None:
        for answer in answers:
            if self._state.sessions.answer(answer.client, answer.sequence) is not None:
                raise ValueError(f"the answer to request {answer.sequence} of {answer.client} is there twice")
            self._state.sessions.remember(answer.client, answer.sequence, answer.answer)

    def _add_audit(self, entries: Sequence[AuditEntry]) -> None:
        for entry in entries:
            if entry.number in self._state.audit:
                raise ValueError(f"audit entry {entry.number} is there twice")
            self._state.audit.put(entry.number, entry)
