"""
Budgets as an app and a configuration file spell them: what they may say, checked, and what is shown of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

from pydrm.core.budget_commands import SetBudget
from pydrm.core.decide_budgets import GROUP_CHARACTERS_MAX
from pydrm.core.resource import Json
from pydrm.core.state import State
from pydrm.errors import ConfigurationError

__all__ = ["LIMITS", "budget_of", "budget_rows", "checked_group"]

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


def budget_rows(state: State) -> list[dict[str, Json]]:
    """
    Each group that has a limit or is held back, by name: its limits (None: there is none) and what is used of them.

    {group, connects_per_second, connections, requests_per_second, sessions_per_day; resources: how many are assigned;
    connected: permits that are given away; sessions: those begun in the last 24 to 25 hours; held_back: {seconds,
    reason}, or None}. The seconds are those that it was to last when it began.
    """
    rows: list[dict[str, Json]] = []
    for group, budget in sorted(dict(state.budgets).items()):
        holdback = max(budget.holdbacks, key=lambda holdback: holdback.duration_ms, default=None)
        rows.append(
            {
                "group": group,
                "connects_per_second": budget.connects_per_s or None,
                "connections": budget.connections or None,
                "requests_per_second": budget.requests_per_s or None,
                "sessions_per_day": budget.sessions_per_day or None,
                "resources": sum(list(state.index.groups.get(group, {}).values())),
                "connected": state.index.permits.get(group, 0),
                "sessions": sum(budget.sessions),
                "held_back": {"seconds": holdback.duration_ms / 1000, "reason": holdback.reason} if holdback else None,
            }
        )
    return rows


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
