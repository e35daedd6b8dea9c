"""
`Index`: what placement has to look up, kept beside the assignments and made from them alone.

It is never stored, so every order in it must follow from the records: handles are in the order of
their tokens and waiting assignments in the order of their tickets, which both come from one counter.
A replica that read a snapshot therefore decides like one that replayed the log.
"""

from __future__ import annotations

from typing import TypeVar

from pydrm.core.queue import Queue
from pydrm.core.records import Assignment, Holder, Incarnation, Phase

__all__ = ["Index", "settled_on"]

K = TypeVar("K", str, int)


class Index:
    """
    It holds the assignments themselves, as they are now: they are frozen, and there anyway.

    Attributes:
        claims: For each incarnation, every handle it may have, by token.
        settled: For each node and weight, what stays there unless it is moved, by token.
        load: The summed weight of what is settled on each node; nodes without any are left out.
        moving: How many assignments of each weight are being released and will need a place.
        waiting: What has no holder, in the order in which it became so, by ticket.
        dead: Incarnations that ended while they had claims.
        groups: For each group, how many claims each node has to resources of it; nodes without any are left out.
        permits: For each group, how many of its connections are given away.
        touched: Groups in which a number has changed since somebody last looked, who then empties it.
    """

    def __init__(self) -> None:
        self.claims: dict[Incarnation, Queue[Assignment]] = {}
        self.settled: dict[str, dict[int, Queue[Assignment]]] = {}
        self.load: dict[str, int] = {}
        self.moving: dict[int, int] = {}
        self.waiting: Queue[Assignment] = Queue()
        self.dead: dict[Incarnation, None] = {}
        self.groups: dict[str, dict[str, int]] = {}
        self.permits: dict[str, int] = {}
        self.touched: dict[str, None] = {}

    def update(self, old: Assignment | None, new: Assignment | None) -> None:
        """Follow one assignment from *old* to *new*; None is an assignment that does not exist."""
        if old is not None and new is not None and _differ_in_nothing_counted(old, new):
            self._put_again(new)
            return
        self._update_claims(old, new)
        self._update_settled(old, new)
        waited = old.ticket if old is not None and old.phase is Phase.WAITING else 0
        waits = new.ticket if new is not None and new.phase is Phase.WAITING else 0
        if waited and waited != waits:
            self.waiting.drop(waited)
        if waits and new is not None:
            self.waiting.put(waits, new)
        if old is not None and _is_moving(old):
            _count(self.moving, old.weight, -1)
        if new is not None and _is_moving(new):
            _count(self.moving, new.weight, +1)

        # Most are of no group.
        if old is not None and _has_part(old):
            self._count_part(old, -1)
        if new is not None and _has_part(new):
            self._count_part(new, +1)

    def _put_again(self, assignment: Assignment) -> None:
        """It is where it was."""
        for claim in assignment.claims():
            self.claims[claim.node, claim.incarnation].put(claim.token, assignment)
        settled = settled_on(assignment)
        if settled is not None:
            self.settled[settled.node][assignment.weight].put(settled.token, assignment)

    def queues(self) -> list[Queue[Assignment]]:
        settled = [queue for weights in self.settled.values() for queue in weights.values()]
        return [self.waiting, *self.claims.values(), *settled]

    def ended(self, incarnation: Incarnation) -> None:
        """The incarnation is dead; if it had claims, somebody has to take them over."""
        if incarnation in self.claims:
            self.dead[incarnation] = None

    def _update_claims(self, old: Assignment | None, new: Assignment | None) -> None:
        if new is None:
            for claim in old.claims() if old else ():
                self._drop_claim(claim)
            return
        after = new.claims()
        if old is not None:
            tokens = [claim.token for claim in after]
            for claim in old.claims():
                if claim.token not in tokens:
                    self._drop_claim(claim)
        for claim in after:
            incarnation = (claim.node, claim.incarnation)
            queue = self.claims.get(incarnation)
            if queue is None:
                queue = self.claims[incarnation] = Queue()
            queue.put(claim.token, new)

    def _drop_claim(self, claim: Holder) -> None:
        incarnation = (claim.node, claim.incarnation)
        self.claims[incarnation].drop(claim.token)
        if not self.claims[incarnation]:
            del self.claims[incarnation]
            self.dead.pop(incarnation, None)

    def _count_part(self, assignment: Assignment, difference: int) -> None:
        for claim in assignment.claims():
            if assignment.group:
                nodes = self.groups.setdefault(assignment.group, {})
                self.touched[assignment.group] = None
                _count(nodes, claim.node, difference)
                if not nodes:
                    del self.groups[assignment.group]
            if claim.permit:
                _count(self.permits, claim.permit, difference)

    def _update_settled(self, old: Assignment | None, new: Assignment | None) -> None:
        left = _settled_at(old) if old is not None else None
        taken = _settled_at(new) if new is not None else None
        if left is not None and left != taken:
            self._drop_settled(*left)
        if taken is not None and new is not None:
            node, weight, token = taken
            weights = self.settled.get(node)
            if weights is None:
                weights = self.settled[node] = {}
            queue = weights.get(weight)
            if queue is None:
                queue = weights[weight] = Queue()
            queue.put(token, new)
            if left != taken:
                _count(self.load, node, +weight)

    def _drop_settled(self, node: str, weight: int, token: int) -> None:
        weights = self.settled[node]
        weights[weight].drop(token)
        if not weights[weight]:
            del weights[weight]
            if not weights:
                del self.settled[node]
        _count(self.load, node, -weight)


def _differ_in_nothing_counted(old: Assignment, new: Assignment) -> bool:
    """As when its holder has reported how it is, which each does, for each that it opens."""
    before, after = old.holder, new.holder
    return (
        before is not None
        and after is not None
        and before.token == after.token
        and (before.node, before.incarnation) == (after.node, after.incarnation)
        and before.permit == after.permit
        and old.phase is new.phase
        and old.target is new.target
        and old.excluded is new.excluded
        and old.weight == new.weight
        and old.group == new.group
    )


def settled_on(assignment: Assignment) -> Holder | None:
    """The claim that will stay if nothing more is decided."""
    if assignment.phase is Phase.HELD:
        return assignment.holder
    if assignment.phase in (Phase.OPENING, Phase.RELEASING):
        return assignment.target
    return None


def _settled_at(assignment: Assignment) -> tuple[str, int, int] | None:
    """(node, weight, token): where in the index it is settled, if it is."""
    claim = settled_on(assignment)
    return (claim.node, assignment.weight, claim.token) if claim is not None else None


def _has_part(assignment: Assignment) -> bool:
    """Whether a group's numbers may depend on it: also when only its definition before was of one."""
    if assignment.group or assignment.excluded or assignment.target is not None:
        return True
    return assignment.holder is not None and assignment.holder.permit != ""


def _is_moving(assignment: Assignment) -> bool:
    return assignment.phase is Phase.RELEASING and assignment.target is None


def _count(counts: dict[K, int], key: K, difference: int) -> None:
    total = counts.get(key, 0) + difference
    if total:
        counts[key] = total
    else:
        del counts[key]
