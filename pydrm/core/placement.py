"""
Placement: who should hold what waits, and what has to move for the load to be even.

    Rule 1.  What has no holder goes to the node with the least load; of equals to the one that held it
             last, then to the first by name.
    Rule 2.  What has a holder stays, unless its node drains or a move makes the load more even. A move of
             weight w from load a to load b does so if w < a - b, so unit weights end at most one apart.
    Rule 3.  What is being released counts as if it were placed already by rule 1. So no more moves than the
             least number are begun, however many are under way.
    Rule 4.  One step decides about so many assignments and no more; `Place` goes on where it stopped.
    Rule 5.  Nothing of this happens while the cluster recovers: see `recovery`.

The stages run after every command, each on the state that the one before left. `admit` is a part of deciding:
what is new has its holder from its first change on, the one that the stages would give it right after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from msgspec.structs import replace

from pydrm.core.changes import Cause, Change
from pydrm.core.draft import Draft
from pydrm.core.handoff import Event
from pydrm.core.loads import Loads, pour
from pydrm.core.orphans import sweep
from pydrm.core.records import Assignment, Holder, Node, NodeState, Phase
from pydrm.core.state import State

__all__ = [
    "STAGES",
    "STEP_ASSIGNMENTS_MAX",
    "Stage",
    "admit",
    "balance",
    "bury",
    "excluded_from",
    "place",
    "placeable",
    "unfinished",
]

STEP_ASSIGNMENTS_MAX = 500

Stage = Callable[[State, int], list[Change]]


def admit(state: State, draft: Draft, newcomers: Sequence[Assignment]) -> None:
    """
    Create *newcomers*, which wait, in the order of their tickets; their records are in *draft* already.

    They are held at once if `place`, run right after this command, would give all of them a holder and no stage would
    do anything before. Their tokens are those that it would give them too. So the state comes out the same either way,
    and replicas of a version that knows only the other one may be fed the same log.
    """
    left_behind = state.index.waiting or state.index.dead or state.brought.gone
    others_first = draft.touches_assignments or left_behind or _recovers(state)
    nodes = {} if others_first or len(newcomers) > STEP_ASSIGNMENTS_MAX else placeable(state)
    if nodes:
        _place(state, draft, nodes, newcomers, STEP_ASSIGNMENTS_MAX, Cause.ADDED)
    else:
        for newcomer in newcomers:
            draft.change(newcomer, Cause.ADDED)


def bury(state: State, limit: int) -> list[Change]:
    """Take over from dead incarnations, oldest token first."""
    if not state.index.dead or _recovers(state):
        return []
    draft = Draft(state)
    left = limit
    for incarnation in sorted(state.index.dead, key=lambda dead: dead[1]):
        claims = list(islice(state.index.claims[incarnation].oldest_first(), left))
        for key in dict.fromkeys(claim.key for claim in claims):
            draft.incarnation_died(key, incarnation, Cause.EXPIRED)
        left -= len(claims)
        if left <= 0:
            break
    return draft.changes


def place(state: State, limit: int) -> list[Change]:
    """Give holders to what waits, in the order in which it became so."""
    if not state.index.waiting or _recovers(state):
        return []
    nodes = placeable(state)
    if not nodes:
        return []
    draft = Draft(state)
    _place(state, draft, nodes, state.index.waiting.oldest_first(), limit, Cause.PLACED)
    return draft.changes


def balance(state: State, limit: int) -> list[Change]:
    """Begin to move what is on draining nodes, and what makes the load more even."""
    if _is_even(state) or _recovers(state):
        return []
    nodes = placeable(state)
    draft = Draft(state)
    _drain(state, draft, nodes, limit)
    unplaced = state.index.dead or place(state, 1)
    if len(nodes) > 1 and len(draft.changes) < limit and not unplaced:
        loads = _expected_loads(state, nodes)
        _even_out(state, draft, nodes, loads, limit - len(draft.changes))
    return draft.changes


STAGES: tuple[Stage, ...] = (sweep, bury, place, balance)


def unfinished(state: State) -> bool:
    """Whether a step stopped at its limit, so that somebody should propose `Place`."""
    return bool(state.ledger.remains) or any(stage(state, 1) for stage in STAGES)


def _recovers(state: State) -> bool:
    return state.settings is not None and state.settings.recovering


def _place(
    state: State, draft: Draft, nodes: dict[str, Node], waiting: Iterable[Assignment], limit: int, cause: Cause
) -> None:
    loads = Loads({name: state.index.load.get(name, 0) for name in nodes})
    for assignment in waiting:
        # What fits nowhere is passed over, and does not count: those behind it are not to wait with it.
        if limit <= 0:
            break
        excluded = excluded_from(assignment, nodes)
        name = loads.least(assignment.previous, excluded)
        if assignment.failed:
            # One that gave it up is better than nobody, and tries it once.
            name = loads.least(assignment.previous, (*excluded, *_gave_up(assignment, nodes))) or name
        if name is None:
            continue
        loads.add(name, assignment.weight)
        limit -= 1
        record = draft.record(assignment.resource)
        assert record is not None
        holder = Holder(name, nodes[name].incarnation, draft.number(), record.revision)
        held = replace(assignment, phase=Phase.HELD, holder=holder, ticket=0, previous="")
        draft.change(held, cause)


def _drain(state: State, draft: Draft, nodes: dict[str, Node], limit: int) -> None:
    if all(node.state is not NodeState.DRAINING for node in state.nodes.values()):
        return
    loads = Loads({name: state.index.load.get(name, 0) for name in nodes})
    for name, node in sorted(state.nodes.items()):
        if node.state is not NodeState.DRAINING:
            continue
        for weight in sorted(state.index.settled.get(name, ())):
            for assignment in _held_newest_first(state, draft, name, weight):
                if len(draft.changes) >= limit:
                    return
                receiver = loads.least("", excluded_from(assignment, nodes)) if nodes else None
                _begin_move(state, draft, assignment, nodes, receiver, Cause.DRAINED)
                if receiver is not None:
                    loads.add(receiver, weight)


def _is_even(state: State) -> bool:
    """Whether nothing moves or has to: nearly always, after nearly every command. Says nothing of what waits."""
    if state.index.moving:
        return False
    loads = []
    for name, node in state.nodes.items():
        if node.state is NodeState.DRAINING:
            return False
        if node.state is NodeState.ALIVE:
            loads.append(state.index.load.get(name, 0))
    return not loads or max(loads) - min(loads) < 2


def _expected_loads(state: State, nodes: dict[str, Node]) -> dict[str, int]:
    """Loads as they will be when all that is on its way has arrived (rule 3)."""
    arriving = dict(state.index.moving)
    for name, node in state.nodes.items():
        if node.state is NodeState.DRAINING:
            for weight, settled in state.index.settled.get(name, {}).items():
                arriving[weight] = arriving.get(weight, 0) + len(settled)
    loads = {name: state.index.load.get(name, 0) for name in nodes}
    for weight, count in sorted(arriving.items(), reverse=True):
        pour(loads, weight, count)
    return loads


def _even_out(state: State, draft: Draft, nodes: dict[str, Node], loads: dict[str, int], limit: int) -> None:
    # A giver counts with what it has, not with what may arrive: or what it gives would come back to it,
    # because `place` looks at what is there, and would go again, for as long as the arrival takes.
    settled = {name: state.index.load.get(name, 0) for name in nodes}
    if max(settled.values()) - min(loads.values()) < 2:
        return
    sources = {name: _Movable(state, draft, name) for name in nodes}
    for _ in range(limit):
        receiver = min(loads, key=lambda name: (loads[name], name))
        for giver in sorted(settled, key=lambda name: (-settled[name], name)):
            difference = settled[giver] - loads[receiver]
            if difference < 2:
                return
            assignment = sources[giver].best(difference)
            if assignment is not None:
                break
        else:
            return
        _begin_move(state, draft, assignment, nodes, receiver, Cause.BALANCED)
        settled[giver] -= assignment.weight
        loads[giver] -= assignment.weight
        loads[receiver] += assignment.weight


def _begin_move(
    state: State, draft: Draft, assignment: Assignment, nodes: dict[str, Node], receiver: str | None, cause: Cause
) -> None:
    target = None
    record = state.records[assignment.resource]
    if record.definition.overlap and receiver is not None and receiver not in excluded_from(assignment, nodes):
        target = Holder(receiver, nodes[receiver].incarnation, draft.number(), record.revision)
    draft.happen(assignment.key, Event.MOVED, cause, target=target)


def placeable(state: State) -> dict[str, Node]:
    """The nodes that may be given something, by name, in order."""
    return {name: node for name, node in sorted(state.nodes.items()) if node.state is NodeState.ALIVE}


def excluded_from(assignment: Assignment, nodes: dict[str, Node]) -> tuple[str, ...]:
    """Nodes that lost it by force and may still have a handle for it."""
    return tuple(
        claim.node
        for claim in assignment.excluded
        if claim.node in nodes and nodes[claim.node].incarnation == claim.incarnation
    )


def _gave_up(assignment: Assignment, nodes: dict[str, Node]) -> list[str]:
    return [name for name, incarnation in assignment.failed if name in nodes and nodes[name].incarnation == incarnation]


def _held_newest_first(state: State, draft: Draft, node: str, weight: int) -> Iterator[Assignment]:
    for assignment in state.index.settled[node][weight].newest_first():
        if assignment.phase is Phase.HELD and not draft.touched(assignment.key):
            yield assignment


class _Movable:
    """What one node could give, by weight; the newest first, because it has been there for the shortest time."""

    def __init__(self, state: State, draft: Draft, node: str) -> None:
        # What was taken by force from some node stays out of this until that node has let go: moved for the sake of
        # the load, it could only come back. So could what some node has given up.
        self._queues = {
            weight: (a for a in _held_newest_first(state, draft, node, weight) if not a.excluded and not a.failed)
            for weight in state.index.settled.get(node, ())
        }

    def best(self, difference: int) -> Assignment | None:
        """What to move between two nodes so far apart: the largest weight up to the half, else the least over it."""
        while True:
            halves = [weight for weight in self._queues if 2 * weight <= difference]
            overs = [weight for weight in self._queues if difference < 2 * weight < 2 * difference]
            if not halves and not overs:
                return None
            weight = max(halves) if halves else min(overs)
            assignment = next(self._queues[weight], None)
            if assignment is not None:
                return assignment
            del self._queues[weight]
