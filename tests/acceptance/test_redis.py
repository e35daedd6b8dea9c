"""
Redis streams and channels while nodes are killed, handed over and frozen, and while the server itself is.

A writer numbers what it publishes to each of them. The nodes' app writes down what it is given and under which token.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import redis

from pydrm.testing.processes import ProcessCluster
from tests.acceptance.scene import LEASE_TTL_S, PATIENCE_S, with_app
from tests.counterparts import Server, redis_server

RESOURCES = 12
PAUSE_S = 0.02


class Writer:
    """Publishes 1, 2, 3 and so on, to all streams and channels alike, until told to stop."""

    def __init__(self, port: int) -> None:
        self._client = redis.Redis(port=port, socket_timeout=1.0)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self.written = 0
        self.unknown: set[int] = set()

    def _write(self) -> None:
        number = 0
        while not self._over.wait(PAUSE_S):
            number += 1
            try:
                for at in range(RESOURCES):
                    self._client.xadd(f"stream-{at}", {"n": number})
                    self._client.publish(f"channel-{at}", number)
                self.written = number
            except redis.RedisError:
                self.unknown.add(number)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[Writer]:
        self._thread.start()
        try:
            yield self
        finally:
            self._over.set()
            self._thread.join()
            self._client.close()


@attrs.frozen
class Stage:
    cluster: ProcessCluster
    server: Server
    path: Path

    def heard(self) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {}
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                delivery = json.loads(line)
                found.setdefault(delivery["resource"], []).append(delivery)
        return found

    def wait_until_heard(self, number: int, kinds: tuple[str, ...] = ("stream", "channel")) -> None:
        """Until all resources have had *number*, or a later one."""
        wanted = [f"{kind}-{at}" for kind in kinds for at in range(RESOURCES)]
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            heard = self.heard()
            late = [name for name in wanted if max((d["number"] for d in heard.get(name, [])), default=0) < number]
            if not late:
                return
            assert time.monotonic() < deadline_s, f"{late} have not heard {number}\n{self.cluster.log_tails()}"
            time.sleep(0.1)

    def holder_of(self, resource: str) -> str:
        rows = json.loads(self.cluster[self.cluster.running()[0]].cli("resources", "--json").stdout)
        return str(next(row["holder"] for row in rows if row["id"] == resource))

    def verify(self, written: int, unknown: set[int]) -> None:
        for name, deliveries in self.heard().items():
            tokens = [delivery["token"] for delivery in deliveries]
            assert tokens == sorted(tokens), f"{name}: something was delivered under an old token after its successor's"
            if name.startswith("stream"):
                missing = set(range(1, written + 1)) - {delivery["number"] for delivery in deliveries} - unknown
                assert not missing, f"{name} lost {sorted(missing)[:10]}"
                for token in set(tokens):
                    numbers = [delivery["number"] for delivery in deliveries if delivery["token"] == token]
                    assert numbers == sorted(numbers), f"{name} is out of order under token {token}"


@contextlib.contextmanager
def on_stage(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Stage, Writer]]:
    diary = directory / "diary.jsonl"
    monkeypatch.setenv("REDIS_DIARY", str(diary))
    with redis_server(directory) as server:
        url = f"redis://127.0.0.1:{server.port}"
        streams = [
            {"id": f"stream-{at}", "kind": "redis_stream", "url": url, "streams": "{id}", "start": "0",
             "decode": "text", "on_message": "entries"}
            for at in range(RESOURCES)
        ]  # fmt: skip
        channels = [
            {"id": f"channel-{at}", "kind": "redis_pubsub", "url": url, "channels": "{id}", "decode": "text",
             "on_message": "channels"}
            for at in range(RESOURCES)
        ]  # fmt: skip
        with ProcessCluster(
            "abc",
            resources=[*streams, *channels],
            lease_ttl_s=LEASE_TTL_S,
            directory=directory,
            program=with_app("tests.acceptance.redis_app:set_up"),
        ) as cluster:
            cluster.start()
            cluster.wait_ready()
            stage = Stage(cluster, server, diary)
            with Writer(server.port).at_work() as writer:
                stage.wait_until_heard(1)
                yield stage, writer
            # What was published last may have come while a channel was on its way back.
            stage.wait_until_heard(writer.written, kinds=("stream",))
            stage.verify(writer.written, writer.unknown)


def test_kill_9_loses_no_entry_and_delivers_none_under_an_old_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rounds: range
) -> None:
    with on_stage(tmp_path, monkeypatch) as (stage, writer):
        for _ in rounds:
            victim = stage.holder_of("stream-0")
            stage.cluster[victim].kill()
            stage.wait_until_heard(writer.written + 1)
            stage.cluster.start(victim)
            stage.cluster.wait_ready()
            stage.wait_until_heard(writer.written + 1)


def test_a_planned_move_loses_no_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with on_stage(tmp_path, monkeypatch) as (stage, writer):
        for victim in "ab":
            stage.cluster[victim].terminate()
            assert stage.cluster[victim].wait(timeout_s=20) == 0
            stage.cluster.start(victim)
            stage.cluster.wait_ready()
            stage.wait_until_heard(writer.written + 1)


def test_a_frozen_holder_delivers_nothing_when_it_thaws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sockets were open all the time, and what came is in its buffers."""
    with on_stage(tmp_path, monkeypatch) as (stage, writer):
        victim = stage.holder_of("channel-0")
        stage.cluster[victim].freeze()
        stage.wait_until_heard(writer.written + 1)
        stage.cluster[victim].thaw()
        stage.wait_until_heard(writer.written + 50)


def test_when_the_server_is_killed_the_streams_go_on_where_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with on_stage(tmp_path, monkeypatch) as (stage, writer):
        stage.server.kill()
        time.sleep(1.0)
        stage.server.start()
        # The next number may be one of which some was published before the kill.
        stage.wait_until_heard(writer.written + 2)
