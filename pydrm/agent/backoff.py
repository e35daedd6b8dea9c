"""
`Backoff`: how long to wait before the next try.

Full jitter (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015): uniform between
nothing and an exponentially growing ceiling, so that a thousand handlers that failed at the same
instant do not try again at the same instant.
"""

from __future__ import annotations

from pydrm.clock import Random

__all__ = ["Backoff"]


class Backoff:
    """
    Attributes:
        base_s, cap_s: The first ceiling, and the highest.
    """

    __slots__ = ("_random", "_tries", "base_s", "cap_s")

    def __init__(self, random: Random, *, base_s: float = 0.1, cap_s: float = 30.0) -> None:
        self._random = random
        self._tries = 0
        self.base_s = base_s
        self.cap_s = cap_s

    def next_s(self) -> float:
        """Seconds to wait now; each call raises the next one's ceiling."""
        # The exponent is bounded because 2 ** tries would grow without end while a third party is away.
        ceiling = min(self.cap_s, self.base_s * 2.0 ** min(self._tries, 32))
        self._tries += 1
        return self._random.random() * ceiling

    def reset(self) -> None:
        """It worked for a while: the next failure begins at the first ceiling."""
        self._tries = 0
