"""
Sources in whole clusters: exactly one node fetches, and what comes of its list is by the newest list that was believed.
"""

from __future__ import annotations

from typing import Any

import pytest

from pydrm.testing.simulation import SimulatedCluster
from pydrm.testing.simulation.faults import live
from pydrm.testing.simulation.listing import LIES, PASSING, STABLE, TAKEN
from tests.simulation.build import CLUSTERS, TTL_S, leader


def fed(*, seed: int = 1) -> SimulatedCluster:
    """A cluster at rest with all that the list has."""
    cluster = SimulatedCluster(seed, lease_ttl=TTL_S)
    CLUSTERS.append(cluster)
    cluster.run(2.0)
    cluster.add(cluster.source(), via="a")
    cluster.run(2.0)
    assert set(STABLE) <= cluster.third_party.held().keys()
    return cluster


def fetcher(cluster: SimulatedCluster) -> str:
    """By the newest token: a process that is stopped has its connection still open."""
    newest = max(cluster.third_party.holders("customers"), key=lambda connection: connection.token)
    return str(newest.host.name)


def other_than(cluster: SimulatedCluster, name: str) -> str:
    return next(other for other in cluster.nodes if other != name)


def change(cluster: SimulatedCluster, id: str) -> int:
    """The list has a new *id*, or none any more if it is one that comes and goes and was there; since when."""
    listing = cluster.listing
    listing.serial += 1
    listing.past[id].append((listing.serial, id in STABLE or not listing.past[id][-1][1]))
    cluster.third_party.may_begin_anew(id)
    return listing.serial


def test_whoever_fetches_dies_and_another_goes_on() -> None:
    cluster = fed()
    first = fetcher(cluster)
    change(cluster, PASSING[0])
    cluster.kill(first)
    cluster.run(2 * TTL_S)

    assert fetcher(cluster) != first
    assert PASSING[0] in cluster.third_party.held()
    cluster.settle()
    assert cluster.verify() == []


@pytest.mark.parametrize("how", [*LIES, "down"])
def test_a_list_that_lies_or_is_down_moves_nothing(how: str) -> None:
    cluster = fed()
    moves = cluster.third_party.moves
    if how == "down":
        cluster.list_is_down()
    else:
        cluster.list_lies(how)
    # For less than what it takes until the source is opened anew for that.
    cluster.run(4.0)
    assert cluster.third_party.moves == moves
    cluster.settle()

    assert cluster.verify() == []


def test_what_the_app_added_is_not_touched_whatever_the_list_has_of_it() -> None:
    cluster = fed()
    for id in TAKEN:
        cluster.take_from_list(id, via="b")
        change(cluster, id)
    cluster.run(2.0)
    for id in TAKEN:
        change(cluster, id)
    cluster.run(2.0)
    cluster.settle()

    assert cluster.verify() == []
    manager = cluster.nodes["c"].manager
    assert manager is not None
    assert [manager.get(id)["version"] for id in TAKEN] == ["of the app"] * len(TAKEN)  # type: ignore[index]


def test_what_the_app_removed_comes_back_while_the_list_has_it() -> None:
    cluster = fed()
    cluster.remove_from_under_list(STABLE[-1], via="b")
    cluster.run(2.0)
    cluster.settle()

    assert cluster.verify() == []
    assert STABLE[-1] in cluster.third_party.held()


def test_what_the_app_removes_while_whoever_fetches_does_not_hear_of_it_comes_back_too() -> None:
    """It finds a change in the list, and hears only of what it made of that together with the removal."""
    cluster = fed()
    while (first := fetcher(cluster)) == (leading := leader(cluster)):
        cluster.stop(first)
        cluster.run(1.0)
        cluster.start(first)
        cluster.run(2.0)
    cluster.cut(leading, first)
    cluster.remove_from_under_list(STABLE[-1], via=leading)
    cluster.run(0.05)
    change(cluster, STABLE[0])
    cluster.run(0.6)
    cluster.join(leading, first)
    cluster.settle()

    assert cluster.verify() == []
    assert STABLE[-1] in cluster.third_party.held()


def test_a_node_that_thaws_with_an_old_list_in_its_hands_changes_nothing() -> None:
    """It was stopped after it had fetched; meanwhile another has brought what is newer."""
    cluster = fed()
    first = fetcher(cluster)
    cluster.list_is_late(0.2)
    change(cluster, STABLE[0])
    asked = cluster.listing.served
    while cluster.listing.served == asked:
        cluster.run(0.01)
    cluster.pause(first)
    cluster.list_works()
    newer = change(cluster, STABLE[0])
    cluster.run(3 * TTL_S)
    assert fetcher(cluster) != first
    cluster.resume(first)
    cluster.settle()

    assert cluster.verify() == []
    state = cluster.nodes[first].state
    assert state is not None
    manager = cluster.nodes[first].manager
    assert manager is not None
    assert manager.get(STABLE[0])["version"] == newer  # type: ignore[index]


@pytest.mark.parametrize("command", ["AddResources", "RemoveResources"])
def test_a_crash_between_any_two_commands_of_a_list_is_mended_by_the_next_holder(command: str) -> None:
    cluster = fed()
    change(cluster, PASSING[0])
    cluster.run(1.0)
    first = fetcher(cluster)
    node = cluster.nodes[first]
    assert node.manager is not None and node.manager._node is not None
    engine = node.manager._node.engine
    propose = engine.propose

    async def propose_and_die(said: Any, *, timeout: float) -> Any:
        answer = await propose(said, timeout=timeout)
        if type(said).__name__ == command:
            cluster.kill(first)
        return answer

    engine.propose = propose_and_die  # type: ignore[method-assign]
    change(cluster, PASSING[0])
    change(cluster, PASSING[1])
    cluster.run(1.0)
    assert not node.host.alive
    cluster.settle()

    assert cluster.verify() == []
    held = cluster.third_party.held()
    assert PASSING[0] not in held
    assert PASSING[1] in held


@pytest.mark.parametrize("seed", range(6))
def test_sources_keep_their_promises_through_everything(seed: int) -> None:
    """Crashes, power cuts, pauses, partitions, an app that meddles, and a list with moods of its own."""
    life = live(seed, profile="sources")

    assert life.violations == [], f"python -m pydrm.testing.simulate --seeds {seed} --profile sources --trace"
