"""Hosts that are left alone because nothing works there."""

from __future__ import annotations

from pydrm.handlers.http_poll.circuit import FAILURES_MAX, OPEN_FIRST_S, OPEN_LONGEST_S, Circuits

HOST = "http://x.example:80"


def opened(now: float = 0.0) -> Circuits:
    circuits = Circuits()
    for _ in range(FAILURES_MAX):
        circuits.failed(HOST, now)
    return circuits


def test_failures_in_a_row_open_it_and_for_that_host_only() -> None:
    circuits = opened()

    assert circuits.admit(HOST, 0.0, 5.0) == OPEN_FIRST_S
    assert circuits.admit("http://y.example:80", 0.0, 5.0) == 0


def test_one_success_in_between_and_it_stays_closed() -> None:
    circuits = Circuits()
    for _ in range(10):
        for _ in range(FAILURES_MAX - 1):
            circuits.failed(HOST, 0.0)
        circuits.succeeded(HOST)

    assert circuits.admit(HOST, 0.0, 5.0) == 0


def test_when_its_time_is_over_one_probe_may_go_and_the_rest_waits_for_it() -> None:
    circuits = opened()

    assert circuits.admit(HOST, OPEN_FIRST_S, 5.0) == 0
    assert circuits.admit(HOST, OPEN_FIRST_S, 5.0) == 5.0


def test_a_probe_that_succeeds_closes_it() -> None:
    circuits = opened()
    circuits.admit(HOST, OPEN_FIRST_S, 5.0)

    circuits.succeeded(HOST)

    assert circuits.admit(HOST, OPEN_FIRST_S, 5.0) == 0


def test_a_probe_that_fails_opens_it_for_twice_as_long_up_to_a_minute() -> None:
    circuits, now, waits = opened(), 0.0, []
    for _ in range(10):
        waits.append(circuits.admit(HOST, now, 5.0))
        now += waits[-1]
        assert circuits.admit(HOST, now, 5.0) == 0
        circuits.failed(HOST, now)

    assert waits[:3] == [OPEN_FIRST_S, 2 * OPEN_FIRST_S, 4 * OPEN_FIRST_S]
    assert waits[-1] == OPEN_LONGEST_S


def test_a_probe_that_never_reports_is_given_up() -> None:
    """Its hold may have ended."""
    circuits = opened()
    circuits.admit(HOST, OPEN_FIRST_S, 5.0)

    assert circuits.admit(HOST, OPEN_FIRST_S + 5.0, 5.0) == 0


def test_those_that_were_under_way_when_it_opened_do_not_prolong_it() -> None:
    circuits = opened()
    for _ in range(100):
        circuits.failed(HOST, 0.5)

    assert circuits.admit(HOST, 0.5, 5.0) == OPEN_FIRST_S - 0.5
