"""How long to wait before the next try."""

from __future__ import annotations

from pydrm.agent.backoff import Backoff


class Dice:
    def __init__(self, value: float) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


def test_the_ceiling_doubles_with_each_try_up_to_the_cap() -> None:
    backoff = Backoff(Dice(0.5), base_s=1, cap_s=10)

    waits = [backoff.next_s() for _ in range(6)]

    assert waits == [0.5, 1, 2, 4, 5, 5]


def test_the_jitter_is_full_so_a_wait_may_be_nothing_at_all() -> None:
    backoff = Backoff(Dice(0.0), base_s=1, cap_s=10)

    assert [backoff.next_s() for _ in range(3)] == [0, 0, 0]


def test_after_a_reset_the_ceiling_is_the_first_one_again() -> None:
    backoff = Backoff(Dice(0.5), base_s=1, cap_s=10)
    for _ in range(5):
        backoff.next_s()

    backoff.reset()

    assert backoff.next_s() == 0.5


def test_an_outage_of_years_does_not_overflow() -> None:
    backoff = Backoff(Dice(0.5), base_s=0.1, cap_s=30)

    waits = [backoff.next_s() for _ in range(5000)]

    assert waits[-1] == 15
