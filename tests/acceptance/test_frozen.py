"""A process that its host freezes cannot close anything; its fencing tokens are old when it thaws."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.scene import LEASE_TTL_S, MARGIN_S, TAKEOVER_S, on_stage


@pytest.mark.parametrize("role", ["follower", "leader"])
def test_a_node_frozen_for_longer_than_its_lease_closes_all_as_soon_as_it_thaws(tmp_path: Path, role: str) -> None:
    with on_stage(tmp_path, resources=300) as scene:
        scene.start_all()
        leader = scene.cluster.leader()
        victim = leader if role == "leader" else scene.others(leader)[0]
        stale = scene.held_by(victim)

        frozen_s = scene.cluster[victim].freeze()
        scene.witness.watch(2 * LEASE_TTL_S)
        thawed_s = scene.cluster[victim].thaw()
        scene.witness.watch(1)

        # Held again in time, by others, under higher tokens.
        diary = scene.diary
        fresh = {stay.resource: stay for stay in diary.opened(frozen_s, thawed_s)}
        for stay in stale:
            assert fresh[stay.resource].node != victim
            assert fresh[stay.resource].token > stay.token
            assert fresh[stay.resource].from_s - frozen_s <= TAKEOVER_S
        assert diary.ended(frozen_s, thawed_s) == []

        # It was the frozen one that had them twice, and not for longer than it took to thaw.
        connections = {stay.connection for stay in stale}
        assert {overlap.first.connection for overlap in diary.overlaps()} == connections
        assert diary.overlaps(since_s=thawed_s + MARGIN_S) == []
        assert diary.tokens_out_of_order() == []
        if not scene.cluster[victim].running:
            scene.cluster.start(victim)
        scene.settle("abc", thawed_s)
