"""Simulated clusters as most tests want them, and what they ask about them."""

from __future__ import annotations

from pydrm import Resource
from pydrm.testing.simulation import SimulatedCluster

__all__ = ["CLUSTERS", "TTL_S", "holding", "leader", "loads"]

TTL_S = 2.0

# Every cluster that the test at hand has made; they are closed after it.
CLUSTERS: list[SimulatedCluster] = []


def holding(resources: int, *, nodes: int = 3, seed: int = 1) -> SimulatedCluster:
    """A cluster at rest."""
    cluster = SimulatedCluster(seed, nodes=nodes, lease_ttl=TTL_S)
    CLUSTERS.append(cluster)
    cluster.run(2.0)
    for number in range(resources):
        cluster.add(Resource(f"r{number}", kind="held"), via="a")
    cluster.run(1.0)
    assert loads(cluster) == [resources // nodes] * nodes
    return cluster


def loads(cluster: SimulatedCluster) -> list[int]:
    held = cluster.third_party.held()
    return [sum(held[id][0].host is node.host for id in held) for node in cluster.nodes.values()]


def leader(cluster: SimulatedCluster) -> str:
    return next(node.manager.status()["leader"] for node in cluster.nodes.values() if node.host.alive)
