"""
Webhooks with a crash at every point of the ledger: at most once never posts twice, at least once never loses.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from pydrm.core.events import DeliveryState
from pydrm.testing.simulation import SimulatedCluster
from pydrm.testing.simulation.faults import live
from tests.simulation.build import CLUSTERS, TTL_S

POINTS = [
    "before the claim",
    "when the claim is committed",
    "before the request",
    "while the request is under way",
    "when it is answered",
    "when the result is committed",
]


def subscribed(*, once: bool, ordered: bool = False, seed: int = 1) -> SimulatedCluster:
    cluster = SimulatedCluster(seed, lease_ttl=TTL_S)
    CLUSTERS.append(cluster)
    cluster.run(2.0)
    cluster.add(cluster.webhook("hook", once=once, ordered=ordered), via="a")
    cluster.run(1.0)
    return cluster


def holder(cluster: SimulatedCluster) -> str:
    state = cluster.nodes["a"].state or cluster.nodes["b"].state
    assert state is not None
    claim = state.assignments["hook", 0].holder
    assert claim is not None
    return claim.node


def crash_at(cluster: SimulatedCluster, name: str, point: str) -> None:
    """Have the process of *name* killed the next time that a delivery comes to this point."""
    node = cluster.nodes[name]
    assert node.manager is not None and node.manager._node is not None
    deliveries = node.manager._node.deliveries
    poster = node.manager._built_in.webhook._poster
    died = itertools.count()

    def die() -> None:
        if next(died) == 0:
            cluster.kill(name)

    def around(owner: Any, method: str, before: bool) -> None:
        original = getattr(owner, method)

        async def with_a_crash(*arguments: Any) -> Any:
            if before:
                die()
            answer = await original(*arguments)
            if not before:
                die()
            return answer

        setattr(owner, method, with_a_crash)

    match point:
        case "before the claim":
            around(deliveries.claims, "put", before=True)
        case "when the claim is committed":
            around(deliveries.claims, "put", before=False)
        case "before the request":
            around(poster, "post", before=True)
        case "when it is answered":
            around(poster, "post", before=False)
        case "when the result is committed":
            around(deliveries.settlements, "put", before=False)
        case _:
            sent = cluster.receiver.sent

            def sent_and_dead(*arguments: Any) -> None:
                sent(*arguments)
                die()

            cluster.receiver.sent = sent_and_dead  # type: ignore[method-assign]


@pytest.mark.parametrize("once", [False, True], ids=["at least once", "at most once"])
@pytest.mark.parametrize("point", POINTS)
def test_a_crash_at_any_point_neither_loses_nor_doubles(point: str, once: bool) -> None:
    """Whatever the mode cannot promise is reported, and that is the only thing left."""
    cluster = subscribed(once=once)
    victim = holder(cluster)
    crash_at(cluster, victim, point)
    via = next(name for name in cluster.nodes if name != victim)
    cluster.publish("e1", via=via)
    cluster.run(1.0)
    assert not cluster.nodes[victim].host.alive
    cluster.run(2 * TTL_S)
    cluster.settle()

    assert cluster.verify() == []
    arrived = cluster.receiver.arrived["hook", "e1"]
    state = cluster.nodes[via].state
    assert state is not None
    left = [delivery.state for delivery in state.ledger.deliveries()]
    if once:
        assert arrived == 1 or left == [DeliveryState.DEAD]
        assert arrived <= 1
    else:
        assert (arrived >= 1, left) == (True, [])


@pytest.mark.parametrize("once", [False, True], ids=["at least once", "at most once"])
@pytest.mark.parametrize("point", POINTS)
def test_with_ordered_a_crash_at_any_point_lets_no_event_overtake_another(point: str, once: bool) -> None:
    """Each is over before the next one is sent, whoever sends it."""
    cluster = subscribed(once=once, ordered=True)
    victim = holder(cluster)
    via = next(name for name in cluster.nodes if name != victim)
    cluster.publish("e1", via=via)
    cluster.run(1.0)
    crash_at(cluster, victim, point)
    for id in ("e2", "e3", "e4"):
        cluster.publish(id, via=via)
        cluster.run(0.001)
    cluster.run(1.0)
    assert not cluster.nodes[victim].host.alive
    cluster.run(2 * TTL_S)
    cluster.settle()

    assert cluster.verify() == []
    arrived = [id for _, id in cluster.receiver.arrived]
    assert arrived == [id for id in ("e1", "e2", "e3", "e4") if id in arrived]
    assert {"e1", "e3", "e4"} <= {*arrived}


def test_with_ordered_what_waits_for_its_next_try_holds_up_what_comes_after_it() -> None:
    cluster = subscribed(once=False, ordered=True)
    cluster.receiver_fails()
    cluster.publish("e1", via="a")
    cluster.run(1.0)
    cluster.publish("e2", via="b")
    cluster.run(1.0)
    cluster.receiver_works()
    cluster.run(1.0)
    assert cluster.receiver.arrived == {("hook", "e1"): 1}

    cluster.run(10.0)

    assert cluster.receiver.arrived == {("hook", "e1"): 2, ("hook", "e2"): 1}
    assert cluster.verify() == []


def test_a_node_that_is_thawed_sends_nothing_that_its_successor_may_have_sent() -> None:
    """It was stopped between the claim's commit and the request."""
    cluster = subscribed(once=True)
    victim = holder(cluster)
    node = cluster.nodes[victim]
    assert node.manager is not None and node.manager._node is not None
    claims = node.manager._node.deliveries.claims
    put = claims.put

    async def put_and_stop(claim: Any) -> None:
        await put(claim)
        cluster.pause(victim)

    claims.put = put_and_stop  # type: ignore[method-assign]
    cluster.publish("e1", via=next(name for name in cluster.nodes if name != victim))
    cluster.run(3 * TTL_S)
    claims.put = put  # type: ignore[method-assign]
    cluster.resume(victim)
    cluster.settle()

    assert cluster.verify() == []
    assert cluster.receiver.arrived["hook", "e1"] == 0


@pytest.mark.parametrize("seed", range(6))
def test_webhooks_keep_their_promises_through_everything(seed: int) -> None:
    """Crashes, power cuts, pauses, partitions, and a receiver with moods of its own."""
    life = live(seed, profile="webhooks")

    assert life.violations == [], f"python -m pydrm.testing.simulate --seeds {seed} --profile webhooks --trace"
