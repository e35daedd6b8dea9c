"""
`Backoff`: how long to wait before the next try.

Full jitter (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015): uniform between
nothing and an exponentially growing ceiling, so that a thousand handlers that failed at the same
instant do not try again at the same instant.
"""

from __future__ import annotations

import msgspec

from pydrm.clock import Random

__all__ = ["Backoff"]


# One more object of tens of thousands of handles: so it is of a kind that Python's collector need not look at.
class Backoff(msgspec.Struct, gc=False):
    """
    Attributes:
        base_s, cap_s: The first ceiling, and the highest.
    """

    random: Random
    base_s: float = 0.1
    cap_s: float = 30.0
    tries: int = 0

    def next_s(self) -> float:
        """Seconds to wait now; each call raises the next one's ceiling."""
        # The exponent is bounded because 2 ** tries would grow without end while a third party is away.
        ceiling = min(self.cap_s, self.base_s * 2.0 ** min(self.tries, 32))
        self.tries += 1
        return self.random.random() * ceiling

    def reset(self) -> None:
        """It worked for a while: the next failure begins at the first ceiling."""
        self.tries = 0
