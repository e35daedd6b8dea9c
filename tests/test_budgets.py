"""Budgets as an app sets them, on a real node."""

from __future__ import annotations

import asyncio

import pytest

from pydrm import ConfigurationError, Hold, Resource, ResourceManager
from pydrm.config import Config
from pydrm.limits import budget_of, checked_group


def manager(**options: object) -> ResourceManager:
    drm = ResourceManager(cluster="orders", node="a", **options)

    @drm.handler("feed")
    async def feed(hold: Hold) -> None:
        hold.ready()
        await asyncio.Event().wait()

    return drm


async def until(condition: object, timeout_s: float = 10) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.01)


def test_a_budget_is_set_kept_shown_and_removed() -> None:
    """As many are open as it says, and the others once it is gone."""

    async def main() -> None:
        async with manager(budgets={"api.example.com": {"connections": 2, "sessions_per_day": 100}}) as drm:
            feeds = [Resource(f"r{number}", kind="feed", budget="api.example.com") for number in range(5)]
            await drm.add(feeds)
            await until(lambda: sum(row["state"] == "open" for row in drm.resources()) == 2)
            await asyncio.sleep(0.5)
            (row,) = drm.budgets.list()
            assert (row["group"], row["connections"], row["connected"]) == ("api.example.com", 2, 2)
            assert (row["resources"], row["sessions"], row["held_back"]) == (5, 2, None)
            assert sum(row["state"] == "open" for row in drm.resources()) == 2

            await drm.budgets.set("api.example.com", connections=3)
            await until(lambda: sum(row["state"] == "open" for row in drm.resources()) == 3)
            assert await drm.budgets.remove("api.example.com")
            assert not await drm.budgets.remove("api.example.com")
            await until(lambda: all(row["state"] == "open" for row in drm.resources()))
            assert drm.budgets.list() == []

    asyncio.run(main())


def test_what_an_app_has_set_the_configuration_does_not_set_again() -> None:
    """As with resources: it is for groups that have no budget."""

    async def main() -> None:
        drm = manager(budgets={"g": {"connections": 2}})
        async with drm:
            await drm.budgets.set("g", connections=9)
            await drm.start()
            assert [row["connections"] for row in drm.budgets.list()] == [9]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("limits", "field"),
    [
        ({}, "connects_per_second"),
        ({"connections": None}, "connects_per_second"),
        ({"connections": 0}, "connections"),
        ({"connections": 2.5}, "connections"),
        ({"connections": True}, "connections"),
        ({"sessions_per_day": -1}, "sessions_per_day"),
        ({"connects_per_second": 0}, "connects_per_second"),
        ({"connects_per_second": float("nan")}, "connects_per_second"),
        ({"requests_per_second": "7"}, "requests_per_second"),
        ({"request_per_second": 7}, "request_per_second"),
    ],
)
def test_a_limit_that_cannot_be_one_is_refused_by_name(limits: dict[str, object], field: str) -> None:
    """Before anything is sent."""
    with pytest.raises(ConfigurationError) as refused:
        budget_of("g", limits)

    assert refused.value.field == field


@pytest.mark.parametrize("group", ["", "g" * 257, "a\tb", 7, None])
def test_a_name_that_cannot_be_a_groups_is_refused(group: object) -> None:
    """It is shown to people."""
    with pytest.raises(ConfigurationError):
        checked_group(group, "group")


def test_budgets_of_a_configuration_are_tables_by_group() -> None:
    """Each complaint names the group and the limit."""
    said = {"cluster": "orders", "node": "a"}
    config = Config.load(**said, budgets={"api.example.com": {"connections": 3}})
    assert config.budgets == (budget_of("api.example.com", {"connections": 3}),)

    for budgets, field in (
        ([], "budgets"),
        ({"g": 7}, "budgets.g"),
        ({"g": {"connections": 0}}, "budgets.g.connections"),
        ({"g": {"conections": 1}}, "budgets.g.conections"),
    ):
        with pytest.raises(ConfigurationError) as refused:
            Config.load(**said, budgets=budgets)
        assert refused.value.field == field
