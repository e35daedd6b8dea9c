"""Whole nodes on a virtual clock: what one fault at a time costs. The times are virtual, so they can be tight."""

from __future__ import annotations

import pytest

from pydrm import Resource
from pydrm.testing.simulation import SimulatedCluster
from tests.simulation.build import TTL_S, holding, leader, loads
from tests.simulation.plants import empty_voter_counts


def seconds_until(cluster: SimulatedCluster, wanted: list[int], *, within: float) -> float:
    began = cluster.scheduler.now
    while loads(cluster) != wanted:
        assert cluster.scheduler.now - began < within, f"{loads(cluster)} after {within} s"
        cluster.run(0.005)
    return cluster.scheduler.now - began


@pytest.mark.parametrize("who", ["leader", "follower"])
def test_what_a_killed_node_held_is_held_again_when_its_lease_is_over(who: str):
    cluster = holding(9)
    killed = leader(cluster) if who == "leader" else next(n for n in cluster.nodes if n != leader(cluster))

    cluster.kill(killed)
    wanted = [0 if name == killed else 5 for name in cluster.nodes]
    cluster.run(TTL_S + 0.3)

    assert sorted(loads(cluster)) == [0, 4, 5]
    assert loads(cluster)[list(cluster.nodes).index(killed)] == wanted[list(cluster.nodes).index(killed)]
    assert cluster.verify() == []


def test_a_graceful_stop_leaves_no_gap_that_anybody_would_notice():
    cluster = holding(9)

    cluster.stop("b")
    cluster.run(1.0)

    assert sorted(loads(cluster)) == [0, 4, 5]
    assert longest_gap(cluster) < 0.05
    assert cluster.verify() == []


def test_a_leader_that_stops_has_another_one_lead_before_it_is_gone():
    """With nobody leading nothing could be placed for an election timeout."""
    cluster = holding(9)
    old = leader(cluster)
    cluster.stop(old)
    leads = {old}
    for _ in range(1000):
        if not cluster.nodes[old].host.alive:
            break
        leads = {node.manager.status()["leader"] for name, node in cluster.nodes.items() if name != old}
        cluster.run(0.01)

    assert not cluster.nodes[old].host.alive
    assert len(leads) == 1
    assert not leads & {old, None}
    assert cluster.verify() == []


def test_a_node_that_comes_back_gets_its_share_by_the_least_moves():
    cluster = holding(9)
    cluster.kill("c")
    cluster.run(3.0)
    before = len([line for line in cluster.trace if "opens" in line])

    cluster.start("c")
    cluster.run(2.0)

    assert loads(cluster) == [3, 3, 3]
    assert len([line for line in cluster.trace if "opens" in line]) - before == 3
    assert cluster.verify() == []


def test_a_node_that_is_started_again_at_once_does_not_wait_for_its_own_lease():
    """It holds the lock of the same directory, so the process before it is gone."""
    cluster = holding(9)

    cluster.kill("b")
    cluster.start("b")

    assert seconds_until(cluster, [3, 3, 3], within=1.0) < 1.0
    assert cluster.verify() == []


def test_a_node_that_is_cut_off_lets_go_before_the_others_take_over():
    cluster = holding(9)

    cluster.partition("ab", "c")
    seconds_until(cluster, [3, 3, 0], within=TTL_S)
    cluster.run(TTL_S)

    assert sorted(loads(cluster)) == [0, 4, 5]
    assert cluster.verify() == []


def test_a_frozen_process_cuts_what_it_had_as_soon_as_it_thaws():
    cluster = holding(9)
    cluster.pause("a")
    cluster.run(5.0)
    old = [c for held in cluster.third_party.held().values() for c in held if c.host is cluster.nodes["a"].host]

    cluster.resume("a")
    cluster.run(0.01)

    assert len(old) == 3
    assert not any(connection.open for connection in old)
    assert cluster.verify() == []


@pytest.mark.parametrize("how", ["cut off", "frozen", "half deaf"])
def test_a_node_that_comes_back_does_not_depose_a_healthy_leader(how: str):
    """Its election timeout ran out long ago, but it asks before it stands."""
    cluster = holding(9)
    leads = leader(cluster)
    away = next(name for name in cluster.nodes if name != leads)
    term = cluster.nodes[leads].manager.status()["term"]

    if how == "cut off":
        cluster.partition([name for name in cluster.nodes if name != away])
    elif how == "frozen":
        cluster.pause(away)
    else:
        cluster.cut(leads, away)
    cluster.run(8.0)
    cluster.heal()
    cluster.resume(away)
    cluster.run(3.0)

    assert (leader(cluster), cluster.nodes[leads].manager.status()["term"]) == (leads, term)
    assert loads(cluster) == [3, 3, 3]
    assert cluster.verify() == []


def test_everything_acknowledged_survives_a_power_cut_of_all():
    cluster = holding(9)

    for name in "abc":
        cluster.power_cut(name)
    cluster.run(1.0)
    cluster.settle()

    assert loads(cluster) == [3, 3, 3]
    assert cluster.verify() == []


def test_a_full_disk_stops_its_node_and_leaves_the_others_in_peace():
    cluster = holding(9)
    opened = len([line for line in cluster.trace if " opens " in line])

    cluster.nodes["b"].host.disk.full = True
    cluster.run(TTL_S + 1.0)

    assert sorted(loads(cluster)) == [0, 4, 5]
    assert len([line for line in cluster.trace if " opens " in line]) - opened == 3
    assert cluster.verify() == []


def test_an_empty_voter_does_not_help_to_elect_a_leader_that_has_forgotten():
    cluster = an_acknowledged_resource_that_only_b_still_knows()

    cluster.run(10.0)
    cluster.start("b")
    cluster.run(5.0)

    assert "precious" in cluster.nodes["b"].state.records
    assert "precious" in cluster.nodes["c"].state.records


def test_were_an_empty_voter_to_vote_what_was_acknowledged_would_be_lost(monkeypatch: pytest.MonkeyPatch):
    """The scene of the test above, with its guard taken out: so that test can fail."""
    empty_voter_counts(monkeypatch)
    cluster = an_acknowledged_resource_that_only_b_still_knows()

    cluster.run(10.0)

    assert cluster.nodes["c"].manager.status()["has_majority"]
    assert "precious" not in cluster.nodes["c"].state.records


def an_acknowledged_resource_that_only_b_still_knows() -> SimulatedCluster:
    """c was cut off when it was added, a has lost its disk since, and b is down."""
    cluster = holding(0)
    cluster.partition("ab", "c")
    cluster.run(3.0)
    cluster.add(Resource("precious", kind="held"), via="a")
    cluster.run(1.0)
    assert "precious" in cluster.acknowledged
    cluster.kill("b")
    cluster.wipe("a")
    cluster.heal()
    cluster.start("a")
    return cluster


def test_a_voter_that_lost_its_disk_is_out_until_it_is_replaced():
    """Until it is replaced by a command it neither votes nor holds anything."""
    cluster = holding(9)

    cluster.wipe("c")
    cluster.start("c")
    cluster.run(2 * TTL_S)
    assert sorted(loads(cluster)) == [0, 4, 5]
    assert not cluster.nodes["c"].votes

    cluster.settle()
    assert sorted(loads(cluster)) == [3, 3, 3]
    assert cluster.verify() == []


def test_who_takes_the_place_of_a_voter_that_lost_its_disk_does_not_take_its_vote():
    """It reads in the log that a voter of its name has one; its own comes with the replacement."""
    cluster = holding(9)
    cluster.wipe("c")
    cluster.change_voters("remove", "c", via="a")
    cluster.run(1.0)
    cluster.start("c")
    cluster.run(0.5)
    cluster.kill("a")
    cluster.kill("b")

    cluster.run(5.0)
    assert not cluster.nodes["c"].votes
    assert cluster.verify() == []

    cluster.settle()
    assert cluster.verify() == []


def test_an_answer_that_comes_after_the_lease_opens_nothing():
    """A handle is noted before it connects; so the engine cuts it, although the app's loop does nothing."""
    cluster = holding(3)
    cluster.third_party_answers_late(100.0)
    cluster.add(Resource("late", kind="held"), via="a")
    cluster.run(0.5)
    (holder,) = [view.holder for view in cluster.nodes["a"].manager.assignments() if view.resource == "late"]
    cluster.third_party_works()

    cluster.block_app(holder, 10.0)
    cluster.run(10.0)
    cluster.run(100.0)

    opened = [line.split(" ", 1)[1] for line in cluster.trace if " opens late " in line]
    assert len(opened) == 1
    assert not opened[0].startswith(holder)
    assert cluster.verify() == []


@pytest.mark.parametrize("reason", ["its resource is removed", "its node stops"])
def test_what_a_handler_that_refuses_to_end_had_is_cut_and_goes_nowhere_as_long_as_it_does(reason: str):
    """Nobody can tell what it still does; so it is shown as stuck, and nobody else opens it."""
    cluster = holding(0)
    cluster.add(Resource("r0", kind="held", mood="refuses"), via="a")
    cluster.run(1.0)
    (connection,) = cluster.third_party.held()["r0"]
    holder = connection.host.name
    if reason == "its node stops":
        cluster.stop(holder)
    else:
        cluster.remove("r0", via="a")

    cluster.run(6.0)

    assert not connection.open
    assert cluster.third_party.held() == {}
    (shown,) = cluster.nodes["a"].manager.resources()
    assert (shown["state"], shown["holder"]) == ("stuck", holder)
    cluster.settle()  # now it ends
    assert cluster.verify() == []


def longest_gap(cluster: SimulatedCluster) -> float:
    closed: dict[str, float] = {}
    longest = 0.0
    for line in cluster.trace:
        at, _, what, id = [*line.split(), "", ""][:4]
        if what == "closes":
            closed[id] = float(at)
        elif what == "opens" and id in closed:
            longest = max(longest, float(at) - closed.pop(id))
    return longest if not closed else float("inf")
