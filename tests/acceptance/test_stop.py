"""SIGTERM: a node hands over before it goes, and takes back no more than its share."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.acceptance.scene import HANDOVER_S, on_stage


def test_what_a_stopped_node_held_is_handed_over_with_gaps_below_250_ms(tmp_path: Path, rounds: range) -> None:
    with on_stage(tmp_path) as scene:
        scene.start_all()
        for number in rounds:
            leaving = "abc"[number % 3]
            lost = [stay.resource for stay in scene.held_by(leaving)]

            stopped_s = scene.cluster[leaving].terminate()
            exit_code = scene.cluster[leaving].wait(timeout_s=30)
            scene.settle(scene.others(leaving), stopped_s)

            assert exit_code == 0
            assert len(lost) in (333, 334)
            assert max(gap.seconds for gap in scene.diary.gaps(lost, stopped_s)) < HANDOVER_S
            assert scene.diary.ended(stopped_s, nodes=scene.others(leaving)) == []
            scene.verify()
            scene.settle("abc", scene.cluster.start(leaving))
        scene.verify()


def test_a_node_that_comes_back_takes_exactly_its_share(tmp_path: Path, rounds: range) -> None:
    """Moves are the minimum, and no other connection of the others is touched."""
    with on_stage(tmp_path, "abcd") as scene:
        scene.start_all()
        for _ in rounds:
            stopped_s = scene.cluster["d"].terminate()
            assert scene.cluster["d"].wait(timeout_s=30) == 0
            scene.settle("abc", stopped_s)

            started_s = scene.cluster.start("d")
            scene.settle("abcd", started_s)
            scene.witness.watch(1)

            diary = scene.diary
            moves = diary.moves(started_s)
            assert diary.loads() == {"a": 250, "b": 250, "c": 250, "d": 250}
            assert len(moves) == 250
            assert {move.target for move in moves} == {"d"}
            assert {stay.resource for stay in diary.ended(started_s)} == {move.resource for move in moves}
            assert len(diary.opened(started_s)) == 250
            scene.verify()


def test_a_second_sigterm_ends_a_node_that_cannot_hand_over_now(tmp_path: Path) -> None:
    with on_stage(tmp_path, resources=30) as scene:
        scene.start_all()
        scene.cluster["b"].freeze()
        scene.cluster["c"].freeze()

        scene.cluster["a"].terminate()
        scene.witness.watch(0.3)
        assert scene.cluster["a"].running, "there is no majority to hand over to"
        scene.cluster["a"].terminate()

        assert scene.cluster["a"].wait(timeout_s=1) == 128 + signal.SIGTERM
        assert scene.witness.wait_until(lambda diary: not diary.loads("a")["a"], timeout_s=1)
