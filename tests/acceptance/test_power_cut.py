"""The power goes on every node at once, in the midst of work; what each has on its disk is all that is left."""

from __future__ import annotations

import random
import sys
from pathlib import Path

from tests.acceptance.disk_image import DiskImage, mounted_image
from tests.acceptance.ledger import Clients, Ledger
from tests.acceptance.scene import Scene, on_stage

WORK_S = 2.0

# pydrm on an operating system whose fdatasync does nothing.
WITHOUT_FDATASYNC = (
    sys.executable,
    "-c",
    "import os, sys\nos.fdatasync = lambda descriptor: None\nfrom pydrm.cli.main import main\nsys.exit(main())",
)


def test_nothing_acknowledged_is_lost_when_the_power_goes_everywhere_at_once(tmp_path: Path, rounds: range) -> None:
    """Again and again, of what has come back from the cut before; every other cut hits them while they start."""
    dice = random.Random()
    with mounted_image(tmp_path) as image, on_stage(tmp_path, resources=0, data_dirs=data_dirs(image)) as scene:
        ledger = Ledger()
        clients = Clients(ledger, scene.cluster.admins, scene.witness.url)
        scene.cluster.start()
        scene.cluster.wait_ready()

        for _ in rounds:
            before = ledger.acknowledged
            cut_in_the_midst_of_work(scene, image, clients)
            assert ledger.acknowledged > before

            scene.cluster.start()
            scene.witness.watch(dice.uniform(0.3, 1.5))
            cut(scene, image)

            started_s = scene.cluster.start()
            scene.cluster.wait_ready()

            present = scene.agreed()
            assert ledger.problems(present) == []
            scene.settle("abc", started_s, present)
            scene.verify()
            ledger.came_to_rest(present)


def test_without_fdatasync_the_same_cut_loses_what_was_acknowledged(tmp_path: Path) -> None:
    """The test of the test: the data directories are there and in order, but older than what was promised."""
    with (
        mounted_image(tmp_path) as image,
        on_stage(tmp_path, resources=0, data_dirs=data_dirs(image), program=WITHOUT_FDATASYNC) as scene,
    ):
        ledger = Ledger()
        clients = Clients(ledger, scene.cluster.admins, scene.witness.url)
        scene.cluster.start()
        scene.cluster.wait_ready()
        # A start writes through what was there before it.
        for name in "abc":
            scene.cluster[name].kill()
        scene.cluster.start()
        scene.cluster.wait_ready()

        cut_in_the_midst_of_work(scene, image, clients)
        scene.cluster.start()
        scene.cluster.wait_ready()

        present = scene.agreed()
        assert ledger.there
        assert [problem for problem in ledger.problems(present) if "is not there" in problem] != []


def data_dirs(image: DiskImage) -> dict[str, Path]:
    return {name: image.mount_point / name for name in "abc"}


def cut_in_the_midst_of_work(scene: Scene, image: DiskImage, clients: Clients) -> None:
    with clients.at_work():
        scene.witness.watch(WORK_S)
        cut(scene, image)


def cut(scene: Scene, image: DiskImage) -> None:
    """Stop all nodes where they stand, take what the disk has, and let them never go on."""
    for name in "abc":
        scene.cluster[name].freeze()
    for name in "abc":
        scene.cluster[name].wait_frozen()
    image.cut_power()
    for name in "abc":
        scene.cluster[name].kill()
    image.come_back()
