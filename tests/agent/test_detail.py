"""Texts of others, on their way into the log."""

from __future__ import annotations

import pytest

from pydrm.agent.detail import shown, told_by
from pydrm.core.records import REASON_CHARACTERS_MAX


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no")


@pytest.mark.parametrize(
    ("text", "as_shown"),
    [
        ("", ""),
        ("refused", "refused"),
        ("café \U0001f600", "café \U0001f600"),
        ("no file \udcff", "no file ?"),
        ("\ud83d\ude00", "??"),
        ("é" * 1000, "é" * REASON_CHARACTERS_MAX),
    ],
)
def test_what_is_shown_is_short_and_can_be_encoded(text: str, as_shown: str) -> None:
    assert shown(text) == as_shown
    assert shown(text).encode().decode() == as_shown


def test_an_error_that_fails_to_say_anything_is_told_of_all_the_same() -> None:
    assert told_by(Mute()) == "(its text cannot be had: ValueError)"
    assert told_by(OSError("no file \udcff")) == "no file ?"
