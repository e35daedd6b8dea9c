"""Who does not belong to the cluster, or has forgotten that it does, holds nothing and is told so."""

from __future__ import annotations

import time
from pathlib import Path

from tests.acceptance.scene import LEASE_TTL_S, PATIENCE_S, Scene, on_stage


def refusals(scene: Scene, name: str, other: str) -> list[str]:
    """The lines in *name*'s log which say that one of the two refuses the other."""
    return [
        line
        for line in scene.cluster[name].log().splitlines()
        if f"refused {other!r}" in line or f"{other} refuses this node" in line
    ]


def wait_refused(scene: Scene, name: str, others: str) -> None:
    """Until *name* and each of *others* have said so: how soon a process has started is the machine's affair."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not all(refusals(scene, other, name) and refusals(scene, name, other) for other in others):
        assert time.monotonic() < deadline_s, f"{name} is not refused after {PATIENCE_S:.0f} s"
        time.sleep(0.05)


def test_an_empty_voter_that_comes_back_is_refused_and_counts_for_nothing(tmp_path: Path) -> None:
    """It may have voted before it forgot; with it as a majority, an acknowledged entry could be lost."""
    with on_stage(tmp_path, resources=300) as scene:
        scene.start_all()
        killed_s = scene.cluster["c"].kill()
        scene.settle("ab", killed_s)
        scene.cluster["c"].wipe()

        returned_s = scene.cluster.start("c")
        wait_refused(scene, "c", "ab")
        scene.witness.watch(2 * LEASE_TTL_S)

        assert scene.diary.stays(since_s=returned_s, nodes="c") == []
        assert scene.diary.ended(returned_s) == []
        for other in "ab":
            for [line] in (refusals(scene, other, "c"), refusals(scene, "c", other)):
                assert "data directory is not the one that the cluster knows" in line

        scene.cluster["b"].kill()
        assert scene.witness.wait_until(lambda diary: not diary.held(), timeout_s=2 * LEASE_TTL_S)
        scene.witness.watch(LEASE_TTL_S)
        assert scene.diary.held() == {}
        assert scene.add(["late"], at="a", timeout_s=2).exit_code == 4
        scene.verify()


def test_a_stranger_is_refused_with_one_clear_line_on_both_sides(tmp_path: Path) -> None:
    with on_stage(tmp_path, resources=30) as scene:
        scene.start_all()
        stranger = scene.cluster.add_stranger("x", cluster="invoices")

        started_s = stranger.start()
        wait_refused(scene, "x", "abc")
        scene.witness.watch(2 * LEASE_TTL_S)

        assert scene.diary.stays(nodes="x") == []
        assert scene.diary.ended(started_s) == []
        for voter in "abc":
            [line] = refusals(scene, voter, "x")
            assert "belongs to cluster" in line
            assert len(refusals(scene, "x", voter)) == 1
        scene.verify()
