"""
Budgets of whole clusters under faults, judged by the third party.

Not with processes that their host freezes: what one of these has open stays open after its permits have ended.
"""

from __future__ import annotations

import pytest

from pydrm import Resource
from pydrm.testing.simulation import SimulatedCluster
from pydrm.testing.simulation.faults import PROFILES, Misfortune
from pydrm.testing.simulation.third_party import Connection
from tests.simulation.build import CLUSTERS

GROUP = "third-party"
CONNECTIONS = 4
CONNECTS_PER_S = 5.0


class Budgeted(Misfortune):
    """All its resources are of one group."""

    def _resource(self, id: str) -> Resource:
        resource = super()._resource(id)
        return Resource(id, kind="held", budget=GROUP, **resource.fields)


class Turnstile:
    """
    Counts at the third party.

    Attributes:
        most: How many were connected at the busiest instant.
        opened: When each connection was accepted.
    """

    def __init__(self, cluster: SimulatedCluster) -> None:
        self.most = 0
        self.opened: list[float] = []
        third = cluster.third_party
        pass_on = third.opened

        def opened(connection: Connection) -> None:
            pass_on(connection)
            self.opened.append(cluster.scheduler.now)
            self.most = max(self.most, sum(map(len, third.held().values())))

        third.opened = opened  # type: ignore[method-assign]


def ask(cluster: SimulatedCluster, via: str, **limits: float) -> None:
    """Have *via* set the budget, or remove it."""
    node = cluster.nodes[via]
    manager = node.manager
    assert manager is not None

    async def set_budget() -> None:
        if limits:
            await manager.budgets.set(GROUP, **limits)  # type: ignore[arg-type]
        else:
            await manager.budgets.remove(GROUP)

    node.host.app.call_soon(lambda: node.host.app.create_task(set_budget()))


def budgeted(seed: int, **limits: float) -> tuple[SimulatedCluster, Turnstile]:
    cluster = SimulatedCluster(seed)
    CLUSTERS.append(cluster)
    cluster.run(2.0)
    ask(cluster, "a", **limits)
    cluster.run(0.5)
    assert len(cluster.nodes["b"].manager.budgets.list()) == 1  # type: ignore[union-attr]
    return cluster, Turnstile(cluster)


@pytest.mark.parametrize("profile", ["crashes", "network", "churn", "repeats", "disks"])
@pytest.mark.parametrize("seed", range(2))
def test_no_more_are_connected_than_the_limit_whatever_goes_wrong(seed: int, profile: str) -> None:
    """And once it is taken away, everything is held as always."""
    cluster, turnstile = budgeted(seed, connections=CONNECTIONS)
    Budgeted(cluster, PROFILES[profile]).run(30)
    cluster.heal()
    cluster.run(10)

    assert turnstile.most <= CONNECTIONS
    assert len(turnstile.opened) >= CONNECTIONS
    for name in cluster.nodes:
        cluster.mend_disk(name)
        cluster.start(name)
    cluster.run(10)
    ask(cluster, "a")
    cluster.settle()
    assert cluster.verify() == []


def test_a_node_that_is_cut_off_connects_no_more_than_the_rate_allows() -> None:
    """Nor do the others, that take over what it had."""
    cluster, turnstile = budgeted(1, connects_per_second=CONNECTS_PER_S)
    for number in range(30):
        cluster.add(Resource(f"r{number}", kind="held", budget=GROUP), via="a")
    cluster.run(15.0)
    assert len(turnstile.opened) == 30
    for name in "abc":
        cluster.partition([name], [other for other in "abc" if other != name])
        cluster.run(8.0)
        cluster.heal()
        cluster.run(8.0)

    over, lowest = 0.0, float("inf")
    for number, at in enumerate(turnstile.opened):
        lowest = min(lowest, number - CONNECTS_PER_S * at)
        over = max(over, number - CONNECTS_PER_S * at - lowest + 1)
    assert over <= 3 + 1e-3 * CONNECTS_PER_S
    assert len(turnstile.opened) >= 60
    assert cluster.verify() == []
