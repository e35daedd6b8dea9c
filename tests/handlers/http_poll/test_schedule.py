"""When a poller is due."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydrm.handlers.http_poll.schedule import SLEW, due_after_s, next_due_s, phase_after_s

WALL_S = 1_790_000_000.0


def test_ten_thousand_with_the_same_interval_are_spread_over_it() -> None:
    due = [next_due_s(f"poller-{number}", 60.0, WALL_S) % 60.0 for number in range(10_000)]
    for _ in range(10):
        due = [next_due_s(f"poller-{number}", 60.0, at) for number, at in enumerate(due)]

    seconds = [int(at % 60.0) for at in due]
    counts = [seconds.count(second) for second in range(60)]
    assert max(counts) < 2 * 10_000 / 60


@given(st.text(min_size=1, max_size=20), st.floats(0.01, 86_400), st.floats(0, 86_400))
def test_from_poll_to_poll_it_is_the_interval_within_a_tenth(id: str, interval_s: float, later_s: float) -> None:
    polled_s = WALL_S + later_s

    due_s = next_due_s(id, interval_s, polled_s)

    assert due_s - polled_s == pytest.approx(interval_s, rel=SLEW * 1.01, abs=1e-5)


@given(st.text(min_size=1, max_size=20), st.floats(0.1, 86_400), st.floats(0, 86_400))
def test_a_poller_that_was_late_is_back_at_its_phase_after_ten_polls(id: str, interval_s: float, late_s: float) -> None:
    """So two nodes that never spoke agree on it."""
    here_s, there_s = WALL_S, WALL_S + late_s
    for _ in range(10):
        here_s, there_s = next_due_s(id, interval_s, here_s), next_due_s(id, interval_s, there_s)

    apart = (there_s - here_s) / round(interval_s, 6)
    assert apart == pytest.approx(round(apart), abs=1e-4)


@given(st.text(min_size=1, max_size=20), st.floats(0.1, 86_400), st.floats(0, 86_400))
def test_a_poller_that_is_at_its_phase_stays_there(id: str, interval_s: float, later_s: float) -> None:
    at_s = phase_after_s(id, interval_s, WALL_S + later_s)

    assert 0 <= at_s - (WALL_S + later_s) <= interval_s
    assert next_due_s(id, interval_s, at_s) == pytest.approx(at_s + interval_s, abs=1e-5)


@given(st.text(min_size=1, max_size=20), st.floats(0.1, 86_400), st.floats(0, 86_400), st.integers(0, 40))
def test_who_knows_one_due_time_comes_to_all_that_follow(
    id: str, interval_s: float, later_s: float, polls: int
) -> None:
    """To the very instant: by how far a node may have polled, it is known which of them are over."""
    due = [next_due_s(id, interval_s, WALL_S + later_s)]
    for _ in range(polls + 1):
        due.append(next_due_s(id, interval_s, due[-1]))

    assert due_after_s(id, interval_s, due[0], due[polls]) == due[polls + 1]
    assert due_after_s(id, interval_s, due[0], due[polls] - 2e-6) == due[polls]


def test_that_takes_no_longer_however_long_ago_it_was() -> None:
    """A year of polls, each five seconds, is not gone through one by one."""
    due_s = due_after_s("r", 5.0, WALL_S, WALL_S + 365 * 86_400)

    assert 0 < due_s - (WALL_S + 365 * 86_400) <= 5.0
    assert due_s == phase_after_s("r", 5.0, due_s)
