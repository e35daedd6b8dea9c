"""
A rolling upgrade, with two real versions of pydrm in one cluster; see `versions`.

Equal digests at equal index, one holder and nothing lost are what `verify` looks at in every run, all the time.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from pydrm import ClusterRefused, Outdated, Resource
from pydrm.core import machine
from pydrm.core.commands import RaiseProtocol
from pydrm.engine.codec import encode_command
from pydrm.engine.replica import Replica
from pydrm.testing.simulation import SimulatedCluster
from pydrm.testing.simulation.cluster import Version
from pydrm.testing.simulation.faults import Misfortune
from tests.simulation.versions import NOTE, next_version

OLD, NEXT = Version(), next_version()
NEW = NEXT.version
RUNNING: list[SimulatedCluster] = []
# A third of "everything", so that there is a majority most of the time.
TROUBLE = {
    "kill": 0.05,
    "power_cut": 0.03,
    "isolate": 0.05,
    "cut_one_way": 0.03,
    "pause": 0.02,
    "slow": 0.03,
    "reset": 0.1,
}


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while RUNNING:
        RUNNING.pop().close()


def old_cluster(seed: int = 1, resources: int = 9) -> SimulatedCluster:
    """Three nodes of this version, which hold some resources."""
    cluster = SimulatedCluster(seed)
    RUNNING.append(cluster)
    cluster.run(2.0)
    for number in range(resources):
        cluster.add(Resource(f"r{number}", kind="held"), via="a")
    cluster.run(1.0)
    assert len(cluster.third_party.held()) == resources
    return cluster


def protocols(cluster: SimulatedCluster) -> set[int]:
    """In force, as the running nodes know it."""
    states = [node.state for node in cluster.nodes.values()]
    return {state.settings.protocol for state in states if state is not None and state.settings is not None}


def restart(cluster: SimulatedCluster, name: str, version: Version) -> None:
    """SIGTERM; when it is gone, start as *version*."""
    cluster.stop(name)
    while cluster.nodes[name].host.alive:
        cluster.run(0.1)
    cluster.start(name, version)


def come_and_go(cluster: SimulatedCluster, numbers: Iterator[int], seconds: float) -> None:
    """Resources are added and removed by everybody in turn."""
    for _ in range(round(seconds / 0.2)):
        number = next(numbers)
        via = "abc"[number % 3]
        cluster.add(Resource(f"n{number}", kind="held", size="x" * 200), via=via)
        if number > 5:
            cluster.remove(f"n{number - 5}", via=via)
        cluster.run(0.2)


def partly_upgraded() -> SimulatedCluster:
    """a and b run the next version, and one of them leads; c runs this one."""
    cluster = old_cluster()
    for name, version in (("a", NEW), ("b", NEW), ("c", OLD)):
        restart(cluster, name, version)
        cluster.run(2.0)
    assert leader(cluster) in "ab"
    assert protocols(cluster) == {1}
    assert opened_by(cluster, "c") >= 3
    return cluster


def upgraded() -> SimulatedCluster:
    """All three run the next version, and the protocol has been raised."""
    cluster = old_cluster()
    for name in "abc":
        restart(cluster, name, NEW)
        cluster.run(1.0)
    cluster.run(1.0)
    assert protocols(cluster) == {2}
    return cluster


def ask(cluster: SimulatedCluster, name: str, method: str, *arguments: object) -> Any:
    """What a method of that node's manager returns, or raises."""
    node = cluster.nodes[name]
    outcomes: list[Any] = []

    async def call() -> None:
        try:
            outcomes.append(await getattr(node.manager, method)(*arguments))
        except ClusterRefused as error:
            outcomes.append(error)

    node.host.app.call_soon(lambda: node.host.app.create_task(call()))
    cluster.run(1.0)
    (outcome,) = outcomes
    return outcome


def notes(cluster: SimulatedCluster, id: str) -> set[str]:
    return {node.state.records[id].note for node in cluster.nodes.values()}


def leader(cluster: SimulatedCluster) -> str:
    return next(node.manager.status()["leader"] for node in cluster.nodes.values() if node.host.alive)


# --- the upgrade -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["abc", "cba"])
def test_nodes_are_upgraded_one_by_one_while_resources_come_and_go(order: str):
    """The protocol is raised when the third is new, by itself; then what came with it can be used."""
    cluster = old_cluster()
    numbers = itertools.count()
    seen = []

    for name in order:
        restart(cluster, name, NEW)
        come_and_go(cluster, numbers, 4.0)
        seen.append(protocols(cluster))
    cluster.add(Resource("late", kind="held"), via="b")
    cluster.run(1.0)

    assert seen == [{1}, {1}, {2}]
    assert ask(cluster, "a", "annotate", "r1", "seen") is None
    assert notes(cluster, "r1") == {"seen"}
    assert notes(cluster, "late") == {NOTE}
    cluster.settle()
    assert cluster.verify() == []


@pytest.mark.parametrize("seed", range(20))
def test_an_upgrade_is_survived_under_kills_and_partitions(seed: int):
    """Nodes that die in the middle of it come back as what they were, or as what they are to become."""
    with SimulatedCluster(seed) as cluster:
        trouble = Misfortune(cluster, TROUBLE)
        trouble.run(4.0)
        for name in cluster.random.sample("abc", 3):
            assert protocols(cluster) <= {1}
            if cluster.random.random() < 0.5:
                cluster.stop(name)
            trouble.run(1.0)
            cluster.kill(name)
            cluster.start(name, NEW)
            trouble.run(4.0)
        cluster.settle()
        cluster.run(2.0)

        assert protocols(cluster) == {2}
        assert cluster.verify() == []


def test_what_a_new_field_means_too_early_is_found(monkeypatch: pytest.MonkeyPatch):
    """A next version that looks at it at once: so the runs above can fail."""
    monkeypatch.setattr(NEXT.module("core.decide_resources"), "_note", lambda state, command: command.note)
    cluster = old_cluster()

    restart(cluster, "a", NEW)
    cluster.run(1.0)
    cluster.add(Resource("early", kind="held"), via="a")
    cluster.run(1.0)

    assert any("differ at index" in problem for problem in cluster.verify())


def test_a_node_can_go_back_until_the_protocol_is_raised():
    """What the new one wrote, its snapshots too, the old one reads."""
    cluster = old_cluster()
    numbers = itertools.count()

    for name, version in (("a", NEW), ("b", NEW), ("a", OLD), ("b", OLD)):
        restart(cluster, name, version)
        come_and_go(cluster, numbers, 3.0)

    assert protocols(cluster) == {1}
    cluster.settle()
    assert cluster.verify() == []


def test_the_snapshot_of_a_new_leader_is_read_by_an_old_follower(monkeypatch: pytest.MonkeyPatch):
    installed = []
    install = Replica._install

    def note(self, heading, state):
        installed.append(heading.index)
        install(self, heading, state)

    monkeypatch.setattr(Replica, "_install", note)  # of this version only
    cluster = old_cluster()
    cluster.kill("c")
    for name in "ab":
        restart(cluster, name, NEW)
        cluster.run(3.0)
    come_and_go(cluster, itertools.count(), 12.0)

    cluster.start("c")
    cluster.run(3.0)

    assert leader(cluster) in "ab"
    assert installed != []
    assert cluster.nodes["c"].state.digest == cluster.nodes["a"].state.digest
    cluster.settle()
    assert protocols(cluster) == {1}
    assert cluster.verify() == []


# --- before the raise ------------------------------------------------------------------------------------------------


def test_what_is_new_is_not_proposed_before_its_protocol_is_in_force():
    """Old nodes would stop at it."""
    cluster = partly_upgraded()

    refused = ask(cluster, "a", "annotate", "r1", "too early")

    assert isinstance(refused, ClusterRefused)
    assert refused.reason == "unsupported"
    assert "Annotate needs protocol 2; it is raised once all nodes are up to date" in str(refused)
    assert all(node.host.alive and node.failure is None for node in cluster.nodes.values())
    assert cluster.verify() == []


def test_one_that_is_proposed_all_the_same_stops_the_old_node_and_it_says_so(monkeypatch: pytest.MonkeyPatch):
    """It lets go of what it held, and does not guess."""
    cluster = partly_upgraded()
    monkeypatch.setattr(NEXT.module("engine.engine"), "objection", lambda *_: None)

    refused = ask(cluster, "a", "annotate", "r1", "too early")
    cluster.run(3.0)

    assert refused.reason == "unsupported"
    stopped_as_outdated(cluster, "c", "command 100 is of a newer version of pydrm; start a newer pydrm here")
    assert len(cluster.third_party.held()) == 9
    assert cluster.verify() == []


# --- after the raise -------------------------------------------------------------------------------------------------


def stopped_as_outdated(cluster: SimulatedCluster, name: str, words: str) -> None:
    node = cluster.nodes[name]
    assert isinstance(node.failure, Outdated)
    assert words in str(node.failure)
    assert not node.host.alive
    assert all(c.host is not node.host for held in cluster.third_party.held().values() for c in held)


def opened_by(cluster: SimulatedCluster, name: str) -> int:
    return len([line for line in cluster.trace if f" {name} opens " in line])


def test_an_old_node_that_is_started_after_the_raise_stops_and_says_what_to_do():
    """It has never held anything by then; as a new one it goes on with the same data directory."""
    cluster = upgraded()
    cluster.kill("c")
    cluster.run(3.0)
    opened = opened_by(cluster, "c")

    cluster.start("c", OLD)
    cluster.run(3.0)

    stopped_as_outdated(cluster, "c", "and this pydrm can apply no more than protocol 1; start a newer pydrm here")
    assert opened_by(cluster, "c") == opened
    cluster.start("c", NEW)
    cluster.settle()
    assert cluster.verify() == []


@pytest.mark.parametrize("how", ["by its own snapshot", "by the log", "by the leader's snapshot"])
def test_an_old_node_learns_of_the_raise(how: str):
    """However it comes to know, it stops."""
    # What these say makes the log long enough for a snapshot, if there are more.
    cluster = old_cluster(resources=3 if how == "by the log" else 9)
    numbers = itertools.count()
    for name in "cab":
        restart(cluster, name, NEW)
        cluster.run(0.0 if name == "b" else 1.0)
        if name == "a" and how != "by its own snapshot":
            cluster.kill("c")  # joined as new, it is not waited for
            cluster.run(3.0)
    cluster.run(2.0)
    assert protocols(cluster) == {2}
    if how != "by the log":
        come_and_go(cluster, numbers, 12.0)
    cluster.kill("c")
    cluster.run(3.0)

    cluster.start("c", OLD)
    cluster.run(3.0)

    words = "protocol 2 is in force" if how == "by the log" else "is of protocol 2"
    stopped_as_outdated(cluster, "c", words)
    assert cluster.verify() == []


def test_a_raise_that_comes_too_early_is_refused_by_all(monkeypatch: pytest.MonkeyPatch):
    """A leader that is wrong about it does no harm."""
    cluster = partly_upgraded()
    monkeypatch.setattr(NEXT.module("agent.leading"), "raisable", lambda state: 2)

    cluster.run(3.0)

    assert protocols(cluster) == {1}
    assert all(node.host.alive for node in cluster.nodes.values())
    assert cluster.verify() == []


def test_were_it_to_take_effect_the_old_nodes_would_stop_and_say_so(monkeypatch: pytest.MonkeyPatch):
    """Rather than go on as something else: the rest holds what they held."""

    cluster = partly_upgraded()
    take_any_raise(monkeypatch, machine, RaiseProtocol)
    take_any_raise(monkeypatch, NEXT.module("core.machine"), NEXT.module("core.commands").RaiseProtocol)
    monkeypatch.setattr(NEXT.module("agent.leading"), "raisable", lambda state: 2)

    cluster.run(4.0)

    assert protocols(cluster) == {2}
    stopped_as_outdated(cluster, "c", "protocol 2 is in force, and this pydrm can apply no more than protocol 1")
    assert len(cluster.third_party.held()) == 9
    assert cluster.verify() == []
    cluster.start("c", NEW)
    cluster.settle()
    assert cluster.verify() == []


def take_any_raise(patch: pytest.MonkeyPatch, machine: Any, command: type) -> None:
    """Nobody looks any more at who could not apply it."""
    decide = machine._DECIDERS[command]

    def blind(state: Any, raising: Any) -> Any:
        able = {name: replace(node, protocol=raising.to) for name, node in state.nodes.items()}
        return decide(SimpleNamespace(settings=state.settings, nodes=able), raising)

    patch.setitem(machine._DECIDERS, command, blind)


def test_both_versions_write_an_old_command_so_that_the_other_reads_it():
    """What the copy is of: other classes, the same bytes but for the new field."""
    commands = NEXT.module("core.commands")
    codec = NEXT.module("engine.codec")

    assert commands.RaiseProtocol is not RaiseProtocol
    assert codec.encode_command(commands.RaiseProtocol(2)) == encode_command(RaiseProtocol(2))
    assert b"note" in codec.encode_command(commands.AddResources((), note="x"))
