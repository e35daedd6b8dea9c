"""Sources of an app's own: a class with three methods, sync or async."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from pydrm import ConfigurationError, InvalidResource, Resource
from pydrm.agent.kind import Kinds
from pydrm.clock import SystemClock
from pydrm.sources.fetching import Api
from pydrm.sources.registry import Sources
from tests.sources.build import detail, entry, ids, manager, play, state, until


def feed(**fields: Any) -> Resource:
    return Resource("feed", kind="source.customers", **{"poll": 0.05, **fields})


def test_setup_fetch_and_tear_down_are_called_in_this_order_with_the_config() -> None:
    """Async ones on the loop."""
    said: list[Any] = []

    async def scene() -> None:
        drm = manager()

        @drm.source("customers")
        class Customers:
            async def setup(self, config: Mapping[str, Any], api: Api) -> None:
                said.append(("setup", config, api.resource.id))

            async def fetch_resources(self) -> list[dict[str, Any]]:
                said.append("fetch")
                return [entry("r1"), entry("r2")]

            async def tear_down(self) -> None:
                said.append("tear down")

        async with drm:
            await drm.add(feed(config={"table": "customers"}))
            await until(lambda: ids(drm) == ["r1", "r2"])
            await until(lambda: said.count("fetch") > 2)

    play(scene)
    assert said[0] == ("setup", {"table": "customers"}, "feed")
    assert said[-1] == "tear down"
    assert set(said[1:-1]) == {"fetch"}


def test_sync_methods_may_block_and_are_all_run_in_one_thread() -> None:
    """As what is bound to a thread needs it, such as a connection of sqlite3; the loop goes on meanwhile."""
    threads = set()

    async def scene() -> None:
        drm = manager()

        class Customers:
            def setup(self, config: object, api: object) -> None:
                threads.add(threading.current_thread())

            def fetch_resources(self) -> list[dict[str, Any]]:
                threads.add(threading.current_thread())
                time.sleep(0.2)
                return [entry("r1")]

            def tear_down(self) -> None:
                threads.add(threading.current_thread())

        drm.source("customers", Customers)
        async with drm:
            await drm.add(feed())
            ticks = 0
            while ids(drm) != ["r1"]:
                await asyncio.sleep(0.01)
                ticks += 1
            assert ticks > 3

    play(scene)
    assert len(threads) == 1
    assert threading.main_thread() not in threads


def test_what_hands_out_its_list_bit_by_bit_does_so_in_its_thread_too() -> None:
    """A generator's body runs as it is read, and a cursor of sqlite3 is bound to the thread that made it."""
    threads = []

    async def scene() -> None:
        drm = manager()

        @drm.source("generator")
        class Generator:
            def fetch_resources(self) -> Iterator[dict[str, Any]]:
                threads.append(threading.current_thread())
                yield entry("r1")

        @drm.source("cursor")
        class Cursor:
            def setup(self, config: object, api: object) -> None:
                self.database = sqlite3.connect(":memory:")
                self.database.row_factory = lambda cursor, row: entry(row[0])

            def fetch_resources(self) -> sqlite3.Cursor:
                return self.database.execute("select 'r2'")

        async with drm:
            await drm.add(Resource("one", kind="source.generator"), Resource("two", kind="source.cursor"))
            await until(lambda: ids(drm) == ["r1", "r2"])

    play(scene)
    assert threading.main_thread() not in threads


def test_what_it_raises_half_way_through_its_list_is_a_failed_fetch() -> None:
    async def scene() -> None:
        drm = manager()

        @drm.source("customers")
        class Customers:
            def fetch_resources(self) -> Iterator[dict[str, Any]]:
                yield entry("r1")
                raise RuntimeError("the connection is lost")

        async with drm:
            await drm.add(feed())
            await until(lambda: state(drm) == "retrying")
            assert detail(drm) == "cannot be fetched: fetch_resources raised RuntimeError: the connection is lost"
            assert ids(drm) == []

    play(scene)


def test_what_it_raises_shows_and_changes_nothing() -> None:
    fail = [False]

    async def scene() -> None:
        drm = manager()

        @drm.source("customers")
        class Customers:
            def fetch_resources(self) -> list[dict[str, Any]]:
                if fail[0]:
                    raise RuntimeError("the table is locked")
                return [entry("r1")]

        async with drm:
            await drm.add(feed())
            await until(lambda: state(drm) == "open")
            fail[0] = True
            await until(lambda: state(drm) == "retrying")
            assert detail(drm) == "cannot be fetched: fetch_resources raised RuntimeError: the table is locked"
            assert ids(drm) == ["r1"]

            fail[0] = False
            await until(lambda: state(drm) == "open")

    play(scene)


def test_setup_is_tried_again_until_it_works_each_time_on_a_new_instance() -> None:
    made: list[Any] = []

    async def scene() -> None:
        drm = manager()

        @drm.source("customers")
        class Customers:
            def __init__(self) -> None:
                made.append(self)
                self.torn_down = False

            def setup(self, config: object, api: object) -> None:
                if len(made) < 3:
                    raise ConnectionError("refused")

            def fetch_resources(self) -> list[dict[str, Any]]:
                return [entry("r1")]

            def tear_down(self) -> None:
                self.torn_down = True

        async with drm:
            await drm.add(feed())
            await until(lambda: ids(drm) == ["r1"])

    play(scene)
    assert [plugin.torn_down for plugin in made] == [True, True, True]


def test_it_may_push_changes_and_fetch_nothing() -> None:
    """None from fetch_resources: there is no list, only what is pushed; what the app added stays out of reach."""
    apis: list[Api] = []

    async def scene() -> None:
        drm = manager()

        @drm.source("customers")
        class Customers:
            def setup(self, config: object, api: Api) -> None:
                apis.append(api)

            def fetch_resources(self) -> None:
                return None

        async with drm:
            await drm.add(Resource("mine", kind="idle"))
            await drm.add(feed(poll=0))
            await until(lambda: state(drm) == "open")
            [api] = apis

            await api.add(entry("r1"), entry("r2"), entry("mine", color="red"))
            assert ids(drm) == ["mine", "r1", "r2"]
            await api.add(entry("r1", color="red"))
            assert (drm.get("r1") or {})["color"] == "red"
            await api.remove("r2", "mine")
            assert ids(drm) == ["mine", "r1"]
            assert drm.get("mine") == Resource("mine", kind="idle")
            with pytest.raises(InvalidResource, match="'color': must be a string"):
                await api.add(entry("r3", color=7))

    play(scene)


def test_it_may_have_itself_fetched_at_once() -> None:
    apis: list[Api] = []
    entries = [entry("r1")]

    async def scene() -> None:
        drm = manager()

        @drm.source("customers")
        class Customers:
            def setup(self, config: object, api: Api) -> None:
                apis.append(api)

            def fetch_resources(self) -> list[dict[str, Any]]:
                return [*entries]

        async with drm:
            await drm.add(feed(poll=3600))
            await until(lambda: state(drm) == "open")
            entries.append(entry("r2"))

            apis[0].fetch_soon()

            await until(lambda: ids(drm) == ["r1", "r2"])

    play(scene)


@pytest.mark.parametrize("returned", ["r1", {"r1": {}}, 7])
def test_what_is_no_list_changes_nothing(returned: Any) -> None:
    async def scene() -> None:
        drm = manager()

        @drm.source("customers")
        class Customers:
            def fetch_resources(self) -> Any:
                return returned

        async with drm:
            await drm.add(feed())
            await until(lambda: "which is no list" in detail(drm))

    play(scene)


@pytest.mark.parametrize("plugin", [7, object(), dict, lambda: None])
def test_what_cannot_be_a_source_is_refused(plugin: Any) -> None:
    with pytest.raises(ConfigurationError, match="needs a class with the method fetch_resources"):
        manager().source("customers", plugin)


def test_a_name_is_given_once() -> None:
    class Customers:
        def fetch_resources(self) -> None: ...

    drm = manager()
    drm.source("customers", Customers)

    with pytest.raises(ConfigurationError, match="has a handler already"):
        drm.source("customers", Customers)
    with pytest.raises(ConfigurationError, match="has a handler already"):
        drm.source("http", Customers)


def test_a_source_that_is_not_registered_here_is_named() -> None:
    async def scene() -> None:
        async with manager() as drm:
            with pytest.raises(InvalidResource, match="no handler is registered for"):
                await drm.add(feed())

    play(scene)


class Installed:
    """What a package would bring."""

    def fetch_resources(self) -> list[dict[str, Any]]:
        return []


def test_packages_bring_sources_by_entry_points(caplog: pytest.LogCaptureFixture) -> None:
    """One that is broken is named, and does not keep the app from starting."""
    kinds = Kinds()
    points = [
        EntryPoint("vault", f"{__name__}:Installed", "pydrm.sources"),
        EntryPoint("broken", "no_such_module:Source", "pydrm.sources"),
    ]

    Sources(kinds, None, lambda: None, clock=SystemClock(), random=None, installed=points)  # type: ignore[arg-type]

    assert [*kinds] == ["source.file", "source.http", "source.vault"]
    assert "the source 'broken' of no_such_module:Source cannot be used" in caplog.text
