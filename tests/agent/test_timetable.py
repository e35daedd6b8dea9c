"""What is due when, of what there may be very much."""

from __future__ import annotations

import random

from pydrm.agent.timetable import Timetable


def test_what_is_due_comes_first_first_some_at_a_time_and_again_until_it_is_dropped() -> None:
    times: Timetable[str] = Timetable()
    for name, at in (("c", 3.0), ("a", 1.0), ("b", 2.0), ("d", 9.0)):
        times.put(name, at)

    assert times.due(0.9, 100, again_s=0.5) == []
    assert times.due(5.0, 2, again_s=0.5) == ["a", "b"]
    assert times.due(5.0, 2, again_s=0.5) == ["c"]
    times.drop("a")
    assert times.due(5.4, 100, again_s=0.5) == []
    assert times.due(5.5, 100, again_s=0.5) == ["b", "c"]


def test_only_the_time_that_was_said_last_counts() -> None:
    times: Timetable[str] = Timetable()
    times.put("a", 1.0)
    times.put("a", 5.0)
    times.put("b", 2.0)
    times.drop("b")
    times.put("b", 2.0)

    assert times.due(4.0, 100, again_s=100.0) == ["b"]
    assert times.due(5.0, 100, again_s=100.0) == ["a"]
    assert "a" in times


def test_what_was_dropped_is_not_kept_for_ever() -> None:
    """A quarantine that is ended by hand, a thousand times, leaves nothing that lasts as long as it would have."""
    times: Timetable[int] = Timetable()
    dice = random.Random(7)
    ends_at = {number: dice.random() * 1e6 for number in range(10_000)}
    for number, at in ends_at.items():
        times.put(number, at)
        times.drop(number - 10)

    assert len(times._heap) < 200
    assert times.due(1e6, 100, again_s=1.0) == sorted(range(9_990, 10_000), key=ends_at.__getitem__)


def test_it_says_when_the_first_may_be_due() -> None:
    times: Timetable[str] = Timetable()
    nothing = times.next_at
    times.put("b", 2.0)
    times.put("a", 1.0)
    first = times.next_at
    times.due(1.5, 100, again_s=100.0)

    assert (nothing, first, times.next_at) == (float("inf"), 1.0, 2.0)
