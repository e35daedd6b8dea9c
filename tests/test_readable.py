"""What definitions may have a node read: nothing but what the node's own configuration says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pydrm import Hold, Resource, ResourceManager
from pydrm.agent.readable import Readable
from pydrm.testing.held import until
from tests.handlers.webhook.receiver import Receiver

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def about(**fields: Any) -> Resource:
    return Resource("r1", kind="anything", **fields)


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """A directory with a secret in it, a link to one beside it, and a link to the directory itself."""
    inside, outside = tmp_path / "secrets", tmp_path / "secrets of others"
    for directory in (inside, outside):
        directory.mkdir()
        (directory / "key").write_text(SECRET)
    (inside / "link").symlink_to(outside / "key")
    (tmp_path / "alias").symlink_to(inside)
    return inside


def test_without_limits_everything_may_be_read() -> None:
    assert not Readable().is_limited
    assert Readable().problem(about(url="{env:HOME}{file:/etc/passwd}")) == ""


def test_a_variable_must_begin_with_what_is_listed() -> None:
    readable = Readable(variables=["FEED_", "HOOK_KEY"])

    assert readable.problem(about(url="wss://x/?key={env:FEED_KEY}&hook={env:HOOK_KEY}")) == ""
    assert readable.problem(about(url="{env:AWS_FEED_KEY}")) == (
        "{env:AWS_FEED_KEY} may not be read here: it is none of readable_variables"
    )
    assert readable.problem(about(url="{file:/etc/passwd}")) == ""


def test_a_file_must_be_in_a_directory_that_is_listed_wherever_links_lead(secrets: Path) -> None:
    readable = Readable(directories=[secrets.parent / "alias"])

    def problem(path: str) -> str:
        return readable.problem(about(secret=f"{{file:{path}}}"))

    assert problem(f"{secrets}/key") == problem(f"{secrets.parent}/alias/key") == problem(f"{secrets}/no/such") == ""
    for elsewhere in (
        "/etc/passwd",
        f"{secrets}/link",
        f"{secrets} of others/key",
        f"{secrets}/../secrets of others/key",
        "key",
        f"{secrets}/\0",
    ):
        assert problem(elsewhere) != "", elsewhere


@pytest.mark.parametrize("value", [["x{env:HOME}"], {"b": {"c": "{env:HOME}"}}, {"{env:HOME}": 1}])
def test_they_are_found_wherever_they_stand_in_a_definition(value: Any) -> None:
    assert "{env:HOME}" in Readable(variables=[]).problem(about(field=value))


def play(scene: Callable[[ResourceManager], Any], **limits: Any) -> None:
    async def run() -> None:
        drm = ResourceManager(cluster="c", node="a", give_up_after=0, **limits)

        @drm.source("mine")
        class Mine:
            def fetch_resources(self) -> list[Any]:
                return []

        @drm.handler("anything")
        async def anything(hold: Hold) -> None:
            raise AssertionError("it is not to be run")

        async with asyncio.timeout(20), drm:
            await scene(drm)

    asyncio.run(run())


def detail(drm: ResourceManager) -> str:
    [row] = [row for row in drm.resources() if row["id"] == "r1"]
    return str(row["detail"])


@pytest.mark.parametrize(
    "resource",
    [
        Resource("r1", kind="websocket", url="ws://127.0.0.1:1/?key={env:HOME}"),
        Resource("r1", kind="webhook", url="https://1.1.1.1/", topics="#", secret="{env:HOME}"),
        Resource("r1", kind="source.http", url="http://127.0.0.1:1/{env:HOME}"),
        Resource("r1", kind="source.mine", config={"token": "{env:HOME}"}),
        Resource("r1", kind="anything", key=["{{env:HOME}}"]),
    ],
    ids=lambda resource: resource.kind,
)
def test_whatever_its_kind_what_refers_to_something_else_is_not_opened(resource: Resource) -> None:
    """It shows why, and is tried again: another node may have other limits."""

    async def scene(drm: ResourceManager) -> None:
        await drm.add(resource)
        await until(lambda: detail(drm) != "")

        assert detail(drm) == "{env:HOME} may not be read here: it is none of readable_variables on node 'a'"

    play(scene, readable_variables=["FEED_"])


def test_what_is_listed_is_read(secrets: Path) -> None:
    async def scene(drm: ResourceManager) -> None:
        async with Receiver() as receiver:
            receiver.answer = lambda received: web.Response(status=204)
            secret = f"{{file:{secrets}/key}}"
            allow = ["127.0.0.0/8"]
            await drm.add(Resource("r1", kind="webhook", url=receiver.url, topics="#", secret=secret, allow=allow))
            await drm.publish("orders", b"")
            await until(lambda: len(receiver.received) == 1)

    play(scene, readable_variables=[], readable_directories=[secrets])


def test_the_list_of_a_file_source_is_read_only_where_files_may_be(secrets: Path) -> None:
    """Nor is it said whether there is such a file."""
    (secrets / "list.json").write_text("[]")

    async def scene(drm: ResourceManager) -> None:
        elsewhere = secrets.parent / "list.json"
        await drm.add(Resource("r1", kind="source.file", path=str(elsewhere), poll=0.05))
        await until(lambda: detail(drm) != "")
        assert detail(drm).startswith(f"cannot be fetched: {elsewhere} may not be read here")

        await drm.add(Resource("r1", kind="source.file", path=str(secrets / "list.json"), poll=0.05))
        await until(lambda: [row["state"] for row in drm.resources()] == ["open"])

    play(scene, readable_directories=[secrets])
