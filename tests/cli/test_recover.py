"""`pydrm recover`: what it says, and how it exits. What it does is in tests/engine/test_recovery.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pydrm.cli.exits import Exit
from pydrm.cli.main import main
from pydrm.engine.local_disk import LocalDisk
from tests.engine.voter_data import LOST_ID, lay_out


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Of node a, whose peers b and c are lost."""
    lay_out(tmp_path, LocalDisk())
    return tmp_path


def content(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def test_without_the_flag_it_says_what_it_would_do_and_does_nothing(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(directory)

    assert main(["recover", str(directory)]) == Exit.USAGE

    assert content(directory) == before
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines()[0] == (
        f"pydrm recover: this makes a new cluster of what {directory} holds, and cannot be undone."
    )
    assert f"pydrm recover --force-new-cluster {directory}" in shown.err


def test_with_it_it_says_what_it_did_and_what_comes_next(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recover", "--force-new-cluster", str(directory)]) == Exit.OK

    identity = json.loads((directory / "identity.json").read_text())
    assert identity["cluster_id"] != LOST_ID
    assert capsys.readouterr().out.splitlines() == [
        "read        the beginning of the log, and 5 entries after it (1 not known to be committed)",
        "wrote       a snapshot as of entry 7, with 3 resources; the next token is 4294967306",
        f"cluster     {identity['cluster_id']}; it was {LOST_ID}",
        "voters      a; no more: b, c",
        "",
        "Next:",
        "  1. Empty the data directories of all other nodes, of workers too: b, c.",
        "  2. Start a. For 2 s it assigns nothing: a lease of the lost log may still run.",
        "  3. Start the others, as they were configured; they follow a.",
        "  4. pydrm nodes add b",
        "  5. pydrm nodes add c",
    ]


def test_a_node_that_runs_is_left_alone(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = LocalDisk().lock(directory)

    assert main(["recover", "--force-new-cluster", str(directory)]) == Exit.INVALID
    lock.release()

    assert capsys.readouterr().err.startswith(f"pydrm recover: {directory} is in use by process ")


def test_what_is_no_data_directory_is_not_made_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recover", "--force-new-cluster", str(tmp_path / "nothing")]) == Exit.INVALID

    assert capsys.readouterr().err == f"pydrm recover: there is no node's data in {tmp_path / 'nothing'}\n"
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_journal_is_named_with_its_offset(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = directory / "journal-00000000000000000001"
    journal.write_bytes(b"x" + journal.read_bytes()[1:])

    assert main(["recover", "--force-new-cluster", str(directory)]) == Exit.INVALID

    assert f"pydrm recover: {journal} is damaged at offset 0" in capsys.readouterr().err
