"""Webhooks while their holders are killed; the receiver's diary is the judge."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from pydrm.cli.client import Client
from pydrm.cli.exits import Failed
from tests.acceptance.hooks import SECRET, Hooks
from tests.acceptance.scene import PATIENCE_S, Scene, on_stage

SUBSCRIPTIONS = [f"hook-{number}" for number in range(6)]


def subscribe(scene: Scene, hooks: Hooks, delivery: str) -> None:
    lines = (
        json.dumps(
            {
                "id": name,
                "kind": "webhook",
                "url": f"{hooks.url}/{name}",
                "topics": "orders.*",
                "secret": SECRET,
                "allow": ["127.0.0.0/8"],
                "delivery": delivery,
            }
        )
        for name in SUBSCRIPTIONS
    )
    answer = scene.cluster["a"].cli("add", "-", stdin="\n".join(lines))
    assert answer.exit_code == 0, answer.stderr


class Publisher:
    """
    Publishes through one node after the other, each event under an id of its own until it is acknowledged.

    Attributes:
        acknowledged: What was, each a number.
    """

    def __init__(self, scene: Scene) -> None:
        self.acknowledged: list[int] = []
        self._scene = scene
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._publish)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _publish(self) -> None:
        number = 0
        while not self._over.is_set():
            number += 1
            turn = number
            while True:
                turn += 1
                client = Client(self._scene.cluster["abc"[turn % 3]].admin, timeout=2)
                try:
                    client.publish("orders.created", number, f"order-{number}")
                    break
                except Failed:
                    time.sleep(0.05)
            self.acknowledged.append(number)
            time.sleep(0.01)


def play(scene: Scene, hooks: Hooks, rounds: range) -> list[int]:
    """Kill one holder after the other while events are published; what was acknowledged."""
    publisher = Publisher(scene)
    try:
        for number in rounds:
            victim = "abc"[number % 3]
            time.sleep(1.0)
            scene.cluster[victim].kill()
            time.sleep(3.0)
            scene.cluster.start(victim)
            scene.cluster.wait_ready()
    finally:
        publisher.stop()
    return publisher.acknowledged


def wait_quiet(scene: Scene, hooks: Hooks, quiet_s: float = 3.0) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        posted = hooks.posted
        if posted and time.monotonic() - posted[-1].at_s > quiet_s:
            return
        time.sleep(0.1)
    raise AssertionError("it does not come to rest")


@pytest.fixture
def some(rounds: range) -> range:
    return range(max(3, len(rounds)))


def test_at_least_once_loses_nothing_and_gives_an_event_one_id(tmp_path: Path, some: range) -> None:
    """What was being sent when its holder died is sent again, and the receiver can tell."""
    with Hooks(delay_s=0.02) as hooks, on_stage(tmp_path, resources=0) as scene:
        scene.cluster.start()
        scene.cluster.wait_ready()
        subscribe(scene, hooks, "at_least_once")

        acknowledged = play(scene, hooks, some)
        wait_quiet(scene, hooks)

        assert len(acknowledged) > 100
        assert hooks.missing(SUBSCRIPTIONS, acknowledged) == []
        assert hooks.under_two_ids() == []
        failed = scene.cluster["a"].cli("webhooks", "failed", "--json").json()
        assert failed == []


def test_at_most_once_sends_nothing_twice_and_says_what_it_does_not_know(tmp_path: Path, some: range) -> None:
    """What was being sent when its holder died is reported, and never sent again unless somebody asks for that."""
    with Hooks(delay_s=0.02) as hooks, on_stage(tmp_path, resources=0) as scene:
        scene.cluster.start()
        scene.cluster.wait_ready()
        subscribe(scene, hooks, "at_most_once")

        acknowledged = play(scene, hooks, some)
        wait_quiet(scene, hooks)

        failed = scene.cluster["b"].cli("webhooks", "failed", "--json").json()
        unknown = {(row["resource"], int(row["event_id"].removeprefix("order-"))) for row in failed}
        assert all(row["reason"].startswith("unknown: ") for row in failed)
        assert len(acknowledged) > 100
        assert hooks.twice() == []
        assert hooks.under_two_ids() == []
        assert set(hooks.missing(SUBSCRIPTIONS, acknowledged)) <= unknown
