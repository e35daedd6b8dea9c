"""`drm.send` on simulated nodes, which are cut off from each other, killed and cannot tell: what was said came true."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import pytest

from pydrm import ClusterRefused, Hold, Resource, ResourceManager, Unavailable
from pydrm.testing.simulation import SimulatedCluster
from tests.simulation.build import leader


class Lines:
    """
    A kind whose resources write down what they are told to send, and what the senders were told.

    Attributes:
        written: Each message, with how often it was written.
    """

    def __init__(self) -> None:
        self.written: dict[str, int] = {}
        self.delivered: list[str] = []
        self.refused: list[str] = []
        self.unknown: list[str] = []
        self._random = random.Random(5)

    def set_up(self, drm: ResourceManager, host: object) -> None:
        @drm.handler("line")
        async def line(hold: Hold) -> None:
            async def send(data: str | bytes) -> None:
                assert isinstance(data, str)
                await asyncio.sleep(0.01 * self._random.random())
                if hold.valid:
                    self.written[data] = self.written.get(data, 0) + 1

            hold.on_send(send)
            hold.ready()
            await asyncio.Event().wait()

    def send(self, cluster: SimulatedCluster, via: str, id: str, text: str) -> None:
        node = cluster.nodes[via]
        manager = node.manager
        if manager is None or not node.host.alive:
            return

        async def ask() -> None:
            try:
                await manager.send(id, text, timeout=2)
            except ClusterRefused:
                self.refused.append(text)
            except Unavailable as error:
                (self.refused if error.unsent else self.unknown).append(text)
            else:
                self.delivered.append(text)

        node.host.app.call_soon(lambda: node.host.app.create_task(ask()))


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def cluster(lines: Lines, request: pytest.FixtureRequest) -> Iterator[SimulatedCluster]:
    with SimulatedCluster(getattr(request, "param", 1), nodes=3, workers=2, set_up=lines.set_up) as cluster:
        cluster.run(3.0)
        for number in range(10):
            cluster.add(Resource(f"r{number}", kind="line"), via="a")
        cluster.run(2.0)
        yield cluster


def test_every_node_reaches_every_resource(cluster: SimulatedCluster, lines: Lines):
    sent = [f"{name} r{number}" for name in cluster.nodes for number in range(10)]

    for text in sent:
        lines.send(cluster, *text.split(), text)
    cluster.run(1.0)

    assert sorted(lines.delivered) == sorted(sent)
    assert lines.written == dict.fromkeys(sent, 1)


def test_two_followers_that_lost_each_other_go_through_the_leader(cluster: SimulatedCluster, lines: Lines):
    one, other = (name for name in "abc" if name != leader(cluster))
    cluster.cut(one, other)
    cluster.cut(other, one)
    cluster.run(5.0)

    for number in range(10):
        lines.send(cluster, one, f"r{number}", f"{one} r{number}")
        lines.send(cluster, other, f"r{number}", f"{other} r{number}")
    cluster.run(3.0)

    assert len(lines.delivered) == 20


def test_a_node_that_has_lost_all_others_says_that_nothing_was_sent(cluster: SimulatedCluster, lines: Lines):
    for name in cluster.nodes:
        if name != "a":
            cluster.kill(name)
    cluster.run(5.0)

    for number in range(10):
        lines.send(cluster, "a", f"r{number}", f"r{number}")
    cluster.run(3.0)

    assert len(lines.refused) == 10
    assert lines.written == {}


@pytest.mark.parametrize("cluster", range(1, 9), indirect=True)
def test_whatever_happens_delivered_is_written_and_refused_is_not(cluster: SimulatedCluster, lines: Lines):
    dice = random.Random(cluster.trace[-1])
    names = list(cluster.nodes)
    for step in range(60):
        for _ in range(5):
            lines.send(cluster, dice.choice(names), f"r{dice.randrange(10)}", f"{step} {_}")
        name, other = dice.sample(names, 2)
        match dice.randrange(8):
            case 0:
                cluster.kill(name)
            case 1:
                cluster.start(name)
            case 2:
                cluster.cut(name, other)
            case 3:
                cluster.heal()
            case 4:
                cluster.pause(name)
            case 5:
                cluster.resume(name)
            case 6:
                cluster.reset(name, other)
        cluster.run(0.2 * dice.random())
    cluster.heal()
    for name in names:
        cluster.nodes[name].host.resume()
        cluster.start(name)
    cluster.run(10.0)

    assert set(lines.delivered) <= set(lines.written)
    assert not set(lines.refused) & set(lines.written)
    assert set(lines.written.values()) == {1}
    assert lines.delivered
    assert not cluster.scheduler.errors
