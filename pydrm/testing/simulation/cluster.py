"""
`SimulatedCluster`: whole nodes under faults, and the verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Any, Self

from pydrm.core.resource import Resource
from pydrm.errors import DrmError
from pydrm.manager import ResourceManager
from pydrm.testing.simulation.held import held_by
from pydrm.testing.simulation.host import SimHost
from pydrm.testing.simulation.judge import Judge
from pydrm.testing.simulation.network import SimNetwork
from pydrm.testing.simulation.node import SimulatedNode, Version
from pydrm.testing.simulation.scheduler import Scheduler
from pydrm.testing.simulation.third_party import SimThirdParty

__all__ = ["SimulatedCluster", "SimulatedNode", "Version"]

_PORT = 7000
_LOOK_S = 0.05
_REST_S = 1.0
_VOTES_AGAIN_S = 3.0


class SimulatedCluster:
    """
    Some nodes, a third party, and one seed for all that chance decides.

    Every verb takes effect at once; time passes in `run` and `settle` only. After anything, `verify` says whether the
    promises were kept.

    Attributes:
        trace: What was done and what happened, line by line, with the time.
        acknowledged, uncertain: See `Judge`.
    """

    def __init__(
        self,
        seed: int,
        *,
        nodes: int = 3,
        workers: int = 0,
        lease_ttl: float = 2.0,
        set_up: Callable[[ResourceManager, SimHost], None] | None = None,
    ) -> None:
        """
        Args:
            nodes: How many voters: a, b, c and so on.
            workers: How many nodes that only follow them: w1, w2 and so on.
            set_up: Registers handlers on each node's manager, whenever a process of it starts. Without it there is
                the kind "held", which keeps a connection to the third party.
        """
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
        self._votes_asked_at = 0.0
        for name in names:
            self.start(name)

    @property
    def formed(self) -> bool:
        """Whether the cluster has come into being; before that, nobody has promised anything."""
        return self._judge.formed

    # --- processes and machines --------------------------------------------------------------------------------------

    def start(self, name: str, version: Version | None = None) -> None:
        """Start the node's process, if none runs; as *version*, or as what it was before."""
        node = self.nodes[name]
        if node.manager is not None and node.host.alive:
            return
        self._note(f"start {name}")
        node.version = version or node.version
        node.host.boot()
        node.failure = None
        node.manager = node.version.manager_class(
            cluster="simulated",
            node=name,
            bind=self._addresses[name],
            role="voter" if name in self._peers else "worker",
            peers=self._peers,
            data_dir=Path("/data"),
            lease_ttl=self._lease_ttl,
            host=node.host,
        )
        self._set_up(node.manager, node.host)
        node.host.app.call_soon(self._begin, node, node.manager)

    def kill(self, name: str) -> None:
        """kill -9."""
        self._note(f"kill {name}")
        self.nodes[name].host.kill()

    def kill_writing(self, name: str) -> None:
        """kill -9, in the middle of what it writes next."""
        self._note(f"kill {name} when it writes")
        self.nodes[name].host.kill_writing()

    def power_cut(self, name: str) -> None:
        """The host goes dark: nothing unsynced survives, and nobody is told."""
        self._note(f"power cut {name}")
        self.nodes[name].host.kill(power=True)

    def stop(self, name: str) -> None:
        """SIGTERM: hand over and leave."""
        node = self.nodes[name]
        if node.manager is not None and node.host.alive:
            self._note(f"stop {name}")
            manager = node.manager
            node.host.app.call_soon(lambda: node.host.app.create_task(manager.stop()))

    def pause(self, name: str) -> None:
        """SIGSTOP."""
        self._note(f"pause {name}")
        self.nodes[name].host.pause()

    def resume(self, name: str) -> None:
        """SIGCONT."""
        self._note(f"resume {name}")
        self.nodes[name].host.resume()

    def block_app(self, name: str, seconds: float) -> None:
        """The app's loop on *name* does something else for so long."""
        self._note(f"block {name}'s app for {seconds:.3f} s")
        self.nodes[name].host.block_app(seconds)

    def set_rate(self, name: str, rate: float) -> None:
        """From now on *name*'s clock counts so many seconds in one."""
        self._note(f"{name}'s clock runs at {rate:.6f}")
        self.nodes[name].host.set_rate(rate)

    def wipe(self, name: str) -> None:
        """The node is killed, and its disk replaced by an empty one; once the cluster is formed, it is out."""
        self._note(f"wipe {name}")
        self.nodes[name].host.kill()
        self.nodes[name].host.disk.wipe()
        self.nodes[name].is_out = self.formed and name in self._peers

    def fill_disk(self, name: str) -> None:
        self._note(f"{name}'s disk is full")
        self.nodes[name].host.disk.full = True

    def break_disk(self, name: str) -> None:
        self._note(f"{name}'s disk fails")
        self.nodes[name].host.disk.broken = True

    def mend_disk(self, name: str) -> None:
        """It has room again, and works."""
        disk = self.nodes[name].host.disk
        if disk.full or disk.broken:
            self._note(f"{name}'s disk is well")
        disk.full = disk.broken = False

    # --- the network and the third party -----------------------------------------------------------------------------

    def partition(self, *groups: Sequence[str]) -> None:
        """Only nodes of the same group reach each other; who is in two groups is a bridge."""
        self._note("partition " + " | ".join("".join(group) for group in groups))
        for one in self.nodes:
            for other in self.nodes:
                if one != other and not any(one in group and other in group for group in groups):
                    self.network.cut(one, other)

    def cut(self, source: str, target: str) -> None:
        """One way. What is sent meanwhile arrives in one burst when it is healed."""
        self._note(f"cut {source} -> {target}")
        self.network.cut(source, target)

    def join(self, source: str, target: str) -> None:
        """One way; the opposite of `cut`."""
        self._note(f"join {source} -> {target}")
        self.network.heal(source, target)

    def slow(self, source: str, target: str, latency_s: float) -> None:
        """One way."""
        self._note(f"slow {source} -> {target}: {latency_s:.3f} s")
        self.network.slow(source, target, latency_s)

    def reset(self, one: str, other: str) -> None:
        """Break every connection between two nodes."""
        self._note(f"reset {one} - {other}")
        self.network.reset(one, other)

    def heal(self) -> None:
        """Everybody reaches everybody, at normal speed."""
        self._note("heal")
        for one in self.nodes:
            for other in self.nodes:
                if one != other:
                    self.network.slow(one, other, 0.0)
                    self.network.heal(one, other)

    def third_party_refuses(self) -> None:
        self._note("the third party refuses")
        self.third_party.refuses = True

    def third_party_stalls(self) -> None:
        """It answers nobody until it works again; then all at once, whether they still wait or not."""
        self._note("the third party stalls")
        self.third_party.stalls = True

    def third_party_answers_late(self, seconds: float) -> None:
        """By so much at the most, and without asking who still waits for it."""
        self._note(f"the third party is up to {seconds:.3f} s late")
        self.third_party.late_s = seconds

    def third_party_works(self) -> None:
        self._note("the third party works")
        self.third_party.refuses = self.third_party.stalls = False
        self.third_party.late_s = 0.0

    # --- what an app asks for ----------------------------------------------------------------------------------------

    def add(self, resource: Resource, *, via: str) -> None:
        """Have *via* add it; whether that is acknowledged is seen later."""
        self._request(via, resource.id, resource, lambda manager: manager.add(resource, timeout=5))

    def remove(self, id: str, *, via: str) -> None:
        self._request(via, id, None, lambda manager: manager.remove(id, timeout=5))

    def change_voters(self, change: str, name: str, *, via: str) -> None:
        """Have *via* "add", "remove" or "replace" a voter; the trace says what became of it."""
        node = self.nodes[via]
        manager = node.manager
        if manager is None or not node.host.alive:
            return
        self._note(f"{via}: {change} voter {name}")

        async def ask() -> None:
            try:
                await getattr(manager.voters, change)(name, timeout=10)
            except DrmError as error:
                self._note(f"{via}: {change} voter {name}: {error}")
            else:
                self._note(f"{via}: {change} voter {name}: done")

        node.host.app.call_soon(lambda: node.host.app.create_task(ask()))

    # --- time --------------------------------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        end = self.scheduler.now + seconds
        while self.scheduler.now < end:
            self.scheduler.run_until(min(self.scheduler.now + _LOOK_S, end))
            self._judge.look()

    def settle(self, within: float = 30.0) -> None:
        """
        End all faults, start who is down, and wait until every resource is held once and the load is even.

        Then nothing may move any more.
        """
        self.heal()
        self.third_party_works()
        self.third_party.moody = False
        for name, node in self.nodes.items():
            node.host.set_rate(1.0)
            node.host.resume()
            node.host.free_app()
            self.mend_disk(name)
            self.start(name)
        # What the faults have begun, such as a lease that runs out, ends by then.
        calm = self.scheduler.now + self._lease_ttl
        end = self.scheduler.now + within
        while self.scheduler.now < end and (self.scheduler.now < calm or self._unsettled()):
            self.run(0.25)
            for name in self.nodes:
                self.start(name)
            self._give_votes_back()
        unsettled = self._unsettled()
        if unsettled:
            self._judge.object(f"{within} s after all faults ended: {unsettled}")
            return
        moves = self.third_party.moves
        self.run(_REST_S)
        if self.third_party.moves != moves:
            self._judge.object("at rest, something moved without a cause")

    def _give_votes_back(self) -> None:
        """Each voter that lost its disk is replaced, and each that lost its vote gets one."""
        if self.scheduler.now < self._votes_asked_at + _VOTES_AGAIN_S:
            return
        self._votes_asked_at = self.scheduler.now
        voting = [name for name in self._voting() if not self.nodes[name].is_out]
        for name in self._peers:
            if voting and self.nodes[name].is_out:
                self.change_voters("replace", name, via=voting[0])
            elif voting and name not in self._voting():
                self.change_voters("add", name, via=voting[0])

    def _voting(self) -> list[str]:
        """Who has a vote, as whoever has heard most of it knows."""
        settings = [node.state.settings for node in self.nodes.values() if node.state is not None]
        known = [one for one in settings if one is not None]
        newest = max(known, key=lambda one: one.voters_revision, default=None)
        return [voter.name for voter in newest.voters] if newest is not None else []

    def _unsettled(self) -> str:
        without = sorted(set(self._peers) - set(self._voting()))
        if self.formed and without:
            return f"{', '.join(without)} have no vote"
        return self._judge.unsettled()

    def verify(self) -> list[str]:
        """Everything that went against the promises so far, in words."""
        return [*self._judge.verdict(), *self.scheduler.errors]

    def fingerprint(self) -> str:
        """Equal for equal lives."""
        return blake2b("\n".join(self.trace).encode(), digest_size=16).hexdigest()

    def close(self) -> None:
        """End every process; nothing is left to be collected at an odd moment. To be called last."""
        for node in self.nodes.values():
            node.host.kill()
        self.scheduler.run_until(self.scheduler.now)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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

    def _begin(self, node: SimulatedNode, manager: ResourceManager) -> None:
        node.host.app.create_task(self._live(node, manager))

    async def _live(self, node: SimulatedNode, manager: ResourceManager) -> None:
        try:
            await manager.start()
            await manager.wait_closed()
        except DrmError as error:
            node.failure = error
            self._note(f"{node.name} fails: {error}")
        self._note(f"{node.name} exits")
        node.host.kill()

    def _request(self, via: str, id: str, wanted: Resource | None, request: Callable[[ResourceManager], Any]) -> None:
        node = self.nodes[via]
        manager = node.manager
        if manager is None or not node.host.alive or id in self.uncertain:
            return
        self._note(f"{via} is asked to {'add' if wanted else 'remove'} {id}")
        # Until it is answered nobody knows.
        self.uncertain.add(id)
        node.asked += 1

        async def ask() -> None:
            try:
                await request(manager)
            except DrmError as error:
                self._note(f"{via} does not know about {id}: {error}")
            else:
                self._judge.answered(node, id, wanted)
            node.asked -= 1

        node.host.app.call_soon(lambda: node.host.app.create_task(ask()))

    def _set_up_held(self, manager: ResourceManager, host: SimHost) -> None:
        manager.handler("held", held_by(host, self.third_party, host.random))

    def _note(self, what: str) -> None:
        self.trace.append(f"{self.scheduler.now:.6f} {what}")
