"""`python -m pydrm.testing.simulate`: what it prints, and that it does not matter how many processes do it."""

from __future__ import annotations

import pytest

from pydrm.testing import simulate
from pydrm.testing.simulation.faults import Life


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    simulate.main(list(arguments))
    return capsys.readouterr().out.splitlines()


def test_the_same_is_printed_in_the_same_order_however_many_processes_do_it(capsys: pytest.CaptureFixture[str]):
    arguments = ("--seeds", "3-8", "--nodes", "3", "--seconds", "2", "--trace")

    alone = printed(capsys, *arguments)
    together = printed(capsys, *arguments, "--jobs", "2")

    assert len(alone) > 100
    assert together[:-1] == alone[:-1]  # but for the time that it took


def test_a_seed_that_fails_is_printed_with_the_command_that_replays_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def live(seed: int, *, nodes: int, workers: int, profile: str, seconds: float) -> Life:
        return Life(["r1 is held twice", "so is r2"] if seed == 2 else [], [], 34.0, "")

    monkeypatch.setattr(simulate, "live", live)

    assert simulate.main(["--seeds", "1-3", "--nodes", "5", "--profile", "network"]) == 1
    first, second, last = capsys.readouterr().out.splitlines()

    assert first == "seed 2 failed: r1 is held twice (and 1 more)"
    assert second == (
        "  replay: python -m pydrm.testing.simulate --seeds 2 --nodes 5 --profile network --seconds 30 --trace"
    )
    assert last.startswith("3 seeds, 5 nodes, profile network: 1 failed; 0.03 simulated hours in ")


def test_several_sizes_are_lived_through_one_after_the_other(capsys: pytest.CaptureFixture[str]):
    lines = printed(capsys, "--seeds", "1", "--nodes", "3", "4", "--seconds", "1")

    assert [line.split(",")[1] for line in lines] == [" 3 nodes", " 4 nodes"]


def test_so_are_several_profiles(capsys: pytest.CaptureFixture[str]):
    lines = printed(capsys, "--seeds", "1", "--profile", "calm", "sources", "--seconds", "1")

    assert [line.split(",")[2].split(":")[0] for line in lines] == [" profile calm", " profile sources"]
    assert "0 failed" in lines[0]


@pytest.mark.parametrize("seeds", ["x", "5-3", ""])
def test_what_is_no_range_of_seeds_is_refused(seeds: str):
    with pytest.raises(SystemExit) as refused:
        simulate.main(["--seeds", seeds])

    assert refused.value.code == 2
