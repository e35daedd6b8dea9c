"""What stands in braces in a url or header: read on the holder, for each fetch."""

from __future__ import annotations

from pathlib import Path

import pytest

from pydrm.handlers.secrets import SecretMissing
from pydrm.sources.secret import names_secret, revealed


def test_secrets_are_read_from_the_environment_and_from_files(tmp_path: Path) -> None:
    """The line break with which an editor ends a file is no part of it."""
    (tmp_path / "key").write_text("from a file\n")
    template = {"a": ["{env:KEY}-{env:KEY}", f"Bearer {{file:{tmp_path}/key}}"], "b": 7}

    assert revealed(template, {}, {"KEY": "k"}) == {"a": ["k-k", "Bearer from a file"], "b": 7}


def test_the_assignment_is_filled_in_and_other_braces_are_what_they_are() -> None:
    """A body in JSON has many."""
    assert revealed("{node} {token} {other} {} {{id}}", {"node": "a", "token": "7", "id": "x"}) == "a 7 {other} {} {x}"
    assert revealed('{"node": "{node}"}', {}) == '{"node": "{node}"}'


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{env:NO}", r"\{env:NO\} is not set, or is empty"),
        ("{file:/no/such}", r"\{file:/no/such\} cannot be read: No such file or directory"),
    ],
)
def test_what_is_not_there_is_named(template: str, problem: str) -> None:
    with pytest.raises(SecretMissing, match=problem):
        revealed(template, {}, {})


def test_what_begins_like_a_reference_counts_as_one() -> None:
    """Where entries must have none, it is better to refuse one too many."""
    assert names_secret({"a": [{"b": "x{env:"}]})
    assert not names_secret({"a": ["env:X", "{id}", 7, None]})
