"""
`Judge`: what must be so, whatever happened.

    at every look    nobody but a stopped process has a resource open besides its holder, no token is used after a
                     newer one, replicas at one index have one digest, who has lost its disk takes no part, what is
                     acknowledged stays as it was asked for until something else is, whoever has heard of it
    at every answer  what is acknowledged is there, as it was asked for, on the node that says so
    at rest          everything acknowledged is there as it was last asked for, held exactly once, the load is even,
                     and nothing moves any more
"""

from __future__ import annotations

from collections.abc import Collection

from pydrm.core.records import Phase
from pydrm.core.resource import Resource
from pydrm.core.state import State
from pydrm.engine import resource_of
from pydrm.testing.simulation.node import SimulatedNode
from pydrm.testing.simulation.third_party import SimThirdParty

__all__ = ["Judge"]


class Judge:
    """
    Attributes:
        acknowledged: What was acknowledged last for each resource: its definition, or None if it was removed.
        uncertain: Resources that somebody has asked something for, without an answer so far.
        formed: Whether the cluster has come into being.
    """

    def __init__(self, nodes: Collection[SimulatedNode], third_party: SimThirdParty) -> None:
        self.acknowledged: dict[str, Resource | None] = {}
        self.uncertain: set[str] = set()
        self.formed = False
        self._nodes = nodes
        self._third_party = third_party
        self._digests: dict[tuple[str, int], tuple[int, str]] = {}
        self._acknowledged_at: dict[str, tuple[str, int]] = {}  # the cluster and index in which whoever answered had it
        self._looked_at: dict[str, int] = {}  # by node
        self._violations: list[str] = []

    def look(self) -> None:
        self._third_party.check_all()
        for node in self._nodes:
            state = node.state
            if state is None:
                continue
            if node.is_out and node.votes and not self._is_bound(node):
                self.object(f"{node.name} votes although it has forgotten what it promised")
            node.is_out = node.is_out and not self._is_bound(node)
            index, digest = node.applied, state.digest
            self.formed = self.formed or index > 0
            cluster_id = _cluster_id(state)
            seen = self._digests.setdefault((cluster_id, index), (digest, node.name))
            if seen[0] != digest:
                self.object(f"{node.name} and {seen[1]} differ at index {index}")
            if self._looked_at.get(node.name) != index:
                self._looked_at[node.name] = index
                self._see_that_it_stays(node, state, index)

    def _see_that_it_stays(self, node: SimulatedNode, state: State, index: int) -> None:
        cluster_id = _cluster_id(state)
        for id, (where, since) in self._acknowledged_at.items():
            heard_of = where == cluster_id and since <= index and id not in self.uncertain
            if heard_of and not _is_so(state, id, self.acknowledged[id]):
                self.object(f"{node.name} has {id} not as it was acknowledged, at index {index}")

    def _is_bound(self, node: SimulatedNode) -> bool:
        """Whether anybody knows it as a voter by what it is now."""
        for other in self._nodes:
            settings = other.state.settings if other.state is not None else None
            voter = settings.voter(node.name) if settings is not None else None
            if voter is not None and voter.replica_id == node.replica_id:
                return True
        return False

    def answered(self, node: SimulatedNode, id: str, wanted: Resource | None) -> None:
        """*node* says that *id* is *wanted* now, or gone."""
        self.acknowledged[id] = wanted
        self.uncertain.discard(id)
        if node.state is not None:
            self._acknowledged_at[id] = (_cluster_id(node.state), node.applied)
        if node.state is not None and not _is_so(node.state, id, wanted):
            self.object(f"{node.name} says that {id} is {'added' if wanted else 'removed'}, and that is not so")

    def object(self, what: str) -> None:
        if what not in self._violations:
            self._violations.append(what)

    def unsettled(self) -> str:
        """What is still missing to a state of rest; "" if nothing is."""
        held = self._third_party.held()
        members = [node for node in self._nodes if not node.is_out]
        states = [node.state for node in members]
        if any(node.asked for node in self._nodes):
            return "not all requests are answered"
        for state in states:
            if state is None:
                return "not all nodes run"
            for id, wanted in self.acknowledged.items():
                if id not in self.uncertain and not _is_so(state, id, wanted):
                    return f"{id} was acknowledged as {'added' if wanted else 'removed'} and is not so"
            for (id, _), assignment in state.assignments.items():
                if assignment.phase.value != Phase.HELD.value:
                    return f"{id} is {assignment.phase.value}"
                # What a webhook has open is nobody's but its own: see `receiver`.
                connects = state.records[id].definition.kind != "webhook"
                if connects and len(held.get(id, ())) != 1:
                    return f"{id} is held {len(held.get(id, ()))} times"
        records = states[0].records if states[0] else ()
        for id in held:
            if id not in records:
                return f"{id} is held and not defined"
        loads = [sum(connections[0].host is node.host for connections in held.values()) for node in members]
        if max(loads) - min(loads) > 1:
            return f"the load is {loads}"
        return ""

    def verdict(self) -> list[str]:
        self.look()
        wrong = [*self._violations, *self._third_party.violations]
        for node in self._nodes:
            if node.state is not None:
                wrong += [f"{node.name}: {problem}" for problem in node.version.check(node.state)]
        return wrong


def _cluster_id(state: State) -> str:
    """What one replica was recovered to is another cluster, with other entries at the same indexes."""
    return state.settings.cluster_id if state.settings is not None else ""


# By value, not by identity: a node may run another version of pydrm, with classes of its own.


def _is_so(state: State, id: str, wanted: Resource | None) -> bool:
    record = state.records.get(id)
    if record is None:
        return wanted is None
    if wanted is None:
        # It is known for as long as somebody has it open; at rest that is nobody.
        return state.assignments[id, 0].phase.value == Phase.REMOVING.value and record.following is None
    # Not as a definition: what a node's intake has put into that beside the resource is not this one's to say.
    return resource_of(record.following or record.definition) == wanted
