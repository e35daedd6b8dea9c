"""What responses say about when to ask again."""

from __future__ import annotations

import pytest

from pydrm.handlers.http_freshness import fresh_s, retry_after_s

DATE_S = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"Cache-Control": "max-age=60"}, 60),
        ({"Cache-Control": 'public, MAX-AGE="60" , x=y'}, 60),
        ({"Cache-Control": "max-age=60", "Age": "45"}, 15),
        ({"Cache-Control": "max-age=60", "Age": "61"}, 0),
        ({"Cache-Control": "max-age=60", "Age": "old"}, 60),
        ({"Cache-Control": "s-maxage=60"}, 0),
        ({"Cache-Control": "max-age=60, no-cache"}, 0),
        ({"Cache-Control": "no-store, max-age=60"}, 0),
        ({"Cache-Control": "max-age=-1"}, 0),
        ({"Cache-Control": "max-age=soon"}, 0),
    ],
)
def test_how_long_it_stays_fresh(headers: dict[str, str], seconds: float) -> None:
    assert fresh_s(headers) == seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "120"}, 120),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "Sun, 06 Nov 1994 08:50:37 GMT"}, 60),
        ({"Retry-After": "Sun, 06 Nov 1994 08:48:37 GMT"}, 0),
        # By the server's own clock, which may be years off.
        ({"Retry-After": "Thu, 01 Jan 1970 00:01:00 GMT", "Date": "Thu, 01 Jan 1970 00:00:15 GMT"}, 45),
        ({"Retry-After": "Sun, 06 Nov 1994 08:50:37 GMT", "Date": "today"}, 60),
    ],
)
def test_how_long_it_asks_to_be_left_alone(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, DATE_S) == seconds
