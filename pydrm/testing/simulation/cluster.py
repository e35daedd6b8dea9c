"""
`SimulatedCluster`: whole nodes under faults, and the verdict.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Any, Self, cast

import attrs

from pydrm.agent.hold import Hold
from pydrm.core import invariants
from pydrm.core.resource import Resource
from pydrm.core.state import State
from pydrm.errors import DrmError
from pydrm.manager import ResourceManager
from pydrm.testing.simulation.host import SimHost
from pydrm.testing.simulation.network import SimNetwork
from pydrm.testing.simulation.scheduler import Scheduler
from pydrm.testing.simulation.third_party import SimThirdParty

__all__ = ["SimulatedCluster", "SimulatedNode", "Version"]

_PORT = 7000
_LOOK_S = 0.05


@attrs.frozen
class Version:
    """
    What a node runs: pydrm as it is here, or a copy of it under another name that is another version.

    Attributes:
        manager_class: Its `ResourceManager`.
        check: Its `invariants.check`.
    """

    manager_class: Callable[..., ResourceManager] = ResourceManager
    check: Callable[[State], list[str]] = invariants.check


@attrs.define(eq=False)
class SimulatedNode:
    """
    Attributes:
        version: What its last process was started as, and its next one will be.
        failure: Why its last process stopped by itself, if it did.
    """

    name: str
    host: SimHost
    version: Version = Version()
    manager: ResourceManager | None = None
    failure: BaseException | None = None

    @property
    def state(self) -> State | None:
        node = self.manager._node if self.manager is not None else None
        # An engine that failed stopped in the middle of something, and nobody knows at which entry its state is.
        works = node is not None and node.engine._failure is None and self.host.alive
        return node.engine.state if node is not None and works else None

    @property
    def applied(self) -> int:
        node = self.manager._node if self.manager is not None else None
        return node.engine.status().applied if node is not None and self.host.alive else 0


class SimulatedCluster:
    """
    Some nodes, a third party, and one seed for all that chance decides.

    Every verb takes effect at once; time passes in `run` and `settle` only. After anything, `verify` says whether the
    promises were kept.

    Attributes:
        trace: What happened, line by line, with the time.
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
        self.third_party = SimThirdParty(lambda: self.scheduler.now, self._note)
        self._lease_ttl = lease_ttl
        self._set_up = set_up or self._set_up_held
        self._digests: dict[int, tuple[int, str]] = {}
        self._violations: list[str] = []
        voters = [chr(ord("a") + number) for number in range(nodes)]
        names = voters + [f"w{number + 1}" for number in range(workers)]
        self._addresses = {name: f"127.0.1.{number + 1}:{_PORT}" for number, name in enumerate(names)}
        self._peers = {name: self._addresses[name] for name in voters}
        self.nodes = {name: self._make_node(name) for name in names}
        self.acknowledged: dict[str, Resource | None] = {}
        self.uncertain: set[str] = set()
        for name in names:
            self.start(name)

    # --- verbs -------------------------------------------------------------------------------------------------------

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

    def power_cut(self, name: str) -> None:
        """The host goes dark: nothing unsynced survives, and nobody is told."""
        self._note(f"power cut {name}")
        self.nodes[name].host.kill(power=True)

    def wipe(self, name: str) -> None:
        """The node is killed, and its disk replaced by an empty one."""
        self._note(f"wipe {name}")
        self.nodes[name].host.kill()
        self.nodes[name].host.disk.wipe()

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

    def partition(self, *groups: Sequence[str]) -> None:
        """Only nodes of the same group reach each other; who is in two groups is a bridge."""
        self._note("partition " + " | ".join("".join(group) for group in groups))
        for one in self.nodes:
            for other in self.nodes:
                if one != other and not any(one in group and other in group for group in groups):
                    self.network.cut(one, other)

    def cut(self, source: str, target: str) -> None:
        """One way."""
        self._note(f"cut {source} -> {target}")
        self.network.cut(source, target)

    def heal(self) -> None:
        """Everybody reaches everybody, at normal speed."""
        self._note("heal")
        for one in self.nodes:
            for other in self.nodes:
                if one != other:
                    self.network.slow(one, other, 0.0)
                    self.network.heal(one, other)

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
            self._look()

    def settle(self, within: float = 30.0) -> None:
        """End all faults, start who is down, and wait until every resource is held once and the load is even."""
        self.heal()
        self.third_party.refuses = self.third_party.moody = False
        for name, node in self.nodes.items():
            node.host.set_rate(1.0)
            node.host.disk.full = node.host.disk.broken = False
            node.host.resume()
            self.start(name)
        end = self.scheduler.now + within
        while self.scheduler.now < end and self._unsettled():
            self.run(0.25)
            for name in self.nodes:
                self.start(name)
        unsettled = self._unsettled()
        if unsettled:
            self._violations.append(f"{within} s after all faults ended: {unsettled}")

    def verify(self) -> list[str]:
        """Everything that went against the promises so far, in words."""
        self._look()
        wrong = [*self._violations, *self.third_party.violations, *self.scheduler.errors]
        for node in self.nodes.values():
            state = node.state
            if state is None:
                continue
            wrong += [f"{node.name}: {problem}" for problem in node.version.check(state)]
        return wrong

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
        # Until it is answered nobody knows.
        self.uncertain.add(id)

        async def ask() -> None:
            try:
                await request(manager)
            except DrmError:
                return
            self.acknowledged[id] = wanted
            self.uncertain.discard(id)

        node.host.app.call_soon(lambda: node.host.app.create_task(ask()))

    def _look(self) -> None:
        self.third_party.check_all()
        for node in self.nodes.values():
            state = node.state
            if state is None:
                continue
            index, digest = node.applied, state.digest
            seen = self._digests.setdefault(index, (digest, node.name))
            if seen[0] != digest:
                self._violations.append(f"{node.name} and {seen[1]} differ at index {index}")

    def _unsettled(self) -> str:
        """What is still missing to a state of rest; "" if nothing is."""
        held = self.third_party.held()
        states = [node.state for node in self.nodes.values()]
        for state in states:
            if state is None:
                return "not all nodes run"
            for id, wanted in self.acknowledged.items():
                if id not in self.uncertain and (id in state.records) != (wanted is not None):
                    return f"{id} was acknowledged as {'added' if wanted else 'removed'} and is not so"
            for id in state.records:
                if len(held.get(id, ())) != 1:
                    return f"{id} is held {len(held.get(id, ()))} times"
        records = states[0].records if states[0] else ()
        for id in held:
            if id not in records:
                return f"{id} is held and not defined"
        loads = [sum(connections[0].host is node.host for connections in held.values()) for node in self.nodes.values()]
        if max(loads) - min(loads) > 1:
            return f"the load is {loads}"
        return ""

    def _note(self, what: str) -> None:
        self.trace.append(f"{self.scheduler.now:.6f} {what}")

    def _set_up_held(self, manager: ResourceManager, host: SimHost) -> None:
        third_party, random = self.third_party, host.random

        async def held(hold: Hold) -> None:
            def mood() -> object:
                return hold.resource.get("mood") if third_party.moody else None

            connection = third_party.connect(host, hold.resource.id, hold.token)
            try:
                # It can be shut down like a socket, which is all that is asked of it.
                hold.guard(cast(socket.socket, connection))
                await asyncio.sleep(random.random() * (1.0 if mood() == "slow" else 0.01))
                if mood() == "raises" and random.random() < 0.3:
                    raise RuntimeError("a handler that fails now and then")
                hold.ready()
                while connection.open:
                    await asyncio.sleep(0.1 + 0.4 * random.random())
                    if connection.open and hold.valid:
                        connection.act()
                    if mood() == "raises" and random.random() < 0.05:
                        raise RuntimeError("a handler that fails now and then")
            except asyncio.CancelledError:
                if mood() == "stubborn":
                    await asyncio.sleep(random.random() * 0.6)
                raise
            finally:
                connection.close()

        manager.handler("held", held)
