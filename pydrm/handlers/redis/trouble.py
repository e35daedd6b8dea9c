"""
What can go wrong with a Redis server, and what a resource shows of it.

Apart from `redis_link`, so that whoever catches these need not have the package redis.
"""

from __future__ import annotations

from importlib.util import find_spec

from pydrm.errors import Temporary

__all__ = ["MISSING", "Lost", "Refused", "is_installed"]

MISSING = "needs the package redis: pip install pydrm[redis]"


class Lost(Temporary):
    """The connection does not come about, or is gone."""


class Refused(Temporary):
    """The server answered with an error."""


def is_installed() -> bool:
    return find_spec("redis") is not None
