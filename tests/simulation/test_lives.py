"""
Random lives under all faults at once, and the proof that the simulator sees what is wrong.

`PYDRM_SEEDS=0-1999 pytest tests/simulation` or `tox -e simulation` lives through more of them.
"""

from __future__ import annotations

import os

import pytest

from pydrm.testing.simulation.faults import live
from pydrm.testing.simulation.profiles import PROFILES
from tests.simulation.plants import PLANTS, Plant, expire_waits_in_a_queue

FIRST, LAST = (int(seed) for seed in os.environ.get("PYDRM_SEEDS", "0-19").split("-"))

# The profile that brings each planted fault to light the soonest.
HUNTED_IN = {
    "lease_from_the_time_of_apply": "laggards",
    "lease_from_the_time_of_the_retry": "laggards",
    "expire_without_compare": "mutes",
    "release_is_cancelled": "churn",
    "token_counter_restarts": "crashes",
    "holder_goes_on_after_the_lease": "network",
    "handle_is_noted_once_it_is_open": "third_party",
    "requests_are_not_deduplicated": "churn",
    "request_ids_begin_again": "crashes",
    "empty_voter_counts": "amnesia",
    "open_claims_are_tried_again": "webhooks",
    "request_before_its_claim_is_committed": "webhooks",
    "what_fails_is_forgotten": "webhooks",
    "published_ids_are_not_remembered": "webhooks",
    "what_waits_is_overtaken": "webhooks",
    "ordered_ones_are_sent_together": "webhooks",
    "former_holder_of_a_source_writes": "old_lists",
    "list_that_shrinks_is_believed": "sources",
    "list_that_cannot_be_had_is_empty": "sources",
    "source_takes_what_the_app_added": "sources",
    "unusable_entry_counts_as_missing": "sources",
    "what_is_gone_from_the_list_stays": "sources",
    "unchanged_list_is_taken_for_done": "sources",
    "checkpoint_goes_with_its_holder": "crashes",
    "checkpoint_is_acknowledged_too_early": "crashes",
    "watermark_dies_with_its_node": "crashes",
    "watermark_is_acknowledged_too_early": "crashes",
}
# The seed at which to begin, for those that few lives bring to light.
HUNT_FROM = {
    "former_holder_of_a_source_writes": 10,
    "handle_is_noted_once_it_is_open": 9,
    "release_is_cancelled": 43,
    "token_counter_restarts": 12,
    "unchanged_list_is_taken_for_done": 49,
}
HUNT_SEEDS = 120


@pytest.mark.parametrize("seed", range(FIRST, LAST + 1))
def test_three_nodes_keep_their_promises_through_everything(seed: int):
    life = live(seed)

    assert life.violations == [], replay(seed, 3, "everything")


@pytest.mark.parametrize("seed", range(FIRST, FIRST + (LAST - FIRST + 1) // 3))
def test_five_nodes_keep_their_promises_through_everything(seed: int):
    life = live(seed, nodes=5)

    assert life.violations == [], replay(seed, 5, "everything")


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_every_profile_is_survived(profile: str):
    for seed in range(2):
        life = live(seed, profile=profile)

        assert life.violations == [], replay(seed, 3, profile)


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_found(plant: Plant, monkeypatch: pytest.MonkeyPatch):
    plant(monkeypatch)

    profile, first = HUNTED_IN[plant.__name__], HUNT_FROM.get(plant.__name__, 0)
    found = next((seed for seed in range(first, first + HUNT_SEEDS) if live(seed, profile=profile).violations), None)

    assert found is not None


def test_a_delay_before_an_expire_is_harmless_as_long_as_it_is_compared(monkeypatch: pytest.MonkeyPatch):
    """So what finds `expire_without_compare` is the lack of the compare, not the delay it is planted with."""
    expire_waits_in_a_queue(monkeypatch)

    for seed in range(6):
        life = live(seed, profile="mutes")

        assert life.violations == [], replay(seed, 3, "mutes")


def replay(seed: int, nodes: int, profile: str) -> str:
    return f"python -m pydrm.testing.simulate --seeds {seed} --nodes {nodes} --profile {profile} --trace"
