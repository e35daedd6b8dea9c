"""Three nodes that are started at the same instant."""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.scene import START_S, on_stage

ALL_OPEN = {"total": 30, "held": 30, "open": 30, "failing": 0, "unheld": 0, "moving": 0, "parked": 0}


def test_1000_resources_are_held_once_each_and_shared_evenly_within_3_s(tmp_path: Path, rounds: range) -> None:
    for number in rounds:
        with on_stage(tmp_path / str(number)) as scene:
            started_s = scene.cluster.start()

            settled_s = scene.settle("abc", started_s)
            scene.witness.watch(1)

            assert settled_s - started_s <= START_S
            assert scene.settle("abc", started_s) == settled_s, "it did not stay so"
            scene.verify()


def test_every_node_tells_what_the_diary_says(tmp_path: Path) -> None:
    with on_stage(tmp_path, resources=30) as scene:
        scene.start_all()

        for name in "abc":
            status = scene.cluster[name].cli("status", "--json").json()
            resources = scene.cluster[name].cli("resources", "--json").json()

            assert (status["cluster"], status["node"]) == ("orders", name)
            assert status["leader"] in ("a", "b", "c")
            assert status["has_majority"] is True
            assert {node["node"]: node["held"] for node in status["nodes"]} == scene.diary.loads()
            assert status["resources"] == ALL_OPEN
            assert {row["id"]: (row["holder"], row["token"], row["state"]) for row in resources} == {
                resource: (stay.node, stay.token, "open") for resource, [stay] in scene.diary.held().items()
            }
        scene.verify()


def test_resources_come_and_go_by_the_command_line_of_any_node(tmp_path: Path) -> None:
    with on_stage(tmp_path, resources=9, listed=False) as scene:
        started_s = scene.cluster.start()
        scene.cluster.wait_ready()

        assert scene.add(scene.ids, at="a").exit_code == 0
        scene.settle("abc", started_s)
        assert scene.add(scene.ids[:2], at="b").exit_code == 0, "the same once more changes nothing"
        assert scene.cluster["c"].cli("remove", "r1", "r2", "r3").exit_code == 0
        scene.settle("abc", started_s, scene.ids[3:])

        assert len(scene.diary.stays()) >= 9
        assert scene.cluster["a"].cli("remove", "r1").exit_code == 5
        scene.verify()
