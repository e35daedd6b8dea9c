"""
The limits of budgets as an app and a configuration file spell them, checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

from pydrm.core.budget_commands import SetBudget
from pydrm.core.decide_budgets import GROUP_CHARACTERS_MAX
from pydrm.errors import ConfigurationError

__all__ = ["LIMITS", "budget_of", "checked_group"]

LIMITS = ("connects_per_second", "connections", "requests_per_second", "sessions_per_day")

_LIMIT_MAX = 1_000_000


def budget_of(group: object, limits: Mapping[str, object], *, prefix: str = "") -> SetBudget:
    """
    The command that sets these limits; one that is None is none.

    Raises:
        ConfigurationError: A limit cannot be one, or there is none; its name follows *prefix*.
    """
    name = checked_group(group, f"{prefix}group")
    for limit in limits:
        if limit not in LIMITS:
            raise ConfigurationError(f"is unknown; known are {', '.join(LIMITS)}", field=prefix + limit)
    if all(limits.get(limit) is None for limit in LIMITS):
        raise ConfigurationError(f"a budget needs a limit: {', '.join(LIMITS)}", field=f"{prefix}{LIMITS[0]}")
    return SetBudget(
        name,
        connects_per_s=_rate(limits, "connects_per_second", prefix),
        connections=_number(limits, "connections", prefix),
        requests_per_s=_rate(limits, "requests_per_second", prefix),
        sessions_per_day=_number(limits, "sessions_per_day", prefix),
    )


def checked_group(value: object, field: str) -> str:
    """
    The name of a group: a host, or any other.

    Raises:
        ConfigurationError: It cannot be one.
    """
    if not isinstance(value, str) or not 1 <= len(value) <= GROUP_CHARACTERS_MAX or not value.isprintable():
        raise ConfigurationError(
            f"must be 1 to {GROUP_CHARACTERS_MAX} characters without control characters, not {value!r}", field=field
        )
    return value


def _rate(limits: Mapping[str, object], name: str, prefix: str) -> float:
    value = limits.get(name)
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value) or value <= 0:
        raise ConfigurationError(f"must be a number above 0, not {value!r}", field=prefix + name)
    return min(float(value), float(_LIMIT_MAX))


def _number(limits: Mapping[str, object], name: str, prefix: str) -> int:
    value = limits.get(name)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _LIMIT_MAX:
        raise ConfigurationError(f"must be a whole number from 1 to {_LIMIT_MAX}, not {value!r}", field=prefix + name)
    return value
