"""A life can be lived again and read: the same seed gives the same one, and its trace tells what was done."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from random import Random

import pytest

from pydrm.testing.simulation.faults import live
from tests.simulation.build import holding


@pytest.mark.parametrize("options", [[], ["--profile", "webhooks"], ["--workers", "2"]], ids=" ".join)
def test_the_same_seed_gives_the_same_life_in_every_process(options: list[str]):
    command = [sys.executable, "-m", "pydrm.testing.simulate", "--seeds", "7", "--seconds", "15", "--trace", *options]

    lives = []
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        ran = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        lives.append(ran.stdout.split("fingerprint")[0])

    assert len(lives[0].splitlines()) > 20
    assert lives[0] == lives[1]


def test_it_does_not_matter_what_time_it_is(monkeypatch: pytest.MonkeyPatch):
    """The wall clock is set back and forth by days at each look; the life is the same, event for event."""
    undisturbed = live(7, seconds=10)
    jumps = Random(1)
    for name in ("time", "time_ns"):
        real = getattr(time, name)
        monkeypatch.setattr(time, name, lambda real=real: real() + jumps.randrange(-(10**6), 10**6))

    life = live(7, seconds=10)

    assert life.violations == []
    assert life.fingerprint == undisturbed.fingerprint


@pytest.mark.parametrize(
    ("verb", "arguments", "line"),
    [
        ("kill", "a", "kill a"),
        ("power_cut", "a", "power cut a"),
        ("stop", "a", "stop a"),
        ("pause", "a", "pause a"),
        ("resume", "a", "resume a"),
        ("wipe", "a", "wipe a"),
        ("block_app", ("a", 2.0), "block a's app for 2.000 s"),
        ("set_rate", ("a", 0.996), "a's clock runs at 0.996000"),
        ("fill_disk", "a", "a's disk is full"),
        ("break_disk", "a", "a's disk fails"),
        ("partition", ("ab", "bc"), "partition ab | bc"),
        ("cut", "ab", "cut a -> b"),
        ("join", "ab", "join a -> b"),
        ("slow", ("a", "b", 0.5), "slow a -> b: 0.500 s"),
        ("reset", "ab", "reset a - b"),
        ("heal", "", "heal"),
        ("third_party_refuses", "", "the third party refuses"),
        ("third_party_stalls", "", "the third party stalls"),
        ("third_party_answers_late", (3.0,), "the third party is up to 3.000 s late"),
        ("third_party_works", "", "the third party works"),
    ],
)
def test_the_trace_tells_what_was_done(verb: str, arguments: tuple[object, ...], line: str):
    """So that a life that went wrong can be read."""
    cluster = holding(0)
    before = len(cluster.trace)

    getattr(cluster, verb)(*arguments)

    assert cluster.trace[before].split(" ", 1)[1] == line
