"""
Whole lives of a group by the dice: links that break and stall, crashes that lose what was not synced, slow disks.

PYDRM_SEEDS says how many lives, or which: "500", or "1000-1200". A failure names its seed.
"""

from __future__ import annotations

import os

import attrs
import pytest

from pydrm.engine import guards, raft
from tests.engine.raft_world import World, random_life


def seeds() -> range:
    first, _, end = os.environ.get("PYDRM_SEEDS", "20").rpartition("-")
    return range(int(first or 0), int(end))


@pytest.fixture(autouse=True)
def _small_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """So small that a few entries need several messages; what fits into one hides most of what can go wrong."""
    monkeypatch.setattr(raft, "_TIMING", attrs.evolve(raft._TIMING, message_bytes=400))


@pytest.mark.parametrize("seed", seeds())
@pytest.mark.parametrize("names", ["abc", "abcde"])
def test_every_member_applies_the_same_and_nothing_applied_is_lost(names: str, seed: int):
    """Whatever one member has applied at an index, every other applies there too, whoever crashed meanwhile."""
    random_life(World(names, seed=seed), steps=2000)


@pytest.mark.parametrize("seed", seeds())
def test_the_same_while_voters_come_and_go(seed: int):
    """Each change is one voter more or one less; who has no vote follows all the same."""
    random_life(World("abcde", seed=seed, voters="abc"), steps=2000)


def lives_that_go_wrong(*, disks_are_honest: bool = True) -> int:
    wrong = 0
    for seed in range(30):
        try:
            random_life(World("abc", seed=seed, disks_are_honest=disks_are_honest), steps=1000)
        except Exception:  # noqa: BLE001 (in a world without its guards anything may happen)
            wrong += 1
    return wrong


def test_these_lives_would_find_a_message_that_leaves_before_the_disk_has_it():
    """The test of the test: with a disk that is not waited for, acknowledged entries are lost."""
    assert lives_that_go_wrong(disks_are_honest=False) > 0


def test_these_lives_would_find_a_log_that_is_cut_without_a_conflict(monkeypatch: pytest.MonkeyPatch):
    """The test of the test: without guard S1 acknowledged entries are lost."""
    monkeypatch.setattr(guards, "only_news", lambda log, message, commit_index: (message, None))

    assert lives_that_go_wrong() > 0
