"""`Retry-After` as RFC 9110, section 10.2.3 has it, and what a server may not do with it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydrm.handlers.retry_after import RETRY_AFTER_S_MAX, retry_after_s

WALL = 1_445_412_480.0  # Wed, 21 Oct 2015 07:28:00 GMT


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 7 ", 7.0),
        ("Wed, 21 Oct 2015 07:29:00 GMT", 60.0),
        ("Wednesday, 21-Oct-15 07:29:00 GMT", 60.0),
        ("Wed Oct 21 07:29:00 2015", 60.0),
        ("999999999", RETRY_AFTER_S_MAX),
        ("Fri, 31 Dec 9999 23:59:59 GMT", RETRY_AFTER_S_MAX),
    ],
)
def test_seconds_and_all_three_forms_of_a_date_are_read_and_bounded(value: str, seconds: float):
    assert retry_after_s(value, date="", wall=WALL) == seconds


@pytest.mark.parametrize(
    "value",
    [
        "",
        "0",
        "-5",
        "1.5",
        "soon",
        "١٢",
        "1e3",
        "9" * 5000,
        "Wed, 21 Oct 2015 07:27:00 GMT",
        "Wed, 99 Oct 2015",
        "\x00",
    ],
)
def test_what_says_nothing_of_use_is_ignored(value: str):
    """Zero too: otherwise a server could make everybody try without a pause."""
    assert retry_after_s(value, date="", wall=WALL) is None


def test_a_moment_is_counted_from_the_servers_own_clock():
    """It is an hour slow, and means in a minute."""
    waits = retry_after_s("Wed, 21 Oct 2015 06:29:00 GMT", date="Wed, 21 Oct 2015 06:28:00 GMT", wall=WALL)

    assert waits == 60.0


@given(st.text(), st.text())
def test_whatever_comes_the_wait_is_bounded(value: str, date: str):
    seconds = retry_after_s(value, date=date, wall=WALL)

    assert seconds is None or 0 < seconds <= RETRY_AFTER_S_MAX
