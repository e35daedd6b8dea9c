"""Every source that comes with pydrm keeps what is promised of all sources; and who does not is found out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pydrm import Resource
from pydrm.testing.conformance import check_source
from pydrm.testing.ports import Ports


class Listed:
    """A list that two of its entries are always in, and one more that is another after each change."""

    def __init__(self) -> None:
        self._changes = 0

    def ids(self) -> Collection[str]:
        return ["first", "second", f"after change {self._changes}"]

    def entries(self) -> list[dict[str, Any]]:
        return [{"id": id, "kind": "websocket"} for id in self.ids()]

    async def change(self) -> None:
        self._changes += 1

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def is_held(self) -> bool:
        return False


class Site(Listed):
    """It is given away by an HTTP server at a port of its own, which sees who is connected."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port = port
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def is_held(self) -> bool:
        return self._runner is not None and self._runner.server is not None and bool(self._runner.server.connections)

    async def _answer(self, request: web.Request) -> web.Response:
        return web.json_response({"data": self.entries()}, headers={"ETag": f'"{self._changes}"'})


class Written(Listed):
    """It is a file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    async def start(self) -> None:
        self._write()

    async def stop(self) -> None:
        self._path.unlink(missing_ok=True)

    async def change(self) -> None:
        await super().change()
        self._write()

    def _write(self) -> None:
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(self.entries()))
        new.rename(self._path)


def test_http() -> None:
    with Ports() as ports:
        site = Site(ports.reserve())
        feed = Resource("feed", kind="source.http", url=f"http://127.0.0.1:{site.port}/", poll=0.05)
        refused = [(Resource("feed", kind="source.http", url="ftp://x"), "url")]
        asyncio.run(check_source(None, feed, site, refused=refused))


def test_file(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    feed = Resource("feed", kind="source.file", path=str(path), poll=0.05)
    refused = [(Resource("feed", kind="source.file", path="list.json"), "path")]
    asyncio.run(check_source(None, feed, Written(path), refused=refused))


class Database(Listed):
    """
    Attributes:
        works: Whether it gives its list away.
        readers: Who has it open.
    """

    def __init__(self) -> None:
        super().__init__()
        self.works = False
        self.readers: set[object] = set()

    async def start(self) -> None:
        self.works = True

    async def stop(self) -> None:
        self.works = False

    def is_held(self) -> bool:
        return bool(self.readers)


class Customers:
    """A source as it should be; `database` is where its list is."""

    database: Database

    def setup(self, config: Mapping[str, Any], api: Any) -> None:
        self.database.readers.add(self)

    def fetch_resources(self) -> list[dict[str, Any]]:
        if not self.database.works:
            raise ConnectionError("the database is away")
        return self.database.entries()

    def tear_down(self) -> None:
        self.database.readers.discard(self)


class Ashamed(Customers):
    """Gives an empty list for whatever goes wrong."""

    def fetch_resources(self) -> list[dict[str, Any]]:
        return self.database.entries() if self.database.works else []


class Frugal(Customers):
    """Fetches once."""

    def fetch_resources(self) -> list[dict[str, Any]]:
        self.fetched = getattr(self, "fetched", None) or super().fetch_resources()
        return self.fetched


class Untidy(Customers):
    """Leaves open what it has opened."""

    def tear_down(self) -> None: ...


class Careless(Customers):
    """Gives its entries away without the ids that they have."""

    def fetch_resources(self) -> list[dict[str, Any]]:
        return [{"name": entry["id"]} for entry in super().fetch_resources()]


class Brave(Customers):
    """Says nothing of what goes wrong."""

    def fetch_resources(self) -> list[dict[str, Any]]:
        return super().fetch_resources() if self.database.works else None  # type: ignore[return-value]


async def check(plugin: type[Customers]) -> None:
    database = Database()
    theirs = type(plugin.__name__, (plugin,), {"database": database})
    await check_source(theirs, Resource("feed", kind="source.customers", poll=0.02), database)


def test_a_plugin_that_does_as_it_should_passes() -> None:
    asyncio.run(check(Customers))


@pytest.mark.parametrize(
    ("plugin", "broken"),
    [
        (Ashamed, "the counterpart is away, and what came from it is removed"),
        (Frugal, "the list has changed, and that is not brought"),
        (Untidy, "it was released, and something of it is still open"),
        (Careless, "not all of the list is brought"),
        (Brave, "the counterpart is away, and it still says that it is open"),
    ],
)
def test_a_plugin_that_breaks_a_promise_is_found_out(
    plugin: type[Customers], broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pydrm.testing.conformance.checked.PATIENCE_S", 2.0)

    with pytest.raises(AssertionError, match=broken):
        asyncio.run(check(plugin))


def test_a_kind_that_nobody_brings_is_named() -> None:
    with pytest.raises(AssertionError, match=r"there is no source of the kind 'source\.customers'"):
        asyncio.run(check_source(None, Resource("feed", kind="source.customers"), Database()))
