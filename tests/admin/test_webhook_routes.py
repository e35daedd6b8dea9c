"""What the admin API has for webhooks."""

from __future__ import annotations

import pytest

from tests.admin.fake_manager import FakeManager
from tests.admin.test_server import Ask, served


def test_what_failed_is_listed_of_all_or_of_one() -> None:
    """Row by row, as the manager has it."""

    async def talk(ask: Ask) -> None:
        status, rows = await ask("GET", "/v1/webhooks/failed")
        assert (status, [row["resource"] for row in rows]) == (200, ["hook", "other"])
        _, [row] = await ask("GET", "/v1/webhooks/failed?resource=hook")
        assert row == {
            "resource": "hook",
            "event": 7,
            "event_id": "evt_7",
            "topic": "orders",
            "attempts": 10,
            "reason": "answered with HTTP status 500",
        }

    served(FakeManager(), talk)


def test_what_failed_is_replayed() -> None:
    """Of one webhook, or only some events."""
    manager = FakeManager()

    async def talk(ask: Ask) -> None:
        asked = {"resource": "hook", "event_ids": ["evt_7"]}
        assert await ask("POST", "/v1/webhooks/replay", json=asked) == (200, {"replayed": 1})
        assert manager.webhooks.replayed == [("hook", ["evt_7"])]

    served(manager, talk)


def test_an_event_is_published() -> None:
    """With what the manager says of it."""
    manager = FakeManager()

    async def talk(ask: Ask) -> None:
        event = {"topic": "orders", "payload": {"id": 1}, "event_id": "evt_9"}
        answer = {"event_id": "evt_9", "matched": 2, "duplicate": False}
        assert await ask("POST", "/v1/events?timeout=3", json=event) == (200, answer)
        assert (manager.published, manager.timeouts) == ([("orders", {"id": 1})], [3.0])

    served(manager, talk)


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/events", {"topic": "orders"}), ("/v1/events", {"topic": 1, "payload": 2}), ("/v1/webhooks/replay", [])],
)
def test_a_body_of_another_shape_is_refused(path: str, body: object) -> None:
    """The answer says what shape it should have."""

    async def talk(ask: Ask) -> None:
        status, answer = await ask("POST", path, json=body)
        assert (status, answer["reason"]) == (400, "invalid")
        assert answer["error"].startswith("the body must be")

    served(FakeManager(), talk)
