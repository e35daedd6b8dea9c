"""
`Journal` in one segment: what was synced comes back, what was being written may, and nothing else does.

What is special about many segments, and about snapshots, is in `test_compaction` and `test_journal_lives`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pydrm.engine.journal import Journal, JournalDamaged, open_journal
from pydrm.engine.journal_records import Added, BaseSet, CommitNoted, CutFrom, encode_record
from pydrm.engine.local_disk import LocalDisk
from pydrm.engine.segment_format import Header, encode_batch
from pydrm.errors import ConfigurationError
from tests.engine.journals import DATA, add, contents, opened, segment, sync
from tests.engine.memory_disk import MemoryDisk

JOURNAL = segment(1)
HEADER = Header(1).encode()
HEADER_SIZE = len(HEADER)
BATCH_HEAD_SIZE = 20


def size(disk: MemoryDisk) -> int:
    return len(disk.files[JOURNAL])


def three_batches() -> tuple[MemoryDisk, list[int]]:
    """A journal of three batches with one entry each, and where each batch ends."""
    disk = MemoryDisk()
    journal = opened(disk)
    ends = []
    for command in (b"one", b"two", b"three"):
        add(journal, command)
        sync(journal)
        ends.append(size(disk))
    return disk, ends


def spoil(disk: MemoryDisk, offset: int) -> None:
    data = bytearray(disk.files[JOURNAL])
    data[offset] ^= 0xFF
    disk.files[JOURNAL] = bytes(data)


# --- what comes back -------------------------------------------------------------------------------------------------


def test_a_new_journal_is_empty():
    """Nobody was voted for in term 0, and nothing is known to be committed but the first entry, which all share."""
    journal = opened(MemoryDisk())

    assert contents(journal) == ([], 0, None)
    assert journal.getRaftCommitIndex() == 1
    assert not journal.dirty


def test_what_was_synced_comes_back_when_it_is_opened_again():
    """Entries with their indexes and terms, the term and the vote."""
    disk = MemoryDisk()
    journal = opened(disk)
    add(journal, b"", b"\x00\xff", term=1)
    add(journal, b"third", term=3)
    journal.setCurrentTerm(4, "b")
    sync(journal)

    again = opened(disk)

    assert contents(again) == ([(b"", 1, 1), (b"\x00\xff", 2, 1), (b"third", 3, 3)], 4, "b")


def test_what_was_not_synced_is_gone():
    """It was noted in memory only, so nobody may have been told of it."""
    disk = MemoryDisk()
    journal = opened(disk)
    add(journal, b"one")
    sync(journal)
    add(journal, b"two")

    assert contents(opened(disk)) == ([(b"one", 1, 1)], 0, None)


def test_entries_that_were_cut_off_stay_away():
    """A leader's other entries take their place under the same indexes."""
    disk = MemoryDisk()
    journal = opened(disk)
    add(journal, b"one", b"two", b"three", term=1)
    sync(journal)
    journal.deleteEntriesFrom(1)
    add(journal, b"other two", term=2)
    sync(journal)

    assert contents(opened(disk)) == ([(b"one", 1, 1), (b"other two", 2, 2)], 0, None)


def test_a_vote_can_be_taken_back_only_by_a_new_term():
    """The newest term comes back, with the vote that was given in it, or none."""
    disk = MemoryDisk()
    journal = opened(disk)
    journal.setCurrentTerm(5, "näme")
    sync(journal)
    voted = contents(opened(disk))
    journal.setCurrentTerm(6, None)
    sync(journal)

    assert voted == ([], 5, "näme")
    assert contents(opened(disk)) == ([], 6, None)


def test_a_term_that_is_the_same_is_not_written_again():
    """PySyncObj sets it at every message; that must not cost a sync."""
    journal = opened(MemoryDisk())
    journal.setCurrentTerm(5, "b")
    sync(journal)

    journal.setCurrentTerm(5, "b")

    assert not journal.dirty


def test_without_a_file_it_is_kept_in_memory_only():
    """A cluster of one may live without a disk; then there is nothing to wait for."""
    journal = Journal()

    add(journal, b"one")

    assert contents(journal) == ([(b"one", 1, 1)], 0, None)
    assert not journal.dirty


def test_numbering_goes_on_after_reopening():
    """Batches are numbered through all processes, so an old one is never taken for the next."""
    disk = MemoryDisk()
    for command in (b"one", b"two", b"three"):
        journal = opened(disk)
        add(journal, command)
        sync(journal)

    assert contents(opened(disk)) == ([(b"one", 1, 1), (b"two", 2, 1), (b"three", 3, 1)], 0, None)


# --- what is known to be committed -----------------------------------------------------------------------------------


def test_the_commit_index_is_written_with_the_next_batch():
    """It is a hint: it costs no sync of its own, so it may be late."""
    disk = MemoryDisk()
    journal = opened(disk)
    add(journal, b"one", b"two", b"three")
    sync(journal)
    journal.setRaftCommitIndex(3)

    dirty, before = journal.dirty, opened(disk).getRaftCommitIndex()
    add(journal, b"four")
    sync(journal)

    assert (dirty, before) == (False, 1)
    assert opened(disk).getRaftCommitIndex() == 3


def test_the_commit_index_never_goes_back():
    """What is committed stays so, whatever PySyncObj says."""
    journal = Journal()
    add(journal, b"one", b"two", b"three")

    journal.setRaftCommitIndex(3)
    journal.setRaftCommitIndex(2)

    assert journal.getRaftCommitIndex() == 3


def test_a_commit_index_beyond_the_log_is_damage():
    """It could have been written only with the entries that it speaks of."""
    disk = MemoryDisk()
    journal = opened(disk)
    add(journal, b"one")
    journal.setRaftCommitIndex(2)
    sync(journal)

    with pytest.raises(JournalDamaged, match=f"offset {HEADER_SIZE}: entry 2 is committed, but the last is 1"):
        opened(disk)


def test_entries_with_a_gap_between_them_are_damage():
    """Each entry follows the one before."""
    disk, ends = three_batches()
    third = disk.files[JOURNAL][ends[1] :]
    other = MemoryDisk()
    journal = opened(other)
    for _ in range(2):
        journal.setCurrentTerm(journal.getCurrentTerm() + 1, None)
        sync(journal)
    other.files[JOURNAL] += third

    with pytest.raises(JournalDamaged, match="entry 3 follows entry 0"):
        opened(other)


# --- what a crash leaves ---------------------------------------------------------------------------------------------


def test_a_torn_tail_is_cut_off_wherever_it_is_torn():
    """Of the batch that was being written nobody was told; all before it survives, and it can go on."""
    disk, ends = three_batches()
    whole = disk.files[JOURNAL]

    for torn in range(ends[1], ends[2]):
        disk.files[JOURNAL] = whole[:torn]
        journal = opened(disk, begun=True)
        assert contents(journal)[0] == [(b"one", 1, 1), (b"two", 2, 1)]
        assert size(disk) == ends[1]
        add(journal, b"other three")
        sync(journal)
        assert opened(disk)[2:] == [(b"other three", 3, 1)]


def test_a_last_batch_that_is_damaged_anywhere_is_cut_off():
    """Pages of one write may reach the disk in any order, so its end may be there and its middle not."""
    disk, ends = three_batches()
    whole = disk.files[JOURNAL]

    for offset in range(ends[1], ends[2]):
        disk.files[JOURNAL] = whole
        spoil(disk, offset)
        assert opened(disk)[:] == [(b"one", 1, 1), (b"two", 2, 1)]


def test_the_last_batch_that_was_read_is_written_again():
    """It may be in the page cache only, and nothing is said that rests on that."""
    disk, ends = three_batches()
    again = []
    for torn in (b"", b"torn"):
        disk.written_again.clear()
        disk.files[JOURNAL] += torn
        opened(disk)
        again.append(list(disk.written_again))

    assert again == [[(JOURNAL, ends[1])], [(JOURNAL, ends[1])]]


def test_a_first_start_that_crashed_leaves_nothing_that_matters():
    """A segment is there with its whole header, or not at all; half of one is left under another name, and removed."""
    for torn in range(HEADER_SIZE + 1):
        disk = MemoryDisk()
        disk.fails_after = torn
        with pytest.raises(OSError, match="No space left"):
            opened(disk)
        disk.fails_after = None
        assert disk.names(DATA) == [f"{JOURNAL.name}.new"]
        opened(disk)
        assert disk.files == {JOURNAL: HEADER}


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("left", [0, 5, 11, 12, HEADER_SIZE - 1])
def test_a_segment_without_its_whole_header_is_refused(begun: bool, left: int):
    """No crash leaves one. Were it taken for a new one, the node would vote twice in a term."""
    disk = MemoryDisk()
    disk.files[JOURNAL] = HEADER[:left]

    with pytest.raises(JournalDamaged, match=r"at offset 0: its (beginning is missing|header is broken)"):
        opened(disk, begun=begun)
    assert disk.files[JOURNAL] == HEADER[:left]


def test_a_journal_that_is_missing_is_refused_once_it_was_begun():
    """It would vote twice."""
    disk = MemoryDisk()

    with pytest.raises(JournalDamaged, match=f"{JOURNAL} is damaged at offset 0: it is missing"):
        opened(disk, begun=True)
    assert disk.files == {}


def test_entries_that_look_like_an_old_batch_are_not_taken_for_one():
    """A torn batch may hold a copy of an earlier one; numbers tell them apart."""
    disk, ends = three_batches()
    journal = opened(disk)
    add(journal, disk.files[JOURNAL][HEADER_SIZE : ends[0]])
    sync(journal)
    disk.files[JOURNAL] = disk.files[JOURNAL][:-1]

    assert len(opened(disk)) == 3


# --- what is refused -------------------------------------------------------------------------------------------------


def test_a_bad_batch_that_valid_ones_follow_is_refused():
    """Something that was on disk is damaged: going on without it could forget a vote. File and offset are named."""
    disk, ends = three_batches()
    whole = disk.files[JOURNAL]

    for offset in (ends[0], ends[0] + 5, ends[0] + BATCH_HEAD_SIZE, ends[1] - 1):
        disk.files[JOURNAL] = whole
        spoil(disk, offset)
        with pytest.raises(JournalDamaged) as refusal:
            opened(disk)
        assert refusal.value.field == "data_dir"
        assert str(refusal.value).startswith(f"data_dir: {JOURNAL} is damaged at offset {ends[0]}: ")


def test_a_missing_batch_is_refused():
    """A batch whose number is not the next shows that one before it is gone."""
    disk, ends = three_batches()
    whole = disk.files[JOURNAL]
    disk.files[JOURNAL] = whole[: ends[0]] + whole[ends[1] :]

    with pytest.raises(JournalDamaged, match=f"offset {ends[0]}"):
        opened(disk)


def test_what_does_not_begin_like_a_journal_is_refused():
    """It may be anything, and must not be overwritten."""
    disk = MemoryDisk()
    disk.files[JOURNAL] = b"something else altogether"

    with pytest.raises(JournalDamaged, match="does not begin like a journal"):
        opened(disk)
    assert disk.files[JOURNAL] == b"something else altogether"


def test_a_journal_of_a_newer_version_is_refused():
    """It is not damaged: the version that wrote it reads it."""
    disk = MemoryDisk()
    disk.files[JOURNAL] = b"pydrmjnl\x07\x00\x00\x00" + HEADER[12:]

    with pytest.raises(ConfigurationError, match="has format 7; this pydrm reads 1") as refusal:
        opened(disk)
    assert not isinstance(refusal.value, JournalDamaged)
    assert refusal.value.field == "data_dir"


def test_a_segment_under_another_name_is_refused():
    """A number says which batches are in it, and in which order segments are read."""
    disk = MemoryDisk()
    disk.files[DATA / "journal-00000000000000000002"] = HEADER

    with pytest.raises(JournalDamaged, match=f"it is the segment {JOURNAL.name} under another name"):
        opened(disk)


def test_records_that_cannot_follow_each_other_are_damage():
    """Each was written by a version that is not this one, or into another journal; file and offset are named."""
    bodies = {
        b"\x05\x00\x00\x00\x09hello": "a record of kind 9",
        b"\xff\x00\x00\x00\x01hello": "a record is longer than its batch",
        b"\x05\x00\x00\x00\x02hello": "requires a buffer of 8 bytes",
        b"\x01\x00": "requires a buffer of at least 5 bytes",
        encode_record(Added(b"", 3, 1)): "entry 3 follows entry 0",
        encode_record(CutFrom(2)): "entry 2 is cut off, but the last is 0",
        encode_record(CutFrom(1)): "entry 1 is cut off, but 1 are committed",
        encode_record(CommitNoted(2)): "entry 2 is committed, but the last is 0",
        encode_record(BaseSet(5, 1)) + encode_record(CutFrom(4)): "entry 4 is cut off, but 5 are committed",
        encode_record(BaseSet(0, 0)): "the log goes on after entry 0, but 1 are committed",
    }
    for body, what in bodies.items():
        disk = MemoryDisk()
        disk.files[JOURNAL] = HEADER + encode_batch(1, body)

        with pytest.raises(JournalDamaged, match=f"{JOURNAL} is damaged at offset {HEADER_SIZE}: .*{what}"):
            opened(disk)


# --- a real disk -----------------------------------------------------------------------------------------------------


def test_on_a_real_disk_it_comes_back_torn_or_not(tmp_path: Path):
    """As in memory; and what a crash has left of the next segment is gone."""
    disk = LocalDisk()
    journal = open_journal(tmp_path, disk, begun=False, base=None)
    add(journal, b"one", b"two")
    sync(journal)
    journal.close()
    with (tmp_path / JOURNAL.name).open("ab") as file:
        file.write(b"BTCH torn")
    (tmp_path / "journal-00000000000000000002.new").write_bytes(HEADER[:10])

    again = open_journal(tmp_path, disk, begun=True, base=None)
    add(again, b"three")
    sync(again)
    again.close()

    assert disk.names(tmp_path) == [JOURNAL.name]
    assert len(open_journal(tmp_path, disk, begun=True, base=None)) == 3
