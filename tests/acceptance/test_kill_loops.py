"""kill -9, again and again, in the midst of work: one node, the leader, all three, and those that have hardly begun."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from pydrm.testing.node_process import NodeProcess
from tests.acceptance.ledger import Clients, Ledger
from tests.acceptance.scene import PATIENCE_S, Scene, on_stage

CYCLES = 200 if os.environ.get("PYDRM_ACCEPTANCE") == "long" else 12
CYCLES_BETWEEN_RESTS = 4
WAYS = ("one", "leader", "all", "while it starts")


def test_nothing_acknowledged_is_lost_and_nothing_happens_twice_however_often_nodes_are_killed(tmp_path: Path) -> None:
    """
    Clients add and remove without a pause; `PYDRM_SEED` repeats the order in which who is killed.

    Each cycle kills somebody and starts them again at once; the next does not wait until they are back. Of four cycles
    each is of another way.
    """
    seed = int(os.environ.get("PYDRM_SEED", random.randrange(10**6)))
    print(f"PYDRM_SEED={seed}")  # noqa: T201 (pytest shows it for a failure)
    dice = random.Random(seed)
    with on_stage(tmp_path, resources=0, listed=False) as scene:
        ledger = Ledger()
        clients = Clients(ledger, scene.cluster.admins, scene.witness.url, seed=seed)
        scene.cluster.start()
        scene.cluster.wait_ready()

        for _ in range(CYCLES // CYCLES_BETWEEN_RESTS):
            before = ledger.acknowledged
            with clients.at_work():
                for way in dice.sample(WAYS, CYCLES_BETWEEN_RESTS):
                    scene.witness.watch(dice.uniform(0.2, 2.0))
                    started_s = kill_and_start(scene, way, dice)
                scene.cluster.wait_ready()

            assert ledger.acknowledged > before
            assert_all_is_as_acknowledged(scene, ledger, started_s)


def kill_and_start(scene: Scene, way: str, dice: random.Random) -> float:
    ended = set(scene.cluster.names) - set(scene.cluster.running())
    assert not ended, f"{ended} ended by themselves"
    victims = [dice.choice(scene.cluster.names)]
    if way == "all":
        victims = list(scene.cluster.names)
    elif way == "leader":
        seen = [scene.cluster[name].status() for name in scene.cluster.names]
        # Whoever is believed to lead by the first that answers; while all are starting, nobody is.
        victims = [status["leader"] for status in seen if status and status["leader"]][:1] or victims
    for victim in victims:
        scene.cluster[victim].kill()
    started_s = scene.cluster.start(*victims)
    if way == "while it starts":
        node = scene.cluster[victims[0]]
        wait_until_it_has_its_data_directory(node)
        scene.witness.watch(dice.uniform(0.0, 0.3))
        node.kill()
        started_s = node.start()
    return started_s


def wait_until_it_has_its_data_directory(node: NodeProcess) -> None:
    """Before that it is busy with importing, and there is little to be interrupted."""
    deadline_s = time.monotonic() + PATIENCE_S
    while (node.data_dir / "lock").read_text().strip() != str(node.pid):
        assert node.running, node.log_tail()
        assert time.monotonic() < deadline_s, node.log_tail()
        time.sleep(0.005)


def assert_all_is_as_acknowledged(scene: Scene, ledger: Ledger, since_s: float) -> None:
    """Every node knows exactly what was acknowledged, and the third party sees each of that held once."""
    present = scene.agreed()
    scene.settle(scene.cluster.names, since_s, present)
    assert scene.agreed() == present
    for name in scene.cluster.names:
        rows = scene.resources_at(name)

        assert ledger.problems([row["id"] for row in rows]) == []
        assert {row["id"]: (row["holder"], row["token"]) for row in rows} == {
            resource: (stay.node, stay.token) for resource, [stay] in scene.diary.held().items()
        }
    scene.verify()
    ledger.came_to_rest(present)


@pytest.mark.parametrize(
    ("present", "problem"),
    [
        (["kept"], ""),
        (["kept", "lost in doubt"], ""),
        ([], "kept was acknowledged and is not there"),
        (["kept", "dropped"], "dropped was removed and is there again"),
        (["kept", "stranger"], "stranger is there and nobody asked for it"),
        (["kept", "kept"], "kept is there twice"),
    ],
)
def test_the_ledger_notices_what_is_missing_and_what_is_too_much(present: list[str], problem: str) -> None:
    ledger = Ledger()
    ledger.asked(["kept", "dropped", "lost in doubt"])
    ledger.added(["kept", "dropped"])
    ledger.removed(ledger.take(1))

    assert ledger.problems(present) == ([problem] if problem else [])
