"""
`Draft`: where a decision collects its changes.

It reads through to the state and over what it has collected so far, and never touches the state.
"""

from __future__ import annotations

from msgspec.structs import replace

from pydrm.core.changes import (
    AssignmentChanged,
    AssignmentDropped,
    Cause,
    Change,
    CheckpointDropped,
    CheckpointSaved,
    Defined,
    Undefined,
)
from pydrm.core.handoff import Event, Given, after
from pydrm.core.ledger import REMAINS_EVENTS_MAX
from pydrm.core.ledger_changes import SubscriptionEnded
from pydrm.core.records import (
    Assignment,
    AssignmentKey,
    Checkpoint,
    Holder,
    Incarnation,
    Phase,
    Record,
)
from pydrm.core.state import State

__all__ = ["Draft"]


class Draft:
    def __init__(self, state: State) -> None:
        self.changes: list[Change] = []
        self._state = state
        self._next_number = state.next_number
        self._assignments: dict[AssignmentKey, Assignment | None] = {}
        self._records: dict[str, Record | None] = {}
        self._checkpoints: dict[AssignmentKey, Checkpoint | None] = {}
        self._ended: dict[str, None] = {}

    def number(self) -> int:
        """A fresh token, ticket or revision."""
        self._next_number += 1
        return self._next_number - 1

    def assignment(self, key: AssignmentKey) -> Assignment | None:
        return self._assignments[key] if key in self._assignments else self._state.assignments.get(key)

    def claimed(self, by: Incarnation, key: AssignmentKey, token: int) -> tuple[Assignment, Holder] | None:
        """The assignment, and the claim that this very incarnation has on it under this very token, if it has it."""
        assignment = self.assignment(key)
        claim = assignment.claim(token) if assignment is not None else None
        if assignment is None or claim is None or (claim.node, claim.incarnation) != by:
            return None
        return assignment, claim

    def record(self, resource: str) -> Record | None:
        return self._records[resource] if resource in self._records else self._state.records.get(resource)

    def checkpoint(self, key: AssignmentKey) -> Checkpoint | None:
        return self._checkpoints[key] if key in self._checkpoints else self._state.checkpoints.get(key)

    @property
    def touches_assignments(self) -> bool:
        return bool(self._assignments)

    def touched(self, key: AssignmentKey) -> bool:
        return key in self._assignments

    def define(self, record: Record) -> None:
        self._records[record.definition.id] = record
        self.changes.append(Defined(record))
        if not (record.following or record.definition).topics:
            self._end_subscription(record.definition.id)

    def change(self, assignment: Assignment, cause: Cause) -> None:
        self._assignments[assignment.key] = assignment
        self.changes.append(AssignmentChanged(assignment, cause))

    def happen(self, key: AssignmentKey, event: Event, cause: Cause, *, target: Holder | None = None) -> bool:
        """Look *event* up in the handoff table and note what becomes of the assignment; whether that is news."""
        old = self.assignment(key)
        record = self.record(key[0])
        assert old is not None and record is not None
        if event is Event.REMOVED:
            self._end_subscription(key[0])
        if event in (Event.HOLDER_DIES, Event.FORCED):
            self.left_silently(key, old.holder)
        elif event is Event.TARGET_DIES:
            self.left_silently(key, old.target)
        definition = record.following or record.definition
        given = Given(
            weight=definition.weight,
            revision=record.revision,
            ticket=self._next_number,
            following=record.following is not None,
            # What is added again after it was removed begins anew.
            parked=record.parked is not None and old.phase is not Phase.REMOVING,
            target=target,
            group=definition.group,
        )
        new = after(old, event, given)
        if new is old:
            return False
        if new is None:
            self._assignments[key] = self._records[key[0]] = None
            self._drop_checkpoint(key)
            self.changes.append(AssignmentDropped(*key))
            self.changes.append(Undefined(key[0]))
            return True
        if new.ticket == given.ticket:
            self.number()
        if old.phase is Phase.REMOVING and new.phase is Phase.WAITING and record.following is not None:
            self.define(Record(record.following, revision=self.number()))
            self._drop_checkpoint(key)
        if new.phase is not Phase.WAITING and (new.ticket or new.previous):
            new = replace(new, ticket=0, previous="")
        self.change(new, cause)
        return True

    def save(self, checkpoint: Checkpoint) -> None:
        self._checkpoints[checkpoint.key] = checkpoint
        self.changes.append(CheckpointSaved(checkpoint))

    def left_silently(self, key: AssignmentKey, claim: Holder | None) -> None:
        """The one with *claim* said nothing in the end: what its node said for all it had goes with the checkpoint."""
        watermark = self._state.watermarks.get((claim.node, claim.incarnation)) if claim is not None else None
        checkpoint = self.checkpoint(key) if watermark is not None else None
        if claim is None or watermark is None or checkpoint is None or checkpoint.token != claim.token:
            return
        if watermark.until_us > checkpoint.watermark_us:
            self.save(replace(checkpoint, watermark_us=watermark.until_us))

    def _drop_checkpoint(self, key: AssignmentKey) -> None:
        if self.checkpoint(key) is not None:
            self._checkpoints[key] = None
            self.changes.append(CheckpointDropped(*key))

    def _end_subscription(self, resource: str) -> None:
        shelf = self._state.ledger.shelves.get(resource)
        if shelf is not None and resource not in self._ended:
            self._ended[resource] = None
            self.changes.append(SubscriptionEnded(resource, self._next_number))
            self._next_number += -(-len(shelf) // REMAINS_EVENTS_MAX)

    def forget_failures(self, key: AssignmentKey, cause: Cause) -> None:
        """Who gave it up may be asked again."""
        assignment = self.assignment(key)
        if assignment is not None and assignment.failed:
            self.change(replace(assignment, failed=()), cause)

    def drop_exclusion(self, key: AssignmentKey, token: int, cause: Cause) -> None:
        """A handle that was taken by force is known to be gone."""
        old = self.assignment(key)
        assert old is not None
        kept = tuple(claim for claim in old.excluded if claim.token != token)
        if kept != old.excluded:
            self.change(replace(old, excluded=kept), cause)

    def incarnation_died(self, key: AssignmentKey, incarnation: Incarnation, cause: Cause) -> None:
        """Take every claim of a dead incarnation off one assignment."""
        assignment = self.assignment(key)
        if assignment is not None and assignment.target is not None and _is(assignment.target, incarnation):
            self.happen(key, Event.TARGET_DIES, cause)
            assignment = self.assignment(key)
        if assignment is not None and assignment.holder is not None and _is(assignment.holder, incarnation):
            self.happen(key, Event.HOLDER_DIES, cause)
            assignment = self.assignment(key)
        if assignment is not None:
            kept = tuple(claim for claim in assignment.excluded if not _is(claim, incarnation))
            if kept != assignment.excluded:
                self.change(replace(assignment, excluded=kept), cause)


def _is(claim: Holder, incarnation: Incarnation) -> bool:
    return (claim.node, claim.incarnation) == incarnation
