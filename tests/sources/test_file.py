"""The file source: what is in the file is what is held, and a file that cannot be read changes nothing."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from pydrm import Hold, Permanent, Resource
from pydrm.agent.readable import Readable
from pydrm.clock import SystemClock
from pydrm.core.records import Condition
from pydrm.handlers.custom import FunctionKind
from pydrm.sources.file import FileOrigin
from pydrm.testing.held import Held
from tests.sources.build import detail, entry, ids, manager, play, state, until


def source(path: Path, **fields: Any) -> Resource:
    return Resource("feed", kind="source.file", path=str(path), **{"poll": 0.05, **fields})


def put(path: Path, content: Any) -> None:
    """As editors and deployments do: whole, or not at all."""
    temporary = path.with_suffix(".new")
    temporary.write_text(content if isinstance(content, str) else json.dumps(content))
    temporary.replace(path)


TOML = """
[[data]]
id = "r1"
kind = "idle"

[[data]]
id = "r2"
kind = "idle"
color = "red"
"""

YAML = """
data:
  - {id: r1, kind: idle}
  - {id: r2, kind: idle, color: red}
"""


@pytest.mark.parametrize(
    ("name", "content", "fields"),
    [
        ("list.json", {"data": [entry("r1"), entry("r2", color="red")]}, {}),
        ("list.json", [entry("r1"), entry("r2", color="red")], {}),
        ("list.toml", TOML, {}),
        ("list.yaml", YAML, {}),
        ("list.yml", YAML, {}),
        ("list.txt", TOML, {"format": "toml"}),
        ("list.json", {"a": {"b": [entry("r1"), entry("r2", color="red")]}}, {"list": "a.b"}),
    ],
)
def test_json_toml_and_yaml_are_read(tmp_path: Path, name: str, content: Any, fields: dict[str, Any]) -> None:
    """By the name of the file, unless `format` says what it is."""
    if name.endswith(("yaml", "yml")):
        pytest.importorskip("yaml", reason="PyYAML is not installed (pip install pydrm[yaml])")

    async def scene() -> None:
        put(tmp_path / name, content)
        async with manager() as drm:
            await drm.add(source(tmp_path / name, **fields))

            await until(lambda: ids(drm) == ["r1", "r2"])
            await until(lambda: state(drm) == "open")
            assert (drm.get("r2") or {})["color"] == "red"

    play(scene)


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    """Whether it is replaced or written in place."""

    async def scene() -> None:
        path = tmp_path / "list.json"
        put(path, {"data": [entry("r1"), entry("r2")]})
        async with manager() as drm:
            await drm.add(source(path))
            await until(lambda: ids(drm) == ["r1", "r2"])

            put(path, {"data": [entry("r2"), entry("r3")]})
            await until(lambda: ids(drm) == ["r2", "r3"])
            path.write_text(json.dumps({"data": [entry("r3"), entry("r4")]}))
            await until(lambda: ids(drm) == ["r3", "r4"])

    play(scene)


@pytest.mark.parametrize("content", ['{"data": [', "", "[]", "7"])
def test_a_file_that_is_half_written_or_empty_changes_nothing(tmp_path: Path, content: str) -> None:
    """It shows, and the next good one is used."""

    async def scene() -> None:
        path = tmp_path / "list.json"
        put(path, {"data": [entry("r1")]})
        async with manager() as drm:
            await drm.add(source(path))
            await until(lambda: state(drm) == "open")

            put(path, content)
            await until(lambda: state(drm) == "retrying")
            assert ids(drm) == ["r1"]
            put(path, {"data": [entry("r1"), entry("r2")]})

            await until(lambda: ids(drm) == ["r1", "r2"])

    play(scene)


def test_a_file_that_is_gone_changes_nothing(tmp_path: Path) -> None:
    async def scene() -> None:
        path = tmp_path / "list.json"
        put(path, {"data": [entry("r1")]})
        async with manager() as drm:
            await drm.add(source(path))
            await until(lambda: state(drm) == "open")
            # It is looked at some times before it goes, as it would be.
            await asyncio.sleep(0.2)

            path.unlink()
            await until(lambda: "cannot be read: No such file or directory" in detail(drm))
            assert ids(drm) == ["r1"]
            put(path, {"data": [entry("r2"), entry("r1")]})

            await until(lambda: ids(drm) == ["r1", "r2"])
            await until(lambda: state(drm) == "open")

    play(scene)


def test_a_file_that_goes_between_two_looks_is_noticed_at_the_second_one_without_it(tmp_path: Path) -> None:
    """At the first it may be in the midst of being replaced."""
    path = tmp_path / "list.json"
    put(path, [])
    looks: list[bool] = []

    class Clock(SystemClock):
        async def sleep(self, seconds: float) -> None:
            if len(looks) == 1:
                path.unlink()
            looks.append(path.exists())
            assert len(looks) < 10, "it is not noticed"

    async def scene() -> None:
        async def fetch_and_wait(hold: Hold) -> None:
            fetcher = FileOrigin(Clock(), Readable()).fetcher(hold)
            await fetcher.fetch({})
            hold.ready()
            await fetcher.wait(1.0)
            raise Permanent("it is gone")

        held = Held(FunctionKind(fetch_and_wait), source(path))
        await until(lambda: held.conditions == [Condition.OPEN, Condition.FAILED])
        assert held.told[-1][1] == "it is gone"
        await held.release()

    play(scene)
    assert looks == [True, False, False]


def test_without_its_package_yaml_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)

    async def scene() -> None:
        put(tmp_path / "list.yaml", YAML)
        async with manager() as drm:
            await drm.add(source(tmp_path / "list.yaml"))

            await until(lambda: "pip install pydrm[yaml]" in detail(drm))

    play(scene)


def test_a_pipe_is_no_file_and_nobody_waits_for_it(tmp_path: Path) -> None:
    """To open one waits for whoever writes to it, in a thread that nobody can stop."""

    async def scene() -> None:
        path = tmp_path / "list.json"
        os.mkfifo(path)
        async with manager() as drm:
            await drm.add(source(path))
            await until(lambda: f"{path} is no file" in detail(drm))

            path.unlink()
            put(path, {"data": [entry("r1")]})
            await until(lambda: ids(drm) == ["r1"])

    play(scene)


def test_a_tag_that_yaml_stumbles_over_changes_nothing(tmp_path: Path) -> None:
    pytest.importorskip("yaml", reason="PyYAML is not installed (pip install pydrm[yaml])")

    async def scene() -> None:
        put(tmp_path / "list.yaml", "data: !!int ''")
        async with manager() as drm:
            await drm.add(source(tmp_path / "list.yaml"))

            await until(lambda: "list.yaml cannot be understood: string index out of range" in detail(drm))

    play(scene)


HALVES = "".join(f"- &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
CIRCLE = "- &r1 {id: r1, kind: idle, itself: *r1}\n"


@pytest.mark.parametrize("content", ["- &a0 [x]\n" + HALVES, CIRCLE], ids=["a power of two", "a circle"])
def test_aliases_that_stand_for_more_than_anybody_can_look_at_change_nothing(tmp_path: Path, content: str) -> None:
    """To follow them would stop the loop, and the next holder's after it."""
    pytest.importorskip("yaml", reason="PyYAML is not installed (pip install pydrm[yaml])")

    async def scene() -> None:
        put(tmp_path / "list.yaml", content)
        async with manager() as drm:
            await drm.add(source(tmp_path / "list.yaml"))
            await until(lambda: "its aliases stand for more than they may" in detail(drm))

            put(tmp_path / "list.yaml", "- &a {id: r1, kind: idle}\n- {<<: *a, id: r2}\n")
            await until(lambda: ids(drm) == ["r1", "r2"])

    play(scene)
