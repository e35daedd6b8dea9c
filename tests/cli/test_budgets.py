"""`pydrm budgets`: shown, set and removed."""

from __future__ import annotations

import json

import pytest

from pydrm.cli.exits import Exit
from pydrm.cli.main import main
from tests.admin.fake_manager import FakeManager, minority
from tests.cli.served import served


def test_budgets_are_set_shown_and_removed(capsys: pytest.CaptureFixture[str]) -> None:
    """What is set takes the place of all limits before."""
    manager = FakeManager()
    with served(manager) as url:
        there = ["--admin", url]
        assert main(["budgets", "set", "api.example.com", "--connections", "10", *there]) == Exit.OK
        limits = ["--connections", "5", "--connects-per-second", "2.5"]
        assert main(["budgets", "set", "api.example.com", *limits, *there]) == Exit.OK
        assert manager.budgets.limits == {"api.example.com": {"connections": 5, "connects_per_second": 2.5}}
        capsys.readouterr()

        assert main(["budgets", *there]) == Exit.OK
        shown = capsys.readouterr().out.splitlines()
        assert main(["budgets", "remove", "api.example.com", *there]) == Exit.OK

    assert shown[0].split() == [
        "GROUP",
        "RESOURCES",
        "CONNECTS/S",
        "CONNECTIONS",
        "REQUESTS/S",
        "SESSIONS/DAY",
        "HELD",
        "BACK",
    ]
    assert shown[1].split() == ["api.example.com", "4", "2.5", "3", "of", "5"]
    assert manager.budgets.limits == {}


def test_a_limit_that_is_gone_by_setting_others_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    manager = FakeManager()
    manager.budgets.limits = {"g": {"connections": 10, "requests_per_second": 2.5}}
    with served(manager) as url:
        assert main(["budgets", "set", "g", "--connections", "5", "--admin", url]) == Exit.OK
        said = capsys.readouterr().out
        assert main(["budgets", "set", "g", "--connections", "6", "--json", "--admin", url]) == Exit.OK

    assert said == "set the budget of g; not limited any more: requests_per_second (was 2.5)\n"
    assert json.loads(capsys.readouterr().out) == {"set": "g", "not_limited_any_more": []}


def test_json_is_what_the_node_says(capsys: pytest.CaptureFixture[str]) -> None:
    """And nothing else."""
    manager = FakeManager()
    manager.budgets.limits = {"g": {"sessions_per_day": 300}}
    with served(manager) as url:
        assert main(["budgets", "--json", "--admin", url]) == Exit.OK

    assert json.loads(capsys.readouterr().out) == manager.budgets.list()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["set", "g"], Exit.INVALID, "a budget needs a limit"),
        (["set", "g", "--connections", "0"], Exit.INVALID, "connections: must be a whole number from 1"),
        (["set", "g", "--requests-per-second", "-1"], Exit.INVALID, "requests_per_second: must be a number above 0"),
        (["remove", "g"], Exit.CONFLICT, "'g' has no budget"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    arguments: list[str], code: Exit, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the exit code of its kind."""
    with served(FakeManager()) as url:
        assert main(["budgets", *arguments, "--admin", url]) == code

    assert words in capsys.readouterr().err


def test_without_a_majority_nothing_is_set() -> None:
    """As with everything that changes something."""
    with served(minority()) as url:
        assert main(["budgets", "set", "g", "--connections", "1", "--admin", url]) == Exit.NO_MAJORITY
