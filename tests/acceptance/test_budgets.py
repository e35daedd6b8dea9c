"""Budgets of three real nodes, counted where it matters: at the third party."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from pydrm.testing.diary import Diary
from tests.acceptance.scene import PATIENCE_S, Scene, on_stage

GROUP = "127.0.0.1"  # The host of the third party's url.
CONNECTIONS = 20
CONNECTS_PER_S = 20.0

# What a node has begun in time may come late on a busy machine, and what comes late comes together with the next.
LATE_S = 0.5


def most_at_once(diary: Diary) -> int:
    """How many were connected at the busiest instant."""
    stays = diary.stays()
    steps = sorted([(stay.from_s, 1) for stay in stays] + [(stay.until_s, -1) for stay in stays if not stay.lasts])
    most = now = 0
    for _, step in steps:
        now += step
        most = max(most, now)
    return most


def most_over(times_s: Sequence[float], rate_per_s: float) -> float:
    """The most by which there were more than the rate allows, in any span of time."""
    most, lowest = 0.0, float("inf")
    for number, at_s in enumerate(sorted(times_s)):
        lowest = min(lowest, number - rate_per_s * at_s)
        most = max(most, number - rate_per_s * at_s - lowest + 1)
    return most


def full(scene: Scene, *, without: str = "") -> bool:
    """Whether as many are connected as may be, in time; none of them from *without*."""

    def is_full(diary: Diary) -> bool:
        return len(diary.held()) == CONNECTIONS and not diary.loads([without])[without]

    return scene.witness.wait_until(is_full, timeout_s=PATIENCE_S + CONNECTIONS / CONNECTS_PER_S)


def counted(scene: Scene) -> tuple[int, int]:
    """How many resources the budget's group has, and how many permits are given away, once nothing moves any more."""
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        (row,) = scene.cluster["c"].cli("budgets", "--json").json()
        if row["connected"] == CONNECTIONS or time.monotonic() > deadline_s:
            return row["resources"], row["connected"]
        time.sleep(0.1)


def test_no_more_are_connected_than_the_budget_says_whoever_dies(tmp_path: Path, rounds: range) -> None:
    """As many as it says when it is quiet; and in any span of time no more are begun than the rate and one a node."""
    with on_stage(tmp_path, resources=30, listed=False) as scene:
        scene.cluster.start()
        scene.cluster.wait_ready()
        limits = ("--connections", str(CONNECTIONS), "--connects-per-second", str(CONNECTS_PER_S))
        assert scene.cluster["a"].cli("budgets", "set", GROUP, *limits).exit_code == 0
        assert scene.add(scene.ids, at="b").exit_code == 0
        assert full(scene)
        for number in rounds:
            victim = scene.cluster["abc"[number % 3]]
            victim.kill()
            assert full(scene, without=victim.name)
            scene.cluster.start(victim.name)
            stopped = scene.cluster["abc"[(number + 1) % 3]]
            stopped.terminate()
            stopped.wait(timeout_s=PATIENCE_S)
            assert full(scene, without=stopped.name)
            scene.cluster.start(stopped.name)
            assert full(scene)

        seen = scene.witness.watch(1.0)
        assert most_at_once(seen) == CONNECTIONS
        over = most_over([stay.from_s for stay in seen.stays()], CONNECTS_PER_S)
        assert over <= len("abc") + LATE_S * CONNECTS_PER_S
        assert counted(scene) == (30, CONNECTIONS)
        scene.verify()
