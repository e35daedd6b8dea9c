"""
`Index`: what placement has to look up, kept beside the assignments and made from them alone.

It is never stored, so every order in it must follow from the records: handles are in the order of
their tokens and waiting assignments in the order of their tickets, which both come from one counter.
A replica that read a snapshot therefore decides like one that replayed the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from pydrm.core.records import Assignment, AssignmentKey, Holder, Incarnation, Phase

__all__ = ["Index", "settled_on"]

K = TypeVar("K", str, int)


class Index:
    """
    Attributes:
        claims: For each incarnation, every handle it may have: token to assignment.
        settled: For each node and weight, what stays there unless it is moved: token to assignment.
        load: The summed weight of what is settled on each node; nodes without any are left out.
        moving: How many assignments of each weight are being released and will need a place.
        waiting: What has no holder, in the order in which it became so: ticket to assignment.
        dead: Incarnations that ended while they had claims.
    """

    def __init__(self) -> None:
        self.claims: dict[Incarnation, dict[int, AssignmentKey]] = {}
        self.settled: dict[str, dict[int, dict[int, AssignmentKey]]] = {}
        self.load: dict[str, int] = {}
        self.moving: dict[int, int] = {}
        self.waiting: dict[int, AssignmentKey] = {}
        self.dead: dict[Incarnation, None] = {}
        self._unsorted: set[tuple[str, int]] = set()

    def update(self, old: Assignment | None, new: Assignment | None) -> None:
        """Follow one assignment from *old* to *new*; None is an assignment that does not exist."""
        self._update_claims(old, new)
        self._update_settled(old, new)
        waited = old.ticket if old is not None and old.phase is Phase.WAITING else 0
        waits = new.ticket if new is not None and new.phase is Phase.WAITING else 0
        if waited and waited != waits:
            del self.waiting[waited]
        if waits and new is not None:
            self.waiting[waits] = new.key
        if old is not None and _is_moving(old):
            _count(self.moving, old.weight, -1)
        if new is not None and _is_moving(new):
            _count(self.moving, new.weight, +1)

    def ended(self, incarnation: Incarnation) -> None:
        """The incarnation is dead; if it had claims, somebody has to take them over."""
        if incarnation in self.claims:
            self.dead[incarnation] = None

    def _update_claims(self, old: Assignment | None, new: Assignment | None) -> None:
        before = {claim.token: claim for claim in old.claims()} if old else {}
        after = {claim.token: claim for claim in new.claims()} if new else {}
        for token, claim in before.items():
            if token not in after:
                self._drop_claim(claim)
        for token, claim in after.items():
            # One that stays keeps its place, which is what makes the order that of the tokens.
            if token not in before:
                assert new is not None
                self.claims.setdefault((claim.node, claim.incarnation), {})[token] = new.key

    def _drop_claim(self, claim: Holder) -> None:
        incarnation = (claim.node, claim.incarnation)
        del self.claims[incarnation][claim.token]
        if not self.claims[incarnation]:
            del self.claims[incarnation]
            self.dead.pop(incarnation, None)

    def _update_settled(self, old: Assignment | None, new: Assignment | None) -> None:
        before = settled_on(old) if old else None
        after = settled_on(new) if new else None
        # Compared by token: a report about a handle changes the claim, not its place in the order.
        if before is not None and after is not None and before.token == after.token:
            return
        if before is not None and old is not None:
            bucket = self.settled[before.node][old.weight]
            del bucket[before.token]
            if not bucket:
                del self.settled[before.node][old.weight]
            _count(self.load, before.node, -old.weight)
            if before.node not in self.load:
                del self.settled[before.node]
        if after is not None and new is not None:
            bucket = self.settled.setdefault(after.node, {}).setdefault(new.weight, {})
            if bucket and next(reversed(bucket)) > after.token:
                self._unsorted.add((after.node, new.weight))
            bucket[after.token] = new.key
            _count(self.load, after.node, +new.weight)

    def settled_newest_first(self, node: str, weight: int) -> Iterator[AssignmentKey]:
        if (node, weight) in self._unsorted:
            # Only when a move with overlap was called off because its target died: once per such event.
            self._unsorted.discard((node, weight))
            self.settled[node][weight] = dict(sorted(self.settled[node][weight].items()))
        return reversed(self.settled[node][weight].values())


def settled_on(assignment: Assignment) -> Holder | None:
    """The claim that will stay if nothing more is decided."""
    if assignment.phase is Phase.HELD:
        return assignment.holder
    if assignment.phase in (Phase.OPENING, Phase.RELEASING):
        return assignment.target
    return None


def _is_moving(assignment: Assignment) -> bool:
    return assignment.phase is Phase.RELEASING and assignment.target is None


def _count(counts: dict[K, int], key: K, difference: int) -> None:
    total = counts.get(key, 0) + difference
    if total:
        counts[key] = total
    else:
        del counts[key]
