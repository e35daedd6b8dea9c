"""`drm.voters`, on simulated clusters: who has a vote, and what is said to whoever asks for what cannot be."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

import pytest

from pydrm.errors import ClusterRefused, DrmError
from pydrm.manager import ResourceManager
from pydrm.testing.simulation import SimulatedCluster


def ask(cluster: SimulatedCluster, name: str, request: Callable[[ResourceManager], Awaitable[None]]) -> str:
    """What became of a request to that node: "done", or what it failed with."""
    node = cluster.nodes[name]
    answers: list[str] = []

    async def asked() -> None:
        assert node.manager is not None
        try:
            await request(node.manager)
            answers.append("done")
        except DrmError as error:
            reason = error.reason if isinstance(error, ClusterRefused) else type(error).__name__
            answers.append(f"{reason}: {error}")

    node.host.app.call_soon(lambda: node.host.app.create_task(asked()))
    cluster.run(12.0)
    return answers[0]


@pytest.fixture
def cluster() -> Iterator[SimulatedCluster]:
    with SimulatedCluster(5, nodes=3, workers=1) as made:
        made.run(3.0)
        yield made


def voters(cluster: SimulatedCluster, name: str) -> list[str]:
    manager = cluster.nodes[name].manager
    assert manager is not None
    return manager.voters.names()


def test_a_vote_is_taken_and_given_back(cluster: SimulatedCluster):
    assert ask(cluster, "a", lambda drm: drm.voters.remove("c")) == "done"
    assert voters(cluster, "b") == ["a", "b"]

    assert ask(cluster, "b", lambda drm: drm.voters.add("c")) == "done"
    assert voters(cluster, "c") == ["a", "b", "c"]
    assert cluster.verify() == []


def test_adding_a_voter_again_changes_nothing(cluster: SimulatedCluster):
    """Whoever did not hear the answer may repeat it."""
    assert ask(cluster, "a", lambda drm: drm.voters.add("c")) == "done"
    assert voters(cluster, "a") == ["a", "b", "c"]


def test_a_node_that_is_not_there_gets_no_vote(cluster: SimulatedCluster):
    """The error says how to start it."""
    answer = ask(cluster, "a", lambda drm: drm.voters.add("d"))

    assert answer.startswith("not-found: d is not linked with a: start it, with the same cluster")


def test_a_worker_gets_no_vote(cluster: SimulatedCluster):
    """It need not have a directory to remember its votes in."""
    answer = ask(cluster, "a", lambda drm: drm.voters.add("w1"))

    assert answer.startswith("conflict: w1 is a worker")


def test_a_vote_that_nobody_has_cannot_be_taken(cluster: SimulatedCluster):
    answer = ask(cluster, "a", lambda drm: drm.voters.remove("w1"))

    assert answer == "not-found: w1 is no voter; the voters are a, b, c"


def test_the_last_vote_cannot_be_taken():
    with SimulatedCluster(5, nodes=1) as cluster:
        cluster.run(2.0)

        answer = ask(cluster, "a", lambda drm: drm.voters.remove("a"))

    assert answer == "invalid: the cluster refused: a is the last voter"


def test_without_a_majority_nothing_is_changed(cluster: SimulatedCluster):
    cluster.kill("b")
    cluster.kill("c")

    answer = ask(cluster, "a", lambda drm: drm.voters.remove("c"))

    assert answer.startswith("Unavailable")
    assert voters(cluster, "a") == ["a", "b", "c"]


def test_two_who_change_the_voters_at_once_both_get_what_they_asked_for(cluster: SimulatedCluster):
    """One of them is told that it saw an older list, and looks again."""
    for via, name in (("a", "b"), ("c", "b")):
        cluster.change_voters("remove", name, via=via)
    cluster.change_voters("add", "b", via="w1")
    cluster.run(15.0)
    cluster.settle()

    assert voters(cluster, "a") == ["a", "b", "c"]
    assert cluster.verify() == []


def test_a_node_that_is_asked_about_itself_takes_nothing_away_from_it(cluster: SimulatedCluster):
    """It is not linked with itself, so its new vote could not be given."""
    refused = ask(cluster, "b", lambda drm: drm.voters.replace("b", timeout=5))

    assert refused == "conflict: b is this node, and is not linked with itself: ask another one"
    assert voters(cluster, "a") == ["a", "b", "c"]


def test_who_asked_for_a_change_knows_of_it(cluster: SimulatedCluster):
    """Also on a node that hears of it after the leader."""
    seen = []

    async def remove(drm: ResourceManager) -> None:
        await drm.voters.remove("c")
        seen.append(drm.voters.names())

    for asked in "ab":
        ask(cluster, asked, remove)
        ask(cluster, asked, lambda drm: drm.voters.add("c"))

    assert seen == [["a", "b"]] * 2
