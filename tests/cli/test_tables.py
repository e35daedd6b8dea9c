from __future__ import annotations

import sys

import pytest

from pydrm.cli.tables import print_table


def test_columns_are_as_wide_as_they_must_be(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("id", "token"), [("a-long-id", None), ("b", 12)])

    assert capsys.readouterr().out == "ID         TOKEN\na-long-id  -\nb          12\n"


def test_no_rows_leave_the_head(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("id", "token"), [])

    assert capsys.readouterr().out == "ID  TOKEN\n"


def test_an_id_that_looks_like_markup_is_shown_as_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal the table is drawn by rich, to which square brackets mean something."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)

    print_table(("id",), [("[bold]btc[/bold]",)])

    assert "[bold]btc[/bold]" in capsys.readouterr().out
