"""
When a delivery that failed is tried again: Standard Webhooks 1.0, "Deliverability and reliability", with jitter.
"""

from __future__ import annotations

__all__ = ["TRIES_MAX", "delay_s"]

_DELAYS_S = (0, 5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600)
_JITTER = 0.2

TRIES_MAX = len(_DELAYS_S)


def delay_s(tries: int, chance: float) -> float | None:
    """
    Seconds to wait after so many tries failed; None: that was the last one.

    Args:
        chance: 0 <= x < 1; the delay is up to 20 % shorter or longer by it.
    """
    if tries >= TRIES_MAX:
        return None
    return _DELAYS_S[max(tries, 1)] * (1 + _JITTER * (2 * chance - 1))
