"""Two of three voters are lost with their disks, and the third goes on with what it has."""

from __future__ import annotations

from pathlib import Path

from pydrm.testing.node_process import run_cli
from tests.acceptance.scene import LEASE_TTL_S, PATIENCE_S, on_stage

RESOURCES = 30


def test_what_one_of_three_has_is_held_again_and_the_others_are_voters_again(tmp_path: Path) -> None:
    with on_stage(tmp_path, resources=RESOURCES, listed=False) as scene:
        started_s = scene.cluster.start()
        scene.cluster.wait_ready()
        assert scene.add(scene.ids, at="a").exit_code == 0
        scene.settle("abc", started_s)
        highest = max(stay.token for [stay] in scene.diary.held().values())
        c = scene.cluster["c"]
        data_dir = str(c.data_dir)

        for name in "ab":
            scene.cluster[name].kill()
            scene.cluster[name].wipe()
        in_use = run_cli("recover", "--force-new-cluster", data_dir)
        assert in_use.exit_code == 7
        assert f"in use by process {c.pid}" in in_use.stderr
        c.kill()
        assert run_cli("recover", data_dir).exit_code == 2
        recovered = run_cli("recover", "--force-new-cluster", data_dir)
        assert recovered.exit_code == 0, recovered.stderr
        assert run_cli("snapshot", data_dir).exit_code == 0
        assert run_cli("wal", "verify", data_dir).exit_code == 0

        restarted_s = c.start()
        scene.settle("c", restarted_s)
        held = [stay for [stay] in scene.diary.held().values()]
        assert len(held) == RESOURCES
        assert min(stay.token for stay in held) > highest
        assert min(stay.from_s for stay in held) - restarted_s >= LEASE_TTL_S

        started_s = scene.cluster.start("a", "b")
        scene.settle("abc", started_s)
        for name in "ab":
            added = c.cli("nodes", "add", name, timeout_s=PATIENCE_S)
            assert added.exit_code == 0, added.stderr
        killed_s = c.kill()
        scene.settle("ab", killed_s)
        scene.verify()
