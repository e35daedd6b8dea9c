"""
The kind http_poll on simulated nodes, which die, freeze and are moved: judged by what the third party was asked, when.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from random import Random

import attrs
import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from pydrm import Hold, Resource, ResourceManager
from pydrm.core.state import State
from pydrm.handlers.http_poll.client import Fetched
from pydrm.handlers.http_poll.kind import HttpPoll
from pydrm.handlers.http_poll.poller import Poller
from pydrm.testing.simulation import SimulatedCluster
from pydrm.testing.simulation.host import SimHost
from tests.simulation.build import leader

# A part of those that `PYDRM_SEEDS` names.
FIRST, LAST = (int(seed) for seed in os.environ.get("PYDRM_SEEDS", "0-19").split("-"))
SEEDS = range(FIRST, LAST + 1)

INTERVAL_S = 5.0
POLLERS = 40
# A poller finds back to its phase by a tenth of the interval, and waits for others for up to a twenty-fifth of it.
LATEST_S = 1.1 * INTERVAL_S + 0.04 * INTERVAL_S + 0.05
LEASE_TTL_S = 2.0


EPOCH_S = 1_800_000_000.0
CLOCKS_DIFFER_S = 0.02


@attrs.frozen
class Asked:
    """
    Attributes:
        due_s: When it was due.
        next_s: When it was to be asked the next time.
    """

    at_s: float
    resource: str
    node: str
    token: int
    due_s: float
    next_s: float


class ThirdParty:
    """
    Attributes:
        asked: Every request that left a process, in order.
        slow: Which resources are answered after more than their interval, now and then.
    """

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.slow: set[str] = set()

    def set_up(self, drm: ResourceManager, host: SimHost) -> None:
        kind = drm._built_in._kinds["http_poll"]
        assert isinstance(kind, HttpPoll)

        @contextlib.asynccontextmanager
        async def client() -> AsyncIterator[Line]:
            yield Line(self, host)

        kind._shared_client = client  # type: ignore[assignment,method-assign]
        # Due times ask for a time of day that is right.
        host.wall_time = lambda: EPOCH_S + host.scheduler.now  # type: ignore[method-assign]

    def of(self, resource: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.resource == resource]

    def gaps(self) -> list[tuple[float, Asked, Asked]]:
        """How long it was from one request to the next, for each resource."""
        pairs = (pair for number in range(POLLERS) for pair in itertools.pairwise(self.of(f"r{number}")))
        return [(later.at_s - sooner.at_s, sooner, later) for sooner, later in pairs]

    def repeated(self) -> list[tuple[Asked, Asked]]:
        """Who asked what was asked before, or sooner than whoever had asked before was going to."""
        return [
            (sooner, later)
            for _, sooner, later in self.gaps()
            if later.at_s < sooner.next_s - CLOCKS_DIFFER_S or later.due_s <= sooner.due_s
        ]


class Line:
    """In the place of `http_poll.client.Client`: what it sends is there at once, and the answer takes a while."""

    def __init__(self, third_party: ThirdParty, host: SimHost) -> None:
        self._third_party = third_party
        self._host = host
        self._hold: Hold | None = None
        self.due_s = self.next_s = 0.0

    def speak_for(self, hold: Hold) -> None:
        self._hold = hold

    async def fetch(self, method: str, url: str, headers: Mapping[str, str], body: object, **limits: float) -> Fetched:
        hold = self._hold
        assert hold is not None and hold.valid
        asked = Asked(self._host.scheduler.now, hold.resource.id, hold.node, hold.token, self.due_s, self.next_s)
        self._third_party.asked.append(asked)
        slow = hold.resource.id in self._third_party.slow and self._host.random.random() < 0.5
        await self._host.clock.sleep(1.2 * INTERVAL_S if slow else 0.02 + 0.3 * self._host.random.random())
        return Fetched(200, CIMultiDictProxy(CIMultiDict()), b"as ever")


@pytest.fixture
def third_party(monkeypatch: pytest.MonkeyPatch) -> ThirdParty:
    claim = Poller._claim

    async def claim_and_tell(self: Poller, begun_s: float, *, shares: bool) -> bool:
        assert isinstance(self._client, Line)
        self._client.due_s = self._position.due_s - EPOCH_S
        goes = await claim(self, begun_s, shares=shares)
        self._client.next_s = self._position.due_s - EPOCH_S
        return goes

    monkeypatch.setattr(Poller, "_claim", claim_and_tell)
    return ThirdParty()


@contextlib.contextmanager
def polling(third_party: ThirdParty, seed: int) -> Iterator[SimulatedCluster]:
    """Three nodes, and pollers that have been at work for a while."""
    with SimulatedCluster(seed, nodes=3, lease_ttl=LEASE_TTL_S, set_up=third_party.set_up) as cluster:
        cluster.run(2.0)
        for number in range(POLLERS):
            cluster.add(Resource(f"r{number}", kind="http_poll", url="http://x/", interval=INTERVAL_S), via="a")
        cluster.run(8 * INTERVAL_S)
        assert {len(third_party.of(f"r{number}")) for number in range(POLLERS)} <= {8, 9, 10}
        yield cluster


def state_of(cluster: SimulatedCluster, name: str) -> State:
    node = cluster.nodes[name]
    assert node.manager is not None and node.manager._node is not None
    return node.manager._node.engine.state


@pytest.mark.parametrize("seed", SEEDS[::10])
def test_planned_moves_neither_repeat_nor_leave_out_a_poll(third_party: ThirdParty, seed: int):
    """Whoever lets go says where it is, also for the polls that were waiting for the log."""
    with polling(third_party, seed) as cluster:
        for name in "abcabc":
            cluster.stop(name)
            cluster.run(1.5)
            cluster.start(name)
            cluster.run(INTERVAL_S + 1.3)

    gaps = third_party.gaps()
    assert third_party.repeated() == []
    assert [gap for gap in gaps if gap[0] > LATEST_S + 1.0] == []
    assert len({asked.node for _, asked, _ in gaps}) == 3


@pytest.mark.parametrize("seed", SEEDS[::10])
def test_after_a_kill_what_was_not_asked_is_asked_and_nothing_twice(third_party: ThirdParty, seed: int):
    """What a dead node had said and not yet sent is the only poll that may be missing; there is hardly ever one."""
    chance = Random(seed)
    missing = []
    with polling(third_party, seed) as cluster:
        for number in range(6):
            victim = "abc"[number % 3]
            killed_s = cluster.scheduler.now
            cluster.kill(victim)
            cluster.run(LEASE_TTL_S + 2.0)
            cluster.start(victim)
            cluster.run(2 * INTERVAL_S + chance.random() * INTERVAL_S)
            late = LATEST_S + LEASE_TTL_S + 1.5
            missing += [gap for gap in third_party.gaps() if gap[0] > late and gap[1].at_s < killed_s < gap[2].at_s]

    assert third_party.repeated() == []
    assert len(missing) <= 1
    assert all(gap[0] < 2 * LATEST_S + LEASE_TTL_S for gap in missing)


@pytest.mark.parametrize("seed", SEEDS[::5])
def test_whatever_happens_to_the_nodes_no_poll_is_repeated(third_party: ThirdParty, seed: int):
    """Killed, cut off, frozen, stopped, all at once; and with clocks that run a little fast or slow."""
    chance = Random(seed)
    with polling(third_party, seed) as cluster:
        third_party.slow |= {f"r{number}" for number in range(5)}
        for _ in range(12):
            name = chance.choice("abc")
            match chance.choice(["kill", "stop", "pause", "cut", "block", "power", "rate"]):
                case "kill":
                    cluster.kill(name)
                case "stop":
                    cluster.stop(name)
                case "pause":
                    cluster.pause(name)
                case "cut":
                    cluster.partition(name, [other for other in "abc" if other != name])
                case "block":
                    cluster.block_app(name, 1.0 + 3.0 * chance.random())
                case "power":
                    cluster.power_cut(name)
                case "rate":
                    cluster.set_rate(name, 1 + 0.002 * (chance.random() - 0.5))
            cluster.run(5.0 * chance.random())
            cluster.heal()
            for other in "abc":
                cluster.resume(other)
                cluster.start(other)
            cluster.run(2.0 + 5.0 * chance.random())
        asked = len(third_party.asked)
        cluster.run(3 * INTERVAL_S)

    assert third_party.repeated() == []
    assert len(third_party.asked) - asked >= 2 * POLLERS


def test_a_node_says_for_all_its_polls_at_once_that_they_may_go(third_party: ThirdParty):
    """Once they are at work, the log has a few records a second, however many are polled, and no checkpoint."""
    with polling(third_party, 1) as cluster:
        name = leader(cluster)
        before = dict(state_of(cluster, name).checkpoints.items())
        asked = len(third_party.asked)
        cluster.run(2 * INTERVAL_S)

        assert len(third_party.asked) - asked >= 2 * POLLERS - 8
        assert dict(state_of(cluster, name).checkpoints.items()) == before
        assert len(state_of(cluster, name).watermarks) == 3
