"""
When a delivery that failed is tried again: Standard Webhooks 1.0, "Deliverability and reliability", with jitter.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime

__all__ = ["RETRY_AFTER_S_MAX", "TRIES_MAX", "delay_s", "retry_after_s"]

_DELAYS_S = (0, 5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600)
_JITTER = 0.2

TRIES_MAX = len(_DELAYS_S)

# Foreign data that decides how long nothing is sent, so it is bounded.
RETRY_AFTER_S_MAX = 3600.0


def delay_s(tries: int, chance: float) -> float | None:
    """
    Seconds to wait after so many tries failed; None: that was the last one.

    Args:
        chance: 0 <= x < 1; the delay is up to 20 % shorter or longer by it.
    """
    if tries >= TRIES_MAX:
        return None
    return _DELAYS_S[max(tries, 1)] * (1 + _JITTER * (2 * chance - 1))


def retry_after_s(value: str, wall: float) -> float:
    """
    What a Retry-After asks for, in seconds, at most `RETRY_AFTER_S_MAX`; 0 if it cannot be read (RFC 9110, 10.2.3).

    Args:
        wall: Seconds since the epoch.
    """
    value = value.strip()
    if value.isascii() and value.isdigit():
        seconds = float(value[:9])
    else:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - wall
        except (ValueError, TypeError, OverflowError, IndexError):
            return 0.0
    return min(max(seconds, 0.0), RETRY_AFTER_S_MAX)
