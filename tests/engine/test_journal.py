"""
`Journal`: what was synced comes back, what was being written may, and nothing else does.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pydrm.engine.journal import Entry, Journal, JournalDamaged, JournalFile
from pydrm.errors import ConfigurationError
from tests.engine.memory_disk import MemoryDisk

JOURNAL = Path("/data/journal")
HEADER_SIZE = 12
BATCH_HEAD_SIZE = 20

Contents = tuple[list[Entry], int, str | None]


def opened(disk: MemoryDisk, *, begun: bool = False) -> Journal:
    file = JournalFile(JOURNAL, disk, begun=begun)
    return Journal(file.file, file.recovered)


def sync(journal: Journal) -> None:
    journal.write(journal.take_batch())


def add(journal: Journal, *commands: bytes, term: int = 1) -> None:
    for command in commands:
        journal.add(command, len(journal) + 1, term)


def contents(journal: Journal) -> Contents:
    return journal[:], journal.getCurrentTerm(), journal.getVotedForNodeId()


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


def test_a_torn_header_of_a_first_start_is_written_again():
    """Before the cluster is formed there is nothing that could have been lost."""
    whole = b"pydrmjnl\x01\x00\x00\x00"

    for torn in range(HEADER_SIZE):
        disk = MemoryDisk()
        disk.files[JOURNAL] = whole[:torn]
        opened(disk)
        assert disk.files[JOURNAL] == whole


def test_a_journal_without_a_header_is_refused_once_it_was_begun():
    """Were it taken for a new one, the node would vote twice in a term."""
    disk = MemoryDisk()
    disk.files[JOURNAL] = b"pydrm"

    with pytest.raises(JournalDamaged, match="its beginning is missing"):
        opened(disk, begun=True)


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
    disk.files[JOURNAL] = b"pydrmjnl\x07\x00\x00\x00"

    with pytest.raises(ConfigurationError, match="has format 7; this pydrm reads 1") as refusal:
        opened(disk)
    assert not isinstance(refusal.value, JournalDamaged)
    assert refusal.value.field == "data_dir"


# --- any life --------------------------------------------------------------------------------------------------------

ADD, CUT, TERM, COMMIT, SYNC, REOPEN = "add", "cut", "term", "commit", "sync", "reopen"

steps = st.lists(
    st.one_of(
        st.tuples(st.just(ADD), st.binary(max_size=40)),
        st.tuples(st.just(CUT), st.integers(1, 4)),
        st.tuples(st.just(TERM), st.sampled_from(["", "a", "b"])),
        st.tuples(st.just(COMMIT), st.integers(0, 8)),
        st.tuples(st.just(SYNC), st.none()),
        st.tuples(st.just(REOPEN), st.none()),
    ),
    max_size=40,
)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(steps=steps, share=st.floats(0, 1))
def test_after_any_life_a_truncated_file_holds_what_was_synced_up_to_there(steps: list, share: float):
    """Whatever part of the file a crash leaves: the whole batches in it, all of each, and nothing of a torn one."""
    disk = MemoryDisk()
    journal = opened(disk)
    synced = {size(disk): (contents(journal), 1)}
    committed = 1
    for step, value in steps:
        if step is ADD:
            add(journal, value, term=journal.getCurrentTerm())
        elif step is CUT and len(journal) - value > committed:
            journal.deleteEntriesFrom(len(journal) - value)
        elif step is TERM:
            journal.setCurrentTerm(journal.getCurrentTerm() + 1, value or None)
        elif step is COMMIT and len(journal):
            committed = max(committed, min(value, len(journal)))
            journal.setRaftCommitIndex(committed)
        elif step is SYNC and journal.dirty:
            sync(journal)
            synced[size(disk)] = (contents(journal), committed)
        elif step is REOPEN:
            journal = opened(disk)
            committed = journal.getRaftCommitIndex()
    left = HEADER_SIZE + round(share * (size(disk) - HEADER_SIZE))
    disk.files[JOURNAL] = disk.files[JOURNAL][:left]

    again = opened(disk, begun=True)

    expected, commit_index = synced[max(end for end in synced if end <= left)]
    assert contents(again) == expected
    assert again.getRaftCommitIndex() == commit_index
