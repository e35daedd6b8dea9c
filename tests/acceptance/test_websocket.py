"""
Websockets whose holders are killed and frozen: what their callbacks wrote down, and what the third party did.

Judged from outside: by the third party's diary, and by the lines that the callbacks of all processes have written.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from pydrm.cli.client import Client
from pydrm.cli.exits import Exit, Failed
from pydrm.testing.processes import ProcessCluster
from tests.acceptance.feed import Feed

LEASE_TTL_S = 2.0
PATIENCE_S = 30.0
RESOURCES = [f"r{number}" for number in range(6)]


@attrs.frozen
class Delivery:
    """A message that a callback was given."""

    at_s: float
    node: str
    resource: str
    token: int
    id: int


@attrs.frozen
class Scene:
    feed: Feed
    cluster: ProcessCluster
    directory: Path

    def deliveries(self) -> dict[str, list[Delivery]]:
        """By resource, in the order of time."""
        lines = [line for path in self.directory.glob("*.jsonl") for line in path.read_text().splitlines()]
        by_resource: dict[str, list[Delivery]] = {id: [] for id in RESOURCES}
        for delivery in sorted((Delivery(**json.loads(line)) for line in lines), key=lambda one: one.at_s):
            by_resource[delivery.resource].append(delivery)
        return by_resource

    def until_all_are_held(self, since_s: float = 0.0) -> None:
        """Until each resource has had a message that it was given after *since_s*, under its newest token."""
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            newest = [deliveries[-1] for deliveries in self.deliveries().values() if deliveries]
            if len(newest) == len(RESOURCES) and all(one.at_s > max(since_s, time.monotonic() - 1) for one in newest):
                return
            time.sleep(0.1)
        raise AssertionError(f"not all are held: {self.cluster.log_tails()}")

    def holder(self, resource: str) -> str:
        return next(row["holder"] for row in self.any_client().resources() if row["id"] == resource)

    def any_client(self) -> Client:
        running = next(name for name in self.cluster.names if self.cluster[name].running)
        return Client(self.cluster[running].admin, timeout=5)

    def verify(self) -> None:
        for resource, deliveries in self.deliveries().items():
            tokens = [delivery.token for delivery in deliveries]
            assert tokens == sorted(tokens), f"{resource}: a message was delivered under an old token"
            # Whoever holds it next goes on from what was saved: some may come twice, none is left out.
            ids = {delivery.id for delivery in deliveries}
            assert ids == set(range(1, max(ids) + 1)), f"{resource}: lost {set(range(1, max(ids))) - ids}"


@contextlib.contextmanager
def on_stage(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setenv("FEED_DIARY", str(directory))
    program = (sys.executable, str(Path(__file__).with_name("feed_node.py")))
    with Feed() as feed:
        definitions = [
            {
                "id": id,
                "kind": "websocket",
                "url": feed.url,
                "on_message": "write_down",
                "decode": "json",
                "checkpoint_field": "id",
                "checkpoint_start": 0,
            }
            for id in RESOURCES
        ]
        with ProcessCluster(
            "abc", resources=definitions, lease_ttl_s=LEASE_TTL_S, directory=directory, program=program
        ) as cluster:
            cluster.start()
            scene = Scene(feed, cluster, directory)
            scene.until_all_are_held()
            yield scene


def test_kill_9_of_the_holder_loses_nothing_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rounds: range
) -> None:
    """The third party goes on all the while; the next holder asks for what follows the last checkpoint."""
    with on_stage(tmp_path, monkeypatch) as scene:
        for number in rounds:
            time.sleep(1.5)
            victim = scene.holder(RESOURCES[number % len(RESOURCES)])
            killed_s = scene.cluster[victim].kill()
            scene.until_all_are_held(killed_s + LEASE_TTL_S)
            scene.verify()
            # Not from the beginning, but from what was saved about a second before the death.
            for stay in scene.feed.stays:
                if stay.since_s > killed_s:
                    had = [one.id for one in scene.deliveries()[stay.resource] if one.at_s < killed_s]
                    assert stay.last_id >= max(had) - 2.5 / 0.005
            scene.cluster.start(victim)
            scene.until_all_are_held(time.monotonic())


def test_a_frozen_holder_delivers_nothing_when_it_thaws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rounds: range
) -> None:
    """Messages wait in its sockets all the while; its tokens are old when it could read them."""
    with on_stage(tmp_path, monkeypatch) as scene:
        for number in rounds:
            victim = scene.holder(RESOURCES[number % len(RESOURCES)])
            frozen_s = scene.cluster[victim].freeze()
            scene.until_all_are_held(frozen_s + LEASE_TTL_S)
            scene.cluster[victim].thaw()
            time.sleep(1)
            scene.verify()
            if not scene.cluster[victim].running:
                scene.cluster.start(victim)
            scene.until_all_are_held(time.monotonic() + 0.5)
        scene.verify()


class Sender(threading.Thread):
    """
    Sends one message after the other through one node, from when it is started until `stop`.

    Attributes:
        delivered, refused, unknown: What it was told of each.
    """

    def __init__(self, name: str, admin: str) -> None:
        super().__init__(daemon=True)
        self.delivered: list[str] = []
        self.refused: list[str] = []
        self.unknown: list[str] = []
        self._of = name
        self._client = Client(admin, timeout=5)
        self._over = threading.Event()

    def run(self) -> None:
        count = 0
        while not self._over.is_set():
            text = f"{self._of} {count}"
            try:
                self._client.send(RESOURCES[count % len(RESOURCES)], text)
            except Failed as failed:
                certain = failed.exit is Exit.CONFLICT or "cannot reach a node" in str(failed)
                (self.refused if certain else self.unknown).append(text)
                time.sleep(0.01)
            else:
                self.delivered.append(text)
            count += 1

    def stop(self) -> None:
        self._over.set()
        self.join(10)


def test_what_each_node_sends_while_the_holder_is_killed_is_there_if_it_was_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rounds: range
) -> None:
    """Delivered: the third party has it. Refused: it has not. Each once. Only of the rest nobody knows."""
    with on_stage(tmp_path, monkeypatch) as scene:
        for number in rounds:
            senders = [Sender(f"{number}{name}", scene.cluster[name].admin) for name in "abc"]
            for sender in senders:
                sender.start()
            time.sleep(1)
            victim = scene.holder(RESOURCES[number % len(RESOURCES)])
            killed_s = scene.cluster[victim].kill()
            scene.until_all_are_held(killed_s + LEASE_TTL_S)
            for sender in senders:
                sender.stop()
            scene.cluster.start(victim)
            scene.until_all_are_held(time.monotonic())

            heard: list[Any] = [text for _, text in scene.feed.heard]
            assert len(heard) == len(set(heard))
            for sender in senders:
                assert set(sender.delivered) <= set(heard)
                assert not set(sender.refused) & set(heard)
                assert len(sender.delivered) > 20
                # What was under way when the holder died, and what was tried while its lease ran on.
                assert len(sender.unknown) < len(sender.delivered)
            scene.verify()
