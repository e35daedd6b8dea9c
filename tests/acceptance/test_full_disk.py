"""A node whose disk is full takes no further part and says so; with room again it is back, and nothing is lost."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from tests.acceptance.disk_image import mounted_image
from tests.acceptance.ledger import Clients, Ledger
from tests.acceptance.scene import PATIENCE_S, TAKEOVER_S, Scene, on_stage

WORK_S = 2.0


@pytest.mark.parametrize("role", ["follower", "leader"])
def test_a_full_disk_stops_its_node_and_leaves_the_others_in_peace(tmp_path: Path, role: str) -> None:
    with contextlib.ExitStack() as closing:
        images = {name: closing.enter_context(mounted_image(tmp_path, f"disk-{name}")) for name in "abc"}
        data_dirs = {name: image.mount_point / "data" for name, image in images.items()}
        scene = closing.enter_context(on_stage(tmp_path, resources=90, data_dirs=data_dirs))
        scene.start_all()
        leader = scene.cluster.leader()
        victim = leader if role == "leader" else scene.others(leader)[0]
        ledger = Ledger()
        # The others are asked; what goes through them must go on.
        admins = {name: scene.cluster.admins[name] for name in scene.others(victim)}
        clients = Clients(ledger, admins, scene.witness.url)
        lost = [stay.resource for stay in scene.held_by(victim)]

        images[victim].fill()
        with clients.at_work():
            assert scene.cluster[victim].wait(timeout_s=PATIENCE_S) == 1
            ended_s = max(stay.until_s for stay in scene.witness.diary().stays(nodes=victim))
            scene.witness.watch(TAKEOVER_S)
            before = ledger.acknowledged
            scene.witness.watch(WORK_S)
            assert ledger.acknowledged > before

        assert scene.late(lost, ended_s, TAKEOVER_S) == []
        assert [stay.resource for stay in scene.diary.ended(ended_s, nodes=admins) if stay.resource in scene.ids] == []
        assert_it_says_that_there_is_no_room(scene, victim)
        assert scene.cluster[victim].cli("add", "-", stdin="{}").exit_code != 0

        # It does not come back while there is none, and does no harm by trying.
        scene.cluster.start(victim)
        assert scene.cluster[victim].wait(timeout_s=PATIENCE_S) == 1
        assert_it_says_that_there_is_no_room(scene, victim)

        images[victim].make_room()
        started_s = scene.cluster.start(victim)
        scene.cluster.wait_ready(victim)
        present = scene.agreed()
        assert set(scene.ids) <= set(present)
        assert ledger.problems([id for id in present if id not in scene.ids]) == []
        scene.settle("abc", started_s, present)
        scene.verify()


def assert_it_says_that_there_is_no_room(scene: Scene, name: str) -> None:
    errors = [line for line in scene.cluster[name].log().splitlines() if " ERROR " in line]
    assert "No space left on device" in errors[-1]
    assert "Traceback" not in scene.cluster[name].log()
