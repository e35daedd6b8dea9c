"""
Replicas that are fed the same log are equal, whatever else differs between them.

They may have another hash seed, and they may have started from a snapshot: no decision depends on the order of
a set, on the order in which records came into a table, or on anything that is not in a record.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import pydrm
from pydrm.core import placement
from pydrm.core.events import DeliveryState
from pydrm.core.invariants import check
from pydrm.core.machine import apply
from pydrm.core.records import Phase
from tests.core import random_log
from tests.core.build import through_bytes
from tests.core.random_log import STEP_MAX, RandomLog


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "STEP_ASSIGNMENTS_MAX", STEP_MAX)


def said_by_a_replica(log: Path, *, hash_seed: int) -> list[str]:
    """What another process with that PYTHONHASHSEED gets from the log: its digest after each request, and all ids."""
    # Two folders above the package of this file, and the one that pydrm itself was imported from.
    roots = [str(Path(random_log.__file__).parents[2]), *(str(Path(path).parent) for path in pydrm.__path__)]
    environ = os.environ | {"PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": os.pathsep.join(roots)}
    run = subprocess.run(
        [sys.executable, "-m", "tests.core.random_log", str(log)],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return run.stdout.split()


def test_replicas_with_different_hash_seeds_have_equal_digests_after_each_request(tmp_path: Path):
    """Nothing iterates over a set or uses a hash of its own."""
    log = RandomLog(seed=1)
    requests = [request for request, _ in log.go_on(3000)]
    (tmp_path / "log").write_bytes(pickle.dumps(requests))

    one = said_by_a_replica(tmp_path / "log", hash_seed=1)
    other = said_by_a_replica(tmp_path / "log", hash_seed=4242)

    assert one == other
    assert one[len(requests) - 1] == f"{log.state.digest:032x}"
    assert one[len(requests) :] == list(log.state.records)


@pytest.mark.parametrize("seed", range(5))
def test_a_replica_that_began_from_a_snapshot_decides_like_one_that_has_seen_it_all(seed: int):
    """The records are all there is: what was before them makes no difference to anything after."""
    log = RandomLog(seed)
    for _ in range(5):
        for _ in log.go_on(300):
            pass
        restored = through_bytes(log.state)
        assert check(restored) == []
        assert restored.digest == log.state.digest

        for request, expected in log.go_on(200):
            assert apply(restored, request) == expected
            assert restored.digest == log.state.digest
        assert check(log.state) == []
        assert check(restored) == []


def test_a_random_log_reaches_every_corner():
    """It would prove little if it did not have handoffs of all kinds under way, and steps that stopped half way."""
    seen: set[object] = set()
    logs = [RandomLog(seed) for seed in range(6)]
    for state in (log.state for log in logs for _ in log.go_on(1000)):
        seen |= {(a.phase, a.target is not None, bool(a.excluded)) for a in state.assignments.values()}
        seen |= {"dead"} if state.index.dead else set()
        seen |= {d.state for d in state.ledger.deliveries()[:50]}
        seen |= {"remains"} if state.ledger.remains else set()
        seen |= {"watermark"} if any(saved.watermark_us for saved in state.checkpoints.values()) else set()
        seen |= {"following"} if any(record.following for record in state.records.values()) else set()

    assert seen >= {
        (Phase.WAITING, False, False),
        (Phase.WAITING, False, True),
        (Phase.HELD, False, False),
        (Phase.HELD, False, True),
        (Phase.OPENING, True, False),
        (Phase.RELEASING, False, False),
        (Phase.RELEASING, True, False),
        (Phase.REMOVING, False, False),
        (Phase.REMOVING, True, False),
        *DeliveryState,
        "dead",
        "following",
        "remains",
        "watermark",
    }
