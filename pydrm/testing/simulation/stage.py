"""
`Stage`: all that a simulated cluster consists of, before anything is done to it.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from pydrm.core.state import State
from pydrm.manager import ResourceManager
from pydrm.testing.simulation.held import held_by
from pydrm.testing.simulation.host import SimHost
from pydrm.testing.simulation.judge import Judge
from pydrm.testing.simulation.list_judge import ListJudge
from pydrm.testing.simulation.listing import SimListing, SimOrigin
from pydrm.testing.simulation.network import SimNetwork
from pydrm.testing.simulation.node import SimulatedNode
from pydrm.testing.simulation.receiver import SimPoster, SimReceiver
from pydrm.testing.simulation.scheduler import Scheduler
from pydrm.testing.simulation.third_party import SimThirdParty

__all__ = ["SOURCE", "Stage"]

# The id of the source that a life may have.
SOURCE = "customers"

_PORT = 7000


class Stage:
    """
    The machines, what is between them, the third party and the judge; see `SimulatedCluster`.

    What can be done to it is in the classes that derive from this one.

    Attributes:
        published: The ids of events that were acknowledged.
    """

    def __init__(
        self,
        seed: int,
        *,
        nodes: int,
        workers: int,
        lease_ttl: float,
        set_up: Callable[[ResourceManager, SimHost], None] | None,
    ) -> None:
        self.seed = seed
        self.trace: list[str] = []
        self.random = Random(seed)
        self.scheduler = Scheduler()
        self.network = SimNetwork(self.scheduler, Random(self.random.random()))
        self.third_party = SimThirdParty(
            lambda: self.scheduler.now,
            self._note,
            call_later=self.scheduler.call_later,
            random=Random(self.random.random()).random,
        )
        self.receiver = SimReceiver(
            lambda: self.scheduler.now,
            self._note,
            call_later=self.scheduler.call_later,
            # Of a seed of its own: what there was before webhooks lives as it did.
            random=Random(seed + 1).random,
            states=self._states,
        )
        # Likewise.
        self.listing = SimListing(self._note, Random(seed + 2))
        self.published: list[str] = []
        self._first_asked: dict[str, list[tuple[str, bool]]] = {}
        self._lease_ttl = lease_ttl
        self._set_up = set_up or self._set_up_held
        voters = [chr(ord("a") + number) for number in range(nodes)]
        names = voters + [f"w{number + 1}" for number in range(workers)]
        self._addresses = {name: f"127.0.1.{number + 1}:{_PORT}" for number, name in enumerate(names)}
        self._peers = {name: self._addresses[name] for name in voters}
        self.nodes = {name: self._make_node(name) for name in names}
        self._judge = Judge(self.nodes.values(), self.third_party)
        self.acknowledged = self._judge.acknowledged
        self.uncertain = self._judge.uncertain
        self._list_judge = ListJudge(
            SOURCE, self.listing, self.nodes.values(), lambda: self.acknowledged.keys() | self.uncertain
        )

    @property
    def formed(self) -> bool:
        """Whether the cluster has come into being; before that, nobody has promised anything."""
        return self._judge.formed

    def _states(self) -> list[State]:
        """What each node that runs knows."""
        return [node.state for node in self.nodes.values() if node.state is not None]

    # --- how ---------------------------------------------------------------------------------------------------------

    def _make_node(self, name: str) -> SimulatedNode:
        address = self._addresses[name].partition(":")[0]
        self.network.give_address(name, address)
        host = SimHost(name, self.scheduler, self.network, Random(self.random.random()))
        node = SimulatedNode(name, host)
        host.died = lambda: self._died(node)
        return node

    def _died(self, node: SimulatedNode) -> None:
        self._note(f"{node.name} is gone")
        node.asked = 0
        self.third_party.host_gone(node.host)

    def _set_up_held(self, manager: ResourceManager, host: SimHost) -> None:
        manager.handler("held", held_by(host, self.third_party, host.random, host.clock))
        manager._built_in.webhook.use(lambda: SimPoster(self.receiver, host))
        manager._sources.install("listed", SimOrigin(self.listing, self.third_party, host))

    def _note(self, what: str) -> None:
        self.trace.append(f"{self.scheduler.now:.6f} {what}")
