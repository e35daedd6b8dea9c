"""
The kinds of the examples, on three nodes that are killed and frozen: MQTT, a PostgreSQL LISTEN, a nightly job.

A publisher numbers what it sends to the broker and to the database. Judged by what the nodes' app writes down, and by
whom the database knows to listen.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import paho.mqtt.client as paho
import psycopg
import pytest

from pydrm.testing.processes import ProcessCluster
from tests.acceptance.scene import LEASE_TTL_S, PATIENCE_S, with_app
from tests.counterparts import mosquitto, postgres

COUNT = 3
PAUSE_S = 0.05
NIGHT_S = 3.0


@attrs.frozen
class Line:
    at_s: float
    node: str
    resource: str
    token: int
    text: str

    @property
    def number(self) -> int:
        """What was published; 0 for what only says that it is held."""
        said = re.search(r"(?:/1|channel-\d:) (\d+)", self.text)
        return int(said[1]) if said else 0


class Publisher:
    """Sends 1, 2, 3 and so on, to all topics and channels alike, until told to stop."""

    def __init__(self, broker_port: int, database: psycopg.Connection[Any]) -> None:
        self.number = 0
        self._database = database
        self._broker = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self._broker.connect("127.0.0.1", broker_port)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._publish)

    def _publish(self) -> None:
        while not self._over.wait(PAUSE_S):
            number = self.number + 1
            for at in range(COUNT):
                self._broker.publish(f"mqtt-{at}/1", str(number), qos=1).wait_for_publish(10)
                self._database.execute("SELECT pg_notify(%s, %s)", [f"channel-{at}", str(number)])
            self.number = number

    @contextlib.contextmanager
    def at_work(self) -> Iterator[Publisher]:
        self._broker.loop_start()
        self._thread.start()
        try:
            yield self
        finally:
            self._over.set()
            self._thread.join()
            self._broker.disconnect()
            self._broker.loop_stop()


@attrs.frozen
class Stage:
    cluster: ProcessCluster
    publisher: Publisher
    dsn: str
    path: Path

    def lines(self) -> dict[str, list[Line]]:
        """By resource, in the order in which they were written."""
        found: dict[str, list[Line]] = {}
        for text in self.path.read_text().splitlines() if self.path.exists() else ():
            line = Line(**json.loads(text))
            found.setdefault(line.resource, []).append(line)
        return found

    def all_go_on(self) -> None:
        """Wait until each has received something that was sent after this was called, and its job has had a night."""
        number, since_s = self.publisher.number, time.monotonic()
        heard = [f"{kind}-{at}" for kind in ("mqtt", "channel") for at in range(COUNT)]
        deadline_s = since_s + PATIENCE_S
        while True:
            lines = self.lines()
            late = [id for id in heard if max((line.number for line in lines.get(id, [])), default=0) <= number]
            late += [f"job-{at}" for at in range(COUNT) if lines.get(f"job-{at}", [_NEVER])[-1].at_s < since_s]
            if not late:
                return
            assert time.monotonic() < deadline_s, f"{late} do not go on\n{self.cluster.log_tails()}"
            time.sleep(0.1)

    def holder_of(self, resource: str) -> str:
        rows = json.loads(self.cluster[self.cluster.running()[0]].cli("resources", "--json").stdout)
        return str(next(row["holder"] for row in rows if row["id"] == resource))

    def listeners(self) -> dict[str, int]:
        """How many sessions of the database listen on each channel."""
        with psycopg.connect(self.dsn, autocommit=True) as database:
            said = database.execute("SELECT query FROM pg_stat_activity WHERE query LIKE 'LISTEN%'").fetchall()
        queries = [str(query) for (query,) in said]
        return {f"channel-{at}": queries.count(f'LISTEN "channel-{at}"') for at in range(COUNT)}

    def each_is_listened_to_once(self) -> None:
        """Also the database takes a moment to notice that somebody has gone."""
        deadline_s = time.monotonic() + PATIENCE_S
        while set(self.listeners().values()) != {1}:
            assert time.monotonic() < deadline_s, f"listeners: {self.listeners()}"
            time.sleep(0.1)

    def verify(self) -> None:
        for resource, lines in self.lines().items():
            tokens = [line.token for line in lines]
            assert tokens == sorted(tokens), f"{resource}: something came under an old token after its successor's"
        for at in range(COUNT):
            nights = [line.text.split() for line in self.lines()[f"job-{at}"]]
            for (before, _), (night, how) in itertools.pairwise(nights):
                repeated = int(night) == int(before) and how == "again"
                assert repeated or int(night) == int(before) + 1, f"job-{at}: {nights}"


_NEVER = Line(float("-inf"), "", "", 0, "")


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """All of it held, and going on; verified at the end."""
    diary = tmp_path / "diary.jsonl"
    monkeypatch.setenv("CUSTOM_DIARY", str(diary))
    with contextlib.ExitStack() as closing:
        broker = closing.enter_context(mosquitto(tmp_path))
        server = closing.enter_context(postgres(tmp_path))
        dsn = f"host=127.0.0.1 port={server.port} user=postgres dbname=postgres"
        database = closing.enter_context(psycopg.connect(dsn, autocommit=True))
        where = {"host": "127.0.0.1", "port": broker.port}
        resources = [
            *({"id": f"mqtt-{at}", "kind": "mqtt", "topic": f"mqtt-{at}/#", **where} for at in range(COUNT)),
            *({"id": f"channel-{at}", "kind": "listen", "dsn": dsn} for at in range(COUNT)),
            *({"id": f"job-{at}", "kind": "nightly", "every": NIGHT_S} for at in range(COUNT)),
        ]
        cluster = closing.enter_context(
            ProcessCluster(
                "abc",
                resources=resources,
                lease_ttl_s=LEASE_TTL_S,
                directory=tmp_path,
                program=with_app("tests.acceptance.custom_app:set_up"),
            )
        )
        cluster.start()
        cluster.wait_ready()
        publisher = closing.enter_context(Publisher(broker.port, database).at_work())
        stage = Stage(cluster, publisher, dsn, diary)
        stage.all_go_on()
        yield stage
        stage.all_go_on()
        stage.each_is_listened_to_once()
        stage.verify()


def test_kill_9_of_the_holder_and_all_go_on_under_higher_tokens(stage: Stage, rounds: range) -> None:
    """A night that the dead one had begun is the only one that comes again, and its job is told."""
    for number in rounds:
        victim = stage.holder_of(("channel-0", "mqtt-0", "job-0")[number % 3])
        stage.cluster[victim].kill()
        stage.all_go_on()
        stage.each_is_listened_to_once()
        stage.cluster.start(victim)
        stage.cluster.wait_ready()
        stage.all_go_on()


def test_a_frozen_holder_does_nothing_when_it_thaws(stage: Stage) -> None:
    """Its connections were open all the time, and what came is in their buffers."""
    victim = stage.holder_of("channel-0")
    stage.cluster[victim].freeze()
    stage.all_go_on()
    thawed_s = time.monotonic()
    before = {id: lines[-1].token for id, lines in stage.lines().items()}
    stage.cluster[victim].thaw()
    stage.all_go_on()

    late = [line for lines in stage.lines().values() for line in lines if line.at_s > thawed_s]
    assert [line for line in late if line.token < before[line.resource]] == []
