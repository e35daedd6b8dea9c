"""
`Allowance`: a token bucket with room for one, for a rate that may change at any time. Sans I/O.

Room for one, because each node has a bucket of its own: what all of them may do in a time is their common rate, and at
the most one more for each.
"""

from __future__ import annotations

__all__ = ["Allowance"]

_NEARLY = 1 - 1e-9


class Allowance:
    """It begins with one."""

    __slots__ = ("_filled_at", "_level")

    def __init__(self) -> None:
        self._level = 1.0
        self._filled_at: float | None = None

    def wait_s(self, now: float, rate_per_s: float) -> float:
        """
        How long until there is one, if the rate stays as it is; 0 if there is, infinite if there will be none.

        The time since it was last asked counts at *rate_per_s*: ask often where the rate changes.
        """
        if self._filled_at is not None:
            self._level = min(1.0, self._level + max(now - self._filled_at, 0.0) * rate_per_s)
        self._filled_at = now
        if self._level >= _NEARLY:
            return 0.0
        return (1.0 - self._level) / rate_per_s if rate_per_s > 0 else float("inf")

    def take(self) -> None:
        """Use one; `wait_s` has just said that there is one."""
        self._level = max(self._level - 1.0, 0.0)
