"""When a delivery is tried again, and what a receiver may ask for."""

from __future__ import annotations

from pydrm.handlers.webhook.schedule import TRIES_MAX, delay_s


def test_the_schedule_is_that_of_standard_webhooks():
    """At once, then 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h and 24 h later."""
    delays = [delay_s(tries, 0.5) for tries in range(1, TRIES_MAX + 1)]

    assert delays == [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400, None]


def test_delays_differ_by_a_fifth():
    """What failed at the same moment is not tried at the same moment."""
    assert (delay_s(1, 0.0), delay_s(1, 1.0)) == (4, 6)
