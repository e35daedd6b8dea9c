"""Voters that come and go, and workers: the cluster goes on, and each resource stays held once."""

from __future__ import annotations

import time
from pathlib import Path

from tests.acceptance.scene import PATIENCE_S, Scene, on_stage

RESOURCES = 60


def voters(scene: Scene, at: str) -> list[str]:
    status = scene.cluster[at].status()
    assert status is not None
    return list(status["voters"])


def change(scene: Scene, what: str, name: str, *, at: str) -> None:
    answer = scene.cluster[at].cli("nodes", what, name, "--timeout", "20", timeout_s=PATIENCE_S)
    assert answer.exit_code == 0, answer.stderr


def test_a_node_that_comes_later_holds_its_share_and_gets_a_vote(tmp_path: Path) -> None:
    """It counts from then on: with it, the cluster survives the loss of one that was there from the beginning."""
    with on_stage(tmp_path, resources=RESOURCES) as scene:
        scene.start_all()
        d = scene.cluster.add_stranger("d")
        started_s = d.start()
        scene.settle("abcd", started_s)
        assert voters(scene, "a") == ["a", "b", "c"]

        change(scene, "add", "d", at="b")
        change(scene, "remove", "c", at="d")
        assert voters(scene, "d") == ["a", "b", "d"]
        stopped_s = scene.cluster["c"].terminate()
        scene.settle("abd", stopped_s)
        killed_s = scene.cluster["a"].kill()
        scene.settle("bd", killed_s)

        restarted_s = scene.cluster.start("a")
        scene.settle("abd", restarted_s)
        scene.verify()


def test_whoever_leads_can_lose_its_vote(tmp_path: Path) -> None:
    """Another leads then; the node goes on, and nothing moves."""
    with on_stage(tmp_path, resources=RESOURCES) as scene:
        scene.start_all()
        status = scene.cluster["a"].status()
        assert status is not None
        leader = status["leader"]
        changed_s = time.monotonic()

        change(scene, "remove", leader, at=leader)

        assert leader not in voters(scene, leader)
        scene.witness.watch(3.0)
        assert scene.diary.ended(changed_s) == []
        scene.verify()


def test_a_voter_that_lost_its_disk_is_replaced(tmp_path: Path) -> None:
    with on_stage(tmp_path, resources=RESOURCES) as scene:
        scene.start_all()
        killed_s = scene.cluster["c"].kill()
        scene.cluster["c"].wipe()
        scene.settle("ab", killed_s)
        started_s = scene.cluster.start("c")

        change(scene, "replace", "c", at="a")

        scene.settle("abc", started_s)
        killed_s = scene.cluster["a"].kill()
        scene.settle("bc", killed_s)
        scene.verify()


def test_workers_hold_like_voters_and_their_loss_costs_no_majority(tmp_path: Path) -> None:
    """Five of them beside three voters; all die at once."""
    with on_stage(tmp_path, resources=RESOURCES) as scene:
        scene.start_all()
        names = [f"w{number}" for number in range(5)]
        started_s = max(scene.cluster.add_worker(name).start() for name in names)
        scene.settle(["a", "b", "c", *names], started_s)

        killed_s = max(scene.cluster[name].kill() for name in names)

        scene.settle("abc", killed_s)
        assert voters(scene, "a") == ["a", "b", "c"]
        scene.verify()
