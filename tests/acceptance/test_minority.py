"""A node without a majority changes nothing, says so, and holds nothing once its lease is over."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.acceptance.scene import LEASE_TTL_S, Scene, on_stage


def assert_it_refuses(scene: Scene, name: str) -> None:
    added = scene.add(["late"], at=name, timeout_s=2)
    removed = scene.cluster[name].cli("remove", "r1", "--timeout", "2")
    status = scene.cluster[name].cli("status", "--json")

    assert (added.exit_code, removed.exit_code) == (4, 4), added.stderr + removed.stderr
    assert status.json()["has_majority"] is False


def test_one_of_three_that_is_left_refuses_and_holds_nothing_after_its_lease(tmp_path: Path) -> None:
    with on_stage(tmp_path, resources=300) as scene:
        scene.start_all()
        killed_s = max(scene.cluster[name].kill() for name in "bc")
        assert scene.witness.wait_until(lambda diary: not diary.held(), timeout_s=10)

        ended = scene.diary.ended(killed_s, nodes="a")
        assert max(stay.until_s for stay in ended) <= killed_s + LEASE_TTL_S
        assert_it_refuses(scene, "a")
        assert scene.diary.held() == {}

        # Whether "late" was added is unknown by now, and so is whether r1 was removed.
        restarted_s = scene.cluster.start("b")
        scene.cluster.wait_ready("b")
        there = [row["id"] for row in scene.cluster["a"].cli("resources", "--json").json()]
        assert set(scene.ids[1:]) <= set(there)
        scene.settle("ab", restarted_s, there)
        scene.verify()


@pytest.mark.parametrize("cut", ["both ways", "what it says", "what it hears"])
def test_a_leader_that_is_cut_off_loses_all_to_the_others_and_nothing_is_held_twice(tmp_path: Path, cut: str) -> None:
    """Also when only one direction is cut; it comes back to its share when the cut is healed."""
    with on_stage(tmp_path, resources=300, with_links=True) as scene:
        scene.start_all()
        leader = scene.cluster.leader()
        others = scene.others(leader)

        for other in others:
            if cut == "what it hears":
                scene.cluster.links.cut(other, leader, one_way=True)
            else:
                scene.cluster.links.cut(leader, other, one_way=cut == "what it says")
        cut_s = time.monotonic()
        scene.settle(others, cut_s)

        assert scene.diary.loads()[others[0]] == 150
        assert_it_refuses(scene, leader)
        scene.cluster.links.heal()
        healed_s = time.monotonic()
        there = [row["id"] for row in scene.cluster[others[0]].cli("resources", "--json").json()]
        scene.settle("abc", healed_s, there)
        scene.verify()
