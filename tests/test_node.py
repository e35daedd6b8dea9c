"""Three managers in one process, over loopback: joining, handing over, leaving."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from pydrm import Hold, Resource, ResourceManager
from pydrm.testing.ports import Ports
from pydrm.testing.third_party import ThirdParty
from tests.core.build import numbered


class Trio:
    """Nodes a, b and c, and the third party that their resources are connected to."""

    def __init__(self, ports: Ports, third_party: ThirdParty, directory: Path, **options: Any) -> None:
        self.third_party = third_party
        self._peers = {name: f"127.0.0.1:{ports.reserve()}" for name in "abc"}
        self._directory = directory
        self._options = options
        self.nodes = {name: self._manager(name) for name in "abc"}

    def _manager(self, name: str) -> ResourceManager:
        return ResourceManager(
            cluster="orders",
            node=name,
            bind=self._peers[name],
            peers=self._peers,
            data_dir=self._directory / name,
            **self._options,
        )

    async def start(self) -> None:
        await asyncio.gather(*(node.start() for node in self.nodes.values()))

    async def stop(self) -> None:
        await asyncio.gather(*(node.stop() for node in self.nodes.values()))

    def restarted(self, name: str) -> ResourceManager:
        self.nodes[name] = self._manager(name)
        return self.nodes[name]

    def resources(self, count: int) -> list[Resource]:
        return [Resource(name, kind="websocket", url=self.third_party.url) for name in numbered(count)]

    async def until_open(self, count: int, seen_by: str = "a") -> None:
        async with asyncio.timeout(30):
            while sum(row["state"] == "open" for row in self.nodes[seen_by].resources()) != count:
                await asyncio.sleep(0.01)


def play(directory: Path, scene: Callable[[Trio], Awaitable[None]], **options: Any) -> None:
    async def run() -> None:
        async with ThirdParty() as third_party:
            trio = Trio(ports, third_party, directory, **options)
            await trio.start()
            try:
                await scene(trio)
            finally:
                await trio.stop()

    with Ports() as ports:
        asyncio.run(run())


def test_a_node_that_stops_hands_over_and_the_others_connections_are_not_touched(tmp_path: Path) -> None:
    async def scene(trio: Trio) -> None:
        await trio.nodes["a"].add(trio.resources(60))
        await trio.until_open(60)
        diary = trio.third_party.diary
        stopped_s = time.monotonic()

        await trio.nodes["c"].stop()
        await trio.until_open(60)

        assert diary.loads("ab") == {"a": 30, "b": 30}
        assert diary.overlaps() == []
        assert diary.ended(stopped_s, nodes="ab") == []

    play(tmp_path, scene)


def test_a_node_that_comes_back_takes_its_share_under_higher_tokens(tmp_path: Path) -> None:
    async def scene(trio: Trio) -> None:
        await trio.nodes["a"].add(trio.resources(60))
        await trio.until_open(60)
        await trio.nodes["c"].stop()
        await trio.until_open(60)
        diary = trio.third_party.diary
        came_s = time.monotonic()

        await trio.restarted("c").start()
        async with asyncio.timeout(30):
            while diary.loads("abc") != {"a": 20, "b": 20, "c": 20}:
                await asyncio.sleep(0.01)

        assert {move.target for move in diary.moves(came_s)} == {"c"}
        assert len(diary.moves(came_s)) == 20
        assert diary.overlaps() == []
        assert diary.tokens_out_of_order() == []

    play(tmp_path, scene)


def test_configured_resources_do_not_all_load_the_node_that_joins_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However slow the machine is.
    monkeypatch.setattr("pydrm.configured.COMPANY_TIMEOUT_S", 30)

    async def scene(ports: Ports) -> None:
        async with ThirdParty() as third_party:
            names = numbered(30)
            resources = [Resource(name, kind="websocket", url=third_party.url) for name in names]
            trio = Trio(ports, third_party, tmp_path, resources=resources)
            await trio.start()
            await trio.until_open(30)

            assert len(third_party.diary.stays()) == 30, "each was opened once and never moved"
            await trio.stop()

    with Ports() as ports:
        asyncio.run(scene(ports))


def test_all_that_stop_at_once_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """Handing over ends when nobody can take over, not when drain_timeout is up."""

    async def scene(trio: Trio) -> None:
        await trio.nodes["a"].add(trio.resources(30))
        await trio.until_open(30)
        began_s = time.monotonic()

        await trio.stop()

        assert time.monotonic() - began_s < 30
        assert trio.third_party.diary.held() == {}

    play(tmp_path, scene, drain_timeout=60)


def test_a_kind_that_only_some_nodes_have_is_held_by_those(tmp_path: Path) -> None:
    """An app is deployed to one node after the other."""

    async def scene(trio: Trio) -> None:
        async def mqtt(hold: Hold) -> None:
            hold.ready()
            await asyncio.Event().wait()

        trio.nodes["a"].handler("mqtt", mqtt)
        await trio.nodes["a"].add(Resource(name, kind="mqtt") for name in numbered(3))

        async with asyncio.timeout(30):
            while {(row["holder"], row["state"]) for row in trio.nodes["a"].resources()} != {("a", "open")}:
                await asyncio.sleep(0.01)

    play(tmp_path, scene)
