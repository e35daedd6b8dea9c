from __future__ import annotations

import json
from pathlib import Path

import pytest

from pydrm.cli.exits import Exit
from pydrm.cli.main import main
from pydrm.core.commands import Drain, Renew, Request
from pydrm.engine.codec import encode_entry, encode_request
from pydrm.engine.journal import Journal, open_journal
from pydrm.engine.local_disk import LocalDisk

NO_OP = b"\x01"


class SmallSegments(LocalDisk):
    segment_bytes = 1


def entry(*commands: Renew | Drain) -> bytes:
    return b"\x00" + encode_entry([encode_request(Request(command)) for command in commands])


RENEW_BYTES = len(encode_request(Request(Renew("a", 1, 7, 2000))))
DRAIN_BYTES = len(encode_request(Request(Drain("a", 1))))
BOTH_BYTES = 2 + 2 * RENEW_BYTES + DRAIN_BYTES


def sync(journal: Journal) -> None:
    journal.write(journal.take_batch())


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Of a follower that got a second entry which its next leader replaced; each batch is a segment of its own."""
    journal = open_journal(tmp_path, SmallSegments(), begun=False, base=None)
    journal.add(NO_OP, 1, 0)
    journal.setCurrentTerm(3, "c")
    journal.add(entry(Renew("a", 1, 7, 2000), Renew("b", 2, 7, 2000), Drain("a", 1)), 2, 3)
    sync(journal)
    journal.deleteEntriesFrom(1)
    journal.setCurrentTerm(4, None)
    journal.add(entry(Drain("b", 2)), 2, 4)
    journal.add(b"\x00\x93of a newer version", 3, 4)
    journal.setRaftCommitIndex(2)
    sync(journal)
    journal.close()
    return tmp_path


def first(directory: Path) -> Path:
    return directory / "journal-00000000000000000001"


def second(directory: Path) -> Path:
    return directory / "journal-00000000000000000002"


def test_a_journal_is_shown_segment_by_segment(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = [first(directory).stat().st_size, second(directory).stat().st_size]

    assert main(["wal", "inspect", str(directory)]) == Exit.OK

    assert capsys.readouterr().out.splitlines() == [
        "SEGMENT  BYTES  BATCHES  ENTRIES  TERMS  CUTS  TERM  VOTE  COMMIT",
        f"1        {sizes[0]}    1        1-2      0-3    0     3     c     -",
        f"2        {sizes[1]}    1        2-3      4      1     4     -     2",
    ]


def test_and_entry_by_entry_with_what_was_cut_off(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["wal", "inspect", str(directory), "--entries"]) == Exit.OK

    lines = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=4)[:4] for line in lines] == [
        ["INDEX", "TERM", "BYTES", "STATE"],
        ["1", "0", "1", "committed"],
        ["2", "3", str(BOTH_BYTES), "cut"],
        ["2", "4", str(2 + DRAIN_BYTES), "committed"],
        ["3", "4", "20", "-"],
    ]
    assert [line.split(maxsplit=4)[4] for line in lines[:4]] == [
        "COMMANDS",
        "no-op",
        f"Renew x2 ({2 * RENEW_BYTES} B), Drain ({DRAIN_BYTES} B)",
        f"Drain ({DRAIN_BYTES} B)",
    ]
    assert "an entry of the log cannot be read" in lines[4]


def test_json_has_all_of_it(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["wal", "inspect", str(directory), "--json", "--entries"]) == Exit.OK

    shown = json.loads(capsys.readouterr().out)
    assert shown["segments"][1] == {
        "file": "journal-00000000000000000002",
        "first_batch": 2,
        "term": 4,
        "voted_for": None,
        "commit_index": 2,
        "bytes": second(directory).stat().st_size,
        "torn": 0,
        "batches": 1,
        "entries": [2, 3],
        "terms": [4, 4],
        "cuts": 1,
    }
    assert shown["entries"][1] == {
        "index": 2,
        "term": 3,
        "bytes": BOTH_BYTES,
        "segment": 1,
        "commands": [["Renew", RENEW_BYTES], ["Renew", RENEW_BYTES], ["Drain", DRAIN_BYTES]],
        "problem": "",
        "state": "cut",
    }


def test_without_being_asked_for_entries_are_not_in_the_json(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["wal", "inspect", str(directory), "--json"]) == Exit.OK

    assert list(json.loads(capsys.readouterr().out)) == ["segments"]


def test_a_log_that_a_snapshot_replaced_shows_what_is_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not what is known to be committed: that is in the snapshot."""
    journal = open_journal(tmp_path, LocalDisk(), begun=False, base=None)
    for index in (1, 2, 3):
        journal.add(NO_OP, index, 1)
    journal.setRaftCommitIndex(2)
    sync(journal)
    journal.reset(50, 2)
    journal.add(NO_OP, 51, 2)
    sync(journal)

    assert main(["wal", "inspect", str(tmp_path), "--entries", "--json"]) == Exit.OK
    shown = json.loads(capsys.readouterr().out)
    assert main(["wal", "verify", str(tmp_path)]) == Exit.OK

    assert [(seen["index"], seen["state"]) for seen in shown["entries"]] == [
        (1, "committed"),
        (2, "committed"),
        (3, "cut"),
        (51, ""),
    ]
    assert shown["segments"][0]["commit_index"] == 50
    assert "; goes on from a snapshot of entry 50 or a later one; entries 51 to 51; term 2, " in capsys.readouterr().out


def test_a_good_journal_is_said_to_be_one_in_a_line(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = first(directory).stat().st_size + second(directory).stat().st_size

    assert main(["wal", "verify", str(directory)]) == Exit.OK

    assert capsys.readouterr().out == f"ok: 2 segments, 2 batches, {size} bytes; entries 1 to 3; term 4, no vote\n"


def test_a_directory_in_use_can_be_looked_at_and_is_left_as_it_is(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is being written at that moment is no damage; the process that uses the directory will finish it."""
    lock = LocalDisk().lock(directory)
    with second(directory).open("ab") as file:
        file.write(b"BTCH")
    (directory / "journal-00000000000000000003.new").write_bytes(b"half")
    before = {path.name: path.read_bytes() for path in directory.iterdir()}

    codes = [main(["wal", action, str(directory)]) for action in ("inspect", "verify")]

    out = capsys.readouterr().out
    lock.release()
    assert codes == [Exit.OK, Exit.OK]
    assert "\n4 bytes of an unfinished batch at the end of journal-00000000000000000002\n" in out
    assert out.endswith("; 4 bytes of an unfinished batch at the end\n")
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


@pytest.mark.parametrize("action", ["inspect", "verify"])
def test_damage_is_named_with_file_and_offset(action: str, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = bytearray(first(directory).read_bytes())
    data[-1] ^= 1
    first(directory).write_bytes(data)

    assert main(["wal", action, str(directory)]) == Exit.INVALID

    output = capsys.readouterr()
    assert output.err.startswith(f"pydrm wal: {first(directory)} is damaged at offset 51: ")
    assert ("SEGMENT" in output.out) is (action == "inspect")


@pytest.mark.parametrize("action", ["inspect", "verify"])
def test_a_missing_segment_is_named(action: str, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = open_journal(directory, SmallSegments(), begun=True, base=None)
    journal.add(NO_OP, 4, 4)
    sync(journal)
    journal.close()
    second(directory).unlink()

    assert main(["wal", action, str(directory)]) == Exit.INVALID

    assert "journal-00000000000000000003 is damaged at offset 0: a segment is missing" in capsys.readouterr().err


@pytest.mark.parametrize("action", ["inspect", "verify"])
def test_where_there_is_no_journal_that_is_said(
    action: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()

    codes = [main(["wal", action, str(tmp_path / name)]) for name in (".", "nowhere", "file")]

    assert codes == [Exit.INVALID] * 3
    assert capsys.readouterr().err.splitlines() == [
        f"pydrm wal: there is no journal in {tmp_path}",
        f"pydrm wal: {tmp_path / 'nowhere'} cannot be read: No such file or directory",
        f"pydrm wal: {tmp_path / 'file'} cannot be read: Not a directory",
    ]


def test_a_segment_that_is_removed_meanwhile_has_it_start_again(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The node that runs there has made a snapshot."""
    read = LocalDisk.read

    def read_late(disk: LocalDisk, file: Path) -> bytes | None:
        file.unlink() if file == first(directory) else None
        return read(disk, file)

    monkeypatch.setattr(LocalDisk, "read", read_late)

    assert main(["wal", "verify", str(directory)]) == Exit.OK
    assert "ok: 1 segment, 1 batch," in capsys.readouterr().out
