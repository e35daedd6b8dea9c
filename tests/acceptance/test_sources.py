"""
A list that a web server has, three nodes, and whoever of them fetches it dies.

nginx's log says who asked for the list and when; the third party's diary says what is held.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.scene import LEASE_TTL_S, PATIENCE_S, Scene, on_stage, with_app
from tests.sources.nginx import Nginx

POLL_S = 0.5


@contextlib.contextmanager
def fed(directory: Path, *, count: int, **fields: Any) -> Iterator[tuple[Scene, Nginx]]:
    """Three nodes with one source, which lists *count* of the third party's resources; all of them are held."""
    with Nginx() as nginx, on_stage(directory, resources=count, listed=False) as scene:
        nginx.put({"data": [{"id": id} for id in scene.ids]}, age_s=60)
        scene.cluster.start()
        scene.cluster.wait_ready()
        feed = {
            "id": "feed",
            "kind": "source.http",
            "url": nginx.url(),
            "headers": {"X-Key": "{node} {token}"},
            "defaults": {"kind": "websocket", "url": scene.witness.url},
            "poll": POLL_S,
            **fields,
        }
        add(scene, feed)
        held(scene, scene.ids)
        yield scene, nginx


def add(scene: Scene, *definitions: dict[str, Any]) -> None:
    lines = "\n".join(json.dumps(definition) for definition in definitions)
    assert scene.cluster["a"].cli("add", "-", stdin=lines).exit_code == 0


def held(scene: Scene, ids: Sequence[str]) -> None:
    """Wait until exactly *ids* are held, each once."""
    wait(lambda: sorted(scene.diary.held()) == sorted(ids), lambda: f"held are {sorted(scene.diary.held())[:10]}")
    assert {len(stays) for stays in scene.diary.held().values()} <= {1}


def wait(condition: Callable[[], bool], problem: Callable[[], str]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, problem()
        time.sleep(0.05)


def holders(nginx: Nginx) -> list[str]:
    """Who asked, "node token", in the order in which the server was asked; one that goes on asking is one."""
    seen: list[str] = []
    for request in nginx.requests():
        if not seen or seen[-1] != request["key"]:
            seen.append(request["key"])
    return seen


def fetcher(nginx: Nginx) -> str:
    return str(nginx.requests()[-1]["key"].split()[0])


def asked_more(nginx: Nginx, times: int) -> None:
    """Wait until the server was asked so many times more."""
    wanted = len(nginx.requests()) + times
    wait(lambda: len(nginx.requests()) >= wanted, lambda: f"asked {len(nginx.requests())} times, {wanted} were to come")


def somebody_else_asks(nginx: Nginx, victim: str) -> None:
    wait(lambda: fetcher(nginx) != victim, lambda: f"nobody goes on after {victim}")


def test_exactly_one_node_asks_and_when_it_is_killed_another_goes_on(tmp_path: Path, rounds: range) -> None:
    """On the condition that the list changed since the one before had it; and nobody whose node lives notices."""
    with fed(tmp_path, count=60) as (scene, nginx):
        asked_more(nginx, 6)
        assert len(holders(nginx)) == 1

        for _ in rounds:
            victim = fetcher(nginx)
            killed_s = scene.cluster[victim].kill()
            somebody_else_asks(nginx, victim)
            asked_more(nginx, 6)
            held(scene, scene.ids)
            assert scene.diary.ended(killed_s, nodes=scene.others(victim)) == []
            # What moves now for the sake of the load may be the source itself.
            scene.cluster.start(victim)
            scene.cluster.wait_ready(victim)
            held(scene, scene.ids)

        keys = holders(nginx)
        assert len(keys) == len({*keys}), f"two asked by turns: {keys}"
        tokens = [int(key.split()[1]) for key in keys]
        assert tokens == sorted(tokens)
        assert {request["status"] for request in nginx.requests()[1:]} == {304}
        scene.verify()


def test_an_entry_that_disappears_is_closed_and_one_that_appears_is_opened(tmp_path: Path) -> None:
    """Nothing else is touched; also while the node that fetched is dead."""
    with fed(tmp_path, count=60) as (scene, nginx):
        left = [*scene.ids[5:], "new-1", "new-2"]
        changed_s = time.monotonic()

        nginx.put({"data": [{"id": id} for id in left]})
        held(scene, left)

        assert sorted(stay.resource for stay in scene.diary.ended(changed_s)) == sorted(scene.ids[:5])

        victim = fetcher(nginx)
        scene.cluster[victim].kill()
        nginx.put({"data": [{"id": id} for id in left[1:]]})
        held(scene, left[1:])
        scene.verify()


def test_a_list_that_becomes_empty_changes_nothing(tmp_path: Path) -> None:
    """Nor does a server that is down for longer than a lease; both are said."""
    with fed(tmp_path, count=30) as (scene, nginx):
        emptied_s = time.monotonic()
        nginx.put({"data": []})
        wait(lambda: "the list is empty" in shown(scene)["detail"], lambda: f"it shows as {shown(scene)}")
        scene.witness.watch(2 * POLL_S)
        nginx.stop()
        wait(lambda: "cannot connect" in shown(scene)["detail"], lambda: f"it shows as {shown(scene)}")
        scene.witness.watch(2 * LEASE_TTL_S)

        assert shown(scene)["state"] == "retrying"
        assert scene.diary.ended(emptied_s) == []
        held(scene, scene.ids)
        scene.verify()


def test_what_the_app_added_is_never_touched_and_the_rest_goes_with_its_source(tmp_path: Path) -> None:
    with fed(tmp_path, count=30) as (scene, nginx):
        assert scene.add(["mine"], at="b").exit_code == 0
        held(scene, [*scene.ids, "mine"])
        added_s = time.monotonic()

        assert scene.cluster["a"].cli("remove", "feed").exit_code == 0
        held(scene, ["mine"])

        assert [stay.resource for stay in scene.diary.ended(added_s) if stay.resource == "mine"] == []
        asked = len(nginx.requests())
        scene.witness.watch(3 * POLL_S)
        assert len(nginx.requests()) == asked
        scene.verify()


@pytest.mark.parametrize("kind", ["source.file", "source.plugin"])
def test_a_file_and_a_plugin_go_on_elsewhere_too(tmp_path: Path, kind: str, rounds: range) -> None:
    """What changes while the node that reads is dead is seen by the next one; what did not change is not touched."""
    listed, diary = tmp_path / "list.json", tmp_path / "asked"

    def put(ids: Sequence[str]) -> None:
        written = tmp_path / "list.new"
        written.write_text(json.dumps({"data": [{"id": id} for id in ids]}))
        written.replace(listed)

    with on_stage(
        tmp_path, resources=30, listed=False, program=with_app("tests.acceptance.plugin_app:set_up")
    ) as scene:
        put(scene.ids)
        scene.cluster.start()
        scene.cluster.wait_ready()
        defaults = {"kind": "websocket", "url": scene.witness.url}
        feed: dict[str, Any] = {"id": "feed", "kind": kind, "defaults": defaults, "poll": POLL_S}
        where = {"path": str(listed)}
        add(scene, feed | (where if kind == "source.file" else {"config": {**where, "diary": str(diary)}}))
        held(scene, scene.ids)

        ids = list(scene.ids)
        for number in rounds:
            victim = str(shown(scene)["holder"])
            killed_s = scene.cluster[victim].kill()
            gone = ids.pop(0)
            ids.append(f"new-{number}")
            put(ids)
            held(scene, ids)
            ended = scene.diary.ended(killed_s, nodes=scene.others(victim))
            assert {stay.resource for stay in ended} <= {gone}
            scene.cluster.start(victim)
            scene.cluster.wait_ready(victim)
            held(scene, ids)

        if kind == "source.plugin":
            asked = diary.read_text().split()
            turns = [process for process, _ in itertools.groupby(asked)]
            assert len(turns) == len({*turns}), f"two asked by turns: {turns}"
        scene.verify()


def shown(scene: Scene) -> dict[str, Any]:
    running = scene.cluster.running()[0]
    return next(row for row in scene.resources_at(running) if row["id"] == "feed")
