"""
A node as a process of its own, which does what it is told, measures it, and answers.

    engine   engine and warden, wired as in `pydrm.node`: it renews its lease, and opens nothing of what it holds
    manager  a whole `ResourceManager`, and a kind that is open at once
    workers  many of the first in one process, as workers
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import queue
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from engine import loads
from engine.orders import answer, orders
from engine.probe import Probe
from pydrm import Resource, ResourceManager
from pydrm.agent.fence import Fence
from pydrm.agent.hold import Hold
from pydrm.agent.lease import Lease
from pydrm.agent.warden import Warden
from pydrm.core.answers import Done
from pydrm.core.commands import AddResources, RemoveResources, Request
from pydrm.core.machine import Outcome, apply
from pydrm.core.records import AssignmentKey, Definition, Role
from pydrm.core.state import State
from pydrm.engine import Engine, EngineConfig, Mailbox, applier, definition_of
from pydrm.errors import DrmError, Unavailable

__all__ = ["RESOURCES_PER_COMMAND", "SMALL", "main"]

RESOURCES_PER_COMMAND = 500
TIMEOUT_S = 60.0

# It is decided, answered and remembered like any other, placement has its look, and nothing comes of it.
SMALL = RemoveResources(("nothing",))


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    asyncio.run(_serve(orders()))


async def _serve(coming: queue.Queue[dict[str, Any]]) -> None:
    settings = coming.get()
    if settings.get("core") == "noop":
        # Where the applier looks it up; it was looked up elsewhere once, and this line did nothing.
        assert applier.apply is apply  # type: ignore[attr-defined]
        applier.apply = _apply_nothing  # type: ignore[attr-defined]
    host = Probe(begun=settings.get("probe", False))
    node = _ROLES[settings["role"]](settings, host)
    await node.start()
    answer(time.monotonic())
    while True:
        order = await asyncio.to_thread(coming.get)
        answer(await _do(order.pop("verb"), order, node, host))


async def _do(verb: str, arguments: dict[str, Any], node: Any, host: Probe) -> Any:
    match verb:
        case "watch":
            return host.begin()
        case "watched":
            return {**await host.end(), "repeats": node.repeats}
        case "leads":
            return node.leads()
        case "latency":
            return await loads.one_by_one(node.small, **arguments)
        case "commands":
            return await loads.flood(node.small, **arguments)
        case "adds":
            return await loads.flood(node.add_next, **arguments)
        case "resources":
            things = list(itertools.islice(node.things, arguments["count"]))
            return await loads.batches(node.add, things, RESOURCES_PER_COMMAND, arguments["window"])
        case "one":
            await node.small()
            return time.monotonic()
        case "add":
            return await node.add_one(arguments["id"])
        case "opened":
            return node.opened
        case unknown:
            raise AssertionError(unknown)


def _apply_nothing(state: State, request: Request) -> Outcome:
    """The ceiling: what clients ask for costs the state machine nothing; leases are kept."""
    return apply(state, request) if request.id is None else Outcome(Done(), ())


def _names(node: str) -> Any:
    return (f"{node}-{os.getpid()}-{number}" for number in itertools.count())


class Client:
    """
    Attributes:
        repeats: How often nobody could say what had become of a request: the node had lost its lease meanwhile.
    """

    repeats = 0

    async def until_known(self, request: Callable[[], Awaitable[object]]) -> None:
        while True:
            try:
                await request()
                return
            except Unavailable:
                self.repeats += 1


class EngineNode(Client):
    """It is the warden's listener too, and heeds nothing."""

    def __init__(self, settings: dict[str, Any], host: Probe) -> None:
        self._name: str = settings["node"]
        self._joined = asyncio.Event()
        self.things = (definition_of(Resource(name, kind="instant")) for name in _names(self._name))
        address = settings["addresses"].get(self._name, "127.0.0.1:0")
        warden = Warden(
            self._name,
            Lease(),
            Fence(),
            lease_ttl_s=settings["lease_ttl_s"],
            stall_timeout_s=settings["lease_ttl_s"],
            on_unfenced="token",
            address=address,
            role=Role(settings.get("votes", "voter")),
            app=Mailbox(asyncio.get_running_loop()),
            listener=self,
            on_failure=_die,
            clock=host.clock,
            new_nonce=host.new_id,
        )
        config = EngineConfig(
            cluster="benchmark",
            node=self._name,
            bind=address,
            advertise=address,
            voters=settings["addresses"],
            data_dir=Path(settings["directory"]) if settings["directory"] else None,
            nonce=host.new_id(),
            role=settings.get("votes", "voter"),
        )
        self._engine = Engine(config, warden, host=host, on_failure=_die)

    async def start(self) -> None:
        await self._engine.start()
        await self._joined.wait()

    def leads(self) -> bool:
        return self._engine.status().leader == self._name

    async def small(self) -> None:
        await self.until_known(lambda: self._engine.propose(SMALL, timeout=TIMEOUT_S))

    async def add(self, definitions: Sequence[Definition]) -> None:
        command = AddResources(tuple(definitions))
        await self.until_known(lambda: self._engine.propose(command, timeout=TIMEOUT_S))

    async def add_next(self) -> None:
        await self.add([next(self.things)])

    def changed(self, keys: Sequence[AssignmentKey]) -> None:
        pass

    def joined(self, incarnation: int) -> None:
        self._joined.set()

    def fenced(self, reason: str) -> None:
        pass

    def unfenced(self) -> None:
        pass


class WorkerNodes:
    """They keep their logs in memory."""

    def __init__(self, settings: dict[str, Any], host: Probe) -> None:
        own = {"votes": "worker", "directory": ""}
        self._workers = [
            EngineNode({**settings, **own, "node": f"{settings['node']}{number}"}, Probe())
            for number in range(settings["count"])
        ]

    async def start(self) -> None:
        await asyncio.gather(*(worker.start() for worker in self._workers))


class ManagerNode(Client):
    """It is the handler of its kind too."""

    def __init__(self, settings: dict[str, Any], host: Probe) -> None:
        self.opened: dict[str, float] = {}  # on time.monotonic(), which all processes of a host share
        self.things = (Resource(name, kind="instant") for name in _names(settings["node"]))
        self._name = settings["node"]
        self._manager = ResourceManager(
            cluster="benchmark",
            node=self._name,
            bind=settings["addresses"][self._name],
            peers=settings["addresses"],
            data_dir=settings["directory"],
            lease_ttl=settings["lease_ttl_s"],
            on_unfenced="token",
            host=host,
        )
        self._manager.handler("instant", self)

    async def start(self) -> None:
        await self._manager.start()

    def leads(self) -> bool:
        return bool(self._manager.status()["leader"] == self._name)

    async def add(self, resources: Sequence[Resource]) -> None:
        await self.until_known(lambda: self._manager.add(resources, timeout=TIMEOUT_S))

    async def add_one(self, id: str) -> tuple[float, float]:
        """When it was asked for, and when it was acknowledged."""
        resource = Resource(id, kind="instant")
        asked_s = time.monotonic()
        await self.add([resource])
        return asked_s, time.monotonic()

    def open(self, hold: Hold) -> None:
        self.opened[hold.resource.id] = time.monotonic()

    def close(self, hold: Hold) -> None:
        self.opened.pop(hold.resource.id, None)


_ROLES: dict[str, Any] = {"engine": EngineNode, "manager": ManagerNode, "workers": WorkerNodes}


def _die(error: DrmError) -> None:
    print(error, file=sys.stderr, flush=True)
    os._exit(1)
