"""
`Budgets`: what all nodes together may do to third parties, set, taken away and looked at.
"""

from __future__ import annotations

from collections.abc import Callable

from pydrm.core.budget_commands import SetBudget
from pydrm.core.budget_records import Budget
from pydrm.core.resource import Json
from pydrm.core.state import State
from pydrm.limits import budget_of, checked_group
from pydrm.node import Node
from pydrm.requests import Requests

__all__ = ["Budgets"]


class Budgets:
    """
    What `ResourceManager.budgets` is. Timeouts are in seconds.

    A resource is of the group that its field `budget` names, or else of the one that its kind says: the host that it
    connects to. docs/budgets.md says how exactly each limit is kept.
    """

    def __init__(self, running: Callable[[], Node], requests: Requests) -> None:
        self._running = running
        self._requests = requests

    async def set(
        self,
        group: str,
        *,
        connects_per_second: float | None = None,
        connections: int | None = None,
        requests_per_second: float | None = None,
        sessions_per_day: int | None = None,
        timeout: float = 10,
    ) -> None:
        """
        Limit what all nodes together do to the third party of *group*, in place of all its limits before.

        Nothing that is open is closed.

        Args:
            connections: At once.
            requests_per_second: For handlers that call `hold.may_request`.
            sessions_per_day: Connections that are begun within any 24 hours.

        Raises:
            ConfigurationError: A limit cannot be one, or there is none; nothing was changed.
            Unavailable: No majority answered in time. It may still take effect; repeat it.
        """
        limits = {
            "connects_per_second": connects_per_second,
            "connections": connections,
            "requests_per_second": requests_per_second,
            "sessions_per_day": sessions_per_day,
        }
        await self._requests.ask(budget_of(group, limits), timeout)

    async def remove(self, group: str, *, timeout: float = 10) -> bool:
        """
        Take all limits of *group* away; whether there were any. A holdback goes on until it is over.

        Raises:
            Unavailable: No majority answered in time. It may still take effect; repeat it.
        """
        done = await self._requests.ask(SetBudget(checked_group(group, "group")), timeout)
        return done.updated > 0

    def list(self) -> list[dict[str, Json]]:
        """
        Each group that has a limit or is held back, by name, as this node knows it.

        {group, connects_per_second, connections, requests_per_second, sessions_per_day: None where there is no limit;
        resources: how many are assigned; connected: permits that are given away; sessions: those begun in the last 24
        to 25 hours; held_back: {seconds, reason}, or None}. The seconds are those that it was to last when it began.
        """
        state = self._running().engine.state
        return [_row(group, budget, state) for group, budget in sorted(dict(state.budgets).items())]


def _row(group: str, budget: Budget, state: State) -> dict[str, Json]:
    holdback = max(budget.holdbacks, key=lambda holdback: holdback.duration_ms, default=None)
    return {
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
