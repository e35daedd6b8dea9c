"""`pydrm webhooks`, against the admin API of a fake manager."""

from __future__ import annotations

import json

import pytest

from pydrm.cli.exits import Exit
from pydrm.cli.main import main
from tests.admin.fake_manager import FakeManager
from tests.cli.served import served


def test_what_failed_is_a_table_for_people_and_json_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    with served(FakeManager()) as url:
        assert main(["webhooks", "failed", "--admin", url]) == Exit.OK
        table = capsys.readouterr().out.splitlines()
        assert main(["webhooks", "failed", "other", "--json", "--admin", url]) == Exit.OK
        rows = json.loads(capsys.readouterr().out)

    assert table[0].split() == ["RESOURCE", "EVENT_ID", "TOPIC", "ATTEMPTS", "REASON"]
    assert table[1].split(maxsplit=4) == ["hook", "evt_7", "orders", "10", "answered with HTTP status 500"]
    assert [row["event_id"] for row in rows] == ["evt_8"]


def test_to_replay_what_has_not_failed_is_an_error_for_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    manager = FakeManager()
    with served(manager) as url:
        assert main(["webhooks", "replay", "nosuch", "--admin", url]) == Exit.CONFLICT

    assert "nothing of that has failed" in capsys.readouterr().err


def test_what_failed_is_replayed_if_one_says_which(capsys: pytest.CaptureFixture[str]) -> None:
    manager = FakeManager()
    with served(manager) as url:
        assert main(["webhooks", "replay", "hook", "--event", "evt_7", "--admin", url]) == Exit.OK
        assert main(["webhooks", "replay", "--all", "--json", "--admin", url]) == Exit.OK
        out = capsys.readouterr().out
        assert main(["webhooks", "replay", "--admin", url]) == Exit.USAGE

    assert manager.webhooks.replayed == [("hook", ["evt_7"]), (None, None)]
    assert out == '1 to be tried anew\n{"replayed": 2}\n'
    assert "say --all" in capsys.readouterr().err


def test_an_event_is_published_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    manager = FakeManager()
    with served(manager) as url:
        assert main(["webhooks", "publish", "orders", '{"id": 1}', "--id", "evt_5", "--admin", url]) == Exit.OK
        assert main(["webhooks", "publish", "orders", "1", "--admin", url]) == Exit.OK
        assert main(["webhooks", "publish", "orders", "{", "--admin", url]) == Exit.INVALID

    assert manager.published == [("orders", {"id": 1}), ("orders", 1)]
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["evt_5: for 2 webhooks", "evt_1: for 2 webhooks, published before"]
