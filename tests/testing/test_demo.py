"""The demo's arguments, and its two views; tests/acceptance plays it whole."""

from __future__ import annotations

import argparse

import pytest

from pydrm.testing.demo import add_arguments
from pydrm.testing.demo_view import Picture, PlainView, rich_view

ALL_HELD = Picture(1.0, [("r1", [("a", 1)]), ("r2", [("b", 2)])], [("a", "running", 1), ("b", "running", 1)])
ONE_UNHELD = Picture(2.0, [("r1", []), ("r2", [("b", 2)])], [("a", "killed", 0), ("b", "running", 1)])
ONE_TWICE = Picture(3.0, [("r1", [("a", 1), ("b", 3)]), ("r2", [("b", 2)])], [("a", "killed", 1), ("b", "running", 2)])


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(arguments)


def test_there_are_three_nodes_and_twelve_resources_unless_told() -> None:
    assert vars(parsed()) == {"nodes": 3, "resources": 12}
    assert vars(parsed("--nodes", "5", "--resources", "100")) == {"nodes": 5, "resources": 100}


@pytest.mark.parametrize("arguments", [("--nodes", "2"), ("--nodes", "x"), ("--resources", "0"), ("--nodes", "27")])
def test_what_cannot_be_shown_is_refused(arguments: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """With two nodes, nobody could take over from one that was killed: one of two is no majority."""
    with pytest.raises(SystemExit) as refused:
        parsed(*arguments)

    assert refused.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_the_plain_view_prints_what_is_said_and_what_is_not_well(capsys: pytest.CaptureFixture[str]) -> None:
    view = PlainView("the title")
    view.say(0.5, "something is done")
    for picture in (ALL_HELD, ONE_UNHELD, ONE_UNHELD, ONE_TWICE):
        view.show(picture)
    view.close()

    assert capsys.readouterr().out.splitlines() == [
        "the title",
        "  0.50 s  something is done",
        "  2.00 s    a 0  b 1  nobody 1",
        "  3.00 s    a 1  b 2  nobody 0  TWICE 1",
    ]


def test_the_live_view_shows_who_holds_what(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rich")
    view = rich_view("the title")
    assert view is not None
    view.show(ONE_TWICE)
    view.show(ONE_UNHELD)
    view.say(0.5, "something is [bold] done")
    view.close()
    view.close()

    shown = capsys.readouterr().out
    for words in ("the title", "nobody", "#2", "node a", "killed", "something is [bold] done"):
        assert words in shown
