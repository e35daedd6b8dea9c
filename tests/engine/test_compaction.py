"""
`Journal` in many segments and beside snapshots: it is cut short at its beginning, and forgets nothing by it.
"""

from __future__ import annotations

import pytest

from pydrm.engine.entries import ENTRY_BYTES
from pydrm.engine.journal import Journal, JournalDamaged
from pydrm.engine.segment_format import decode_header
from tests.engine.journals import (
    DATA,
    NO_OP,
    add,
    add_synced,
    commit,
    contents,
    opened,
    segment,
    segments,
    small_disk,
    sync,
)
from tests.engine.memory_disk import MemoryDisk


def five_segments() -> MemoryDisk:
    """Entries 1 to 5 in term 1, each in a segment of its own; then a vote in term 2, in the sixth."""
    disk = small_disk()
    journal = opened(disk)
    add_synced(journal, b"one", b"two", b"three", b"four", b"five")
    journal.setCurrentTerm(2, "b")
    sync(journal)
    return disk


# --- segments --------------------------------------------------------------------------------------------------------


def test_a_segment_is_begun_when_the_one_before_is_long_enough():
    """Not before: there are as many batches in one as it takes. All of them are read, in order."""
    disk = MemoryDisk(segment_bytes=300)
    journal = opened(disk)

    add_synced(journal, *(b"%03d" % number for number in range(1, 21)))

    sizes = [len(disk.files[segment(number)]) for number in segments(disk)]
    assert segments(disk) == [1, 7, 13, 19]
    assert all(300 <= size < 400 for size in sizes[:-1])
    assert opened(disk, begun=True)[:] == [(b"%03d" % number, number, 1) for number in range(1, 21)]


def test_a_batch_is_never_parted():
    """One that is longer than a segment may be makes a long segment."""
    disk = MemoryDisk(segment_bytes=300)
    journal = opened(disk)

    add_synced(journal, b"x" * 1000, b"y")

    assert segments(disk) == [1, 2]


def test_a_header_says_what_the_segments_before_led_to():
    """The last entry, the term and the vote, as of the batch before: what is noted since then is in the batch."""
    disk = small_disk()
    journal = opened(disk)
    add(journal, b"one", b"two", term=3)
    journal.setCurrentTerm(4, "näme")
    sync(journal)
    journal.deleteEntriesFrom(1)
    add(journal, b"other", b"and more", term=5)
    journal.setCurrentTerm(5, None)
    sync(journal)

    header, _ = decode_header(segment(2), disk.files[segment(2)])

    assert header == decode_header(segment(2), header.encode())[0]
    assert (header.first_batch, header.index, header.index_term) == (2, 2, 3)
    assert (header.term, header.voted_for) == (4, "näme")
    assert contents(opened(disk)) == ([(b"one", 1, 3), (b"other", 2, 5), (b"and more", 3, 5)], 5, None)


def test_numbering_and_segments_go_on_after_reopening():
    """A last segment that is long enough already gets no more batches; a crash may have left it without any."""
    disk = small_disk()
    journal = opened(disk)
    for command in (b"one", b"two", b"three"):
        add_synced(journal, command)
        journal = opened(disk, begun=True)

    assert segments(disk) == [1, 2, 3]
    assert [command for command, _, _ in opened(disk)[:]] == [b"one", b"two", b"three"]


def test_a_crash_while_a_segment_is_begun_leaves_what_was_synced():
    """Wherever it happens: in the header, before it takes its place, after that, in the first batch."""
    disk = small_disk()
    journal = opened(disk)
    add_synced(journal, b"one")
    add(journal, b"two")
    batch = journal.take_batch()
    assert batch.begins is not None
    most = len(batch.begins.encode()) + 1 + len(batch.data)
    before, left = dict(disk.files), set()

    for room in range(most + 1):
        disk.files, disk.fails_after = dict(before), room
        crashed = opened(disk)
        add(crashed, b"two")
        if room < most:
            with pytest.raises(OSError, match="No space left"):
                sync(crashed)
        else:
            sync(crashed)
        disk.fails_after = None
        left.add(tuple(disk.names(DATA)))
        again = opened(disk, begun=True)
        assert [command for command, _, _ in again[:]] == [b"one", b"two"][: 1 + (room == most)]
        add_synced(again, b"and more")
        assert opened(disk, begun=True)[:] == again[:]
        assert set(disk.files) == {segment(number) for number in segments(disk)}

    assert left == {
        ("journal-00000000000000000001", "journal-00000000000000000002.new"),
        ("journal-00000000000000000001", "journal-00000000000000000002"),
    }


def test_a_missing_segment_is_refused():
    """Whichever it is: the first, or one between two. The last alone nobody can miss."""
    for number in range(1, 6):
        disk = five_segments()
        del disk.files[segment(number)]

        with pytest.raises(JournalDamaged) as refusal:
            opened(disk, begun=True)
        found = f"data_dir: {segment(number + 1)} is damaged at offset 0: "
        assert str(refusal.value).startswith(found)
        assert ("a segment is missing before it" if number > 1 else "the snapshot that it goes on from") in str(
            refusal.value
        )


def test_a_torn_tail_is_forgiven_in_the_last_segment_only():
    """A segment is begun when the one before it is on disk as a whole."""
    disk = five_segments()
    disk.files[segment(6)] += b"torn"
    assert len(opened(disk)) == 5

    disk.files[segment(3)] += b"torn"
    with pytest.raises(JournalDamaged, match=r"000003 is damaged at offset \d+: .* another segment follows"):
        opened(disk)


def test_segments_of_two_journals_do_not_go_together():
    """Their numbers may fit; what their headers say does not."""
    one, other = five_segments(), small_disk()
    add_synced(opened(other), b"one", b"two", term=7)
    one.files[segment(2)] = other.files[segment(2)]

    with pytest.raises(JournalDamaged, match="000002 is damaged at offset 0: it does not go on from what the segment"):
        opened(one)


# --- the beginning is forgotten in memory ----------------------------------------------------------------------------


def test_a_log_begins_with_its_base():
    """The first entry is one that is not sent any more; what it did is in the snapshot."""
    journal = Journal()
    nothing = journal.base
    add(journal, b"one", b"two", b"three", b"four", term=3)
    first = journal.base
    commit(journal, 3)

    journal.compact(3)
    journal.compact(3)

    assert (nothing, first, journal.base) == ((0, 0), (1, 3), (3, 3))
    assert journal[:] == [(NO_OP, 3, 3), (b"four", 4, 3)]
    add(journal, b"five", term=4)
    assert journal[-1] == (b"five", 5, 4)


def test_nothing_is_compacted_that_is_not_committed():
    """A snapshot has what was applied, and nothing else is applied."""
    journal = Journal()
    add(journal, b"one", b"two", b"three")
    commit(journal, 2)

    with pytest.raises(AssertionError):
        journal.compact(3)
    assert len(journal) == 3


def test_the_base_is_never_cut_off():
    """It is committed."""
    journal = Journal()
    add(journal, b"one", b"two")

    with pytest.raises(AssertionError):
        journal.deleteEntriesFrom(0)


def test_bytes_are_those_of_the_entries_after_the_base():
    """What a snapshot would spare; the base's own command is not kept. Each entry counts besides its command."""
    journal = Journal()
    sizes = [journal.bytes]
    add(journal, b"1", b"22", b"333", b"4444")
    sizes.append(journal.bytes)
    commit(journal, 2)
    journal.compact(2)
    sizes.append(journal.bytes)
    journal.deleteEntriesFrom(2)
    sizes.append(journal.bytes)
    add(journal, b"55555")
    sizes.append(journal.bytes)
    after = [journal.bytes_after(index) for index in range(6)]
    journal.reset(9, 2)

    each = ENTRY_BYTES
    assert sizes == [0, 3 * each + 9, 2 * each + 7, each + 3, 2 * each + 8]
    assert after == [2 * each + 8, 2 * each + 8, 2 * each + 8, each + 5, 0, 0]
    assert (journal.bytes, journal.bytes_after(9)) == (0, 0)


# --- and on disk -----------------------------------------------------------------------------------------------------


def test_segments_are_removed_oldest_first_as_far_as_a_snapshot_has_all_that_is_in_them():
    """What is left is read alone, beside the snapshot."""
    disk = five_segments()
    journal = opened(disk)
    left = []

    for index in (0, 1, 3, 5, 99):
        journal.free(index)
        left.append(segments(disk))

    assert left == [[1, 2, 3, 4, 5, 6], [2, 3, 4, 5, 6], [4, 5, 6], [6], [6]]
    assert contents(opened(disk, (5, 1), begun=True)) == ([(NO_OP, 5, 1)], 2, "b")


def test_a_segment_stays_as_long_as_an_entry_in_it_may_be_needed():
    """Though only its first ones are in the snapshot."""
    disk = MemoryDisk(segment_bytes=200)
    journal = opened(disk)
    add_synced(journal, *(b"%02d" % number for number in range(1, 10)))
    assert segments(disk) == [1, 5, 9]

    journal.free(3)
    kept = segments(disk)
    journal.free(4)

    assert (kept, segments(disk)) == ([1, 5, 9], [5, 9])
    assert [index for _, index, _ in opened(disk, (4, 1), begun=True)[:]] == [4, 5, 6, 7, 8, 9]


def test_entries_that_were_cut_off_keep_their_segment_too():
    """The next one cuts them off once more when it is read; so they must be there, or older than the snapshot."""
    disk = small_disk()
    journal = opened(disk)
    add(journal, b"one", b"two", b"three", b"four")
    sync(journal)
    journal.deleteEntriesFrom(1)
    add_synced(journal, b"other two", b"other three", term=2)
    commit(journal, 3)

    journal.free(3)
    kept = segments(disk)
    add_synced(journal, b"other four", b"other five", term=2)
    journal.free(4)

    assert (kept, segments(disk)) == ([1, 2, 3], [5])
    assert opened(disk, (4, 2), begun=True)[:] == [(NO_OP, 4, 2), (b"other five", 5, 2)]


def test_a_cut_that_reaches_into_a_segment_that_is_gone_is_read_without_it():
    """The entry before the cut is not known any more; but it is older than the snapshot, so nobody asks for it."""
    disk = small_disk()
    journal = opened(disk)
    add(journal, *(b"%d" % index for index in range(1, 11)))
    sync(journal)
    journal.deleteEntriesFrom(4)
    sync(journal)
    add(journal, *(b"other %d" % index for index in range(5, 13)), term=2)
    sync(journal)

    del disk.files[segment(1)]
    again = opened(disk, (10, 2), begun=True)

    assert decode_header(segment(2), disk.files[segment(2)])[0].index == 10
    assert decode_header(segment(3), disk.files[segment(3)])[0].index == 4
    assert again[:] == [(NO_OP, 10, 2), (b"other 11", 11, 2), (b"other 12", 12, 2)]


def test_a_segment_that_a_power_cut_brings_back_is_read_again():
    """Removing is not waited for. What was written without it may know less of the log than it does."""
    disk = small_disk()
    journal = opened(disk)
    add(journal, *(b"%d" % index for index in range(1, 11)))
    sync(journal)
    journal.deleteEntriesFrom(4)
    sync(journal)
    gone = disk.files.pop(segment(1))
    add_synced(opened(disk, (10, 2), begun=True), b"11", term=2)
    add_synced(opened(disk, (10, 2), begun=True), b"12", term=2)

    disk.files[segment(1)] = gone

    assert decode_header(segment(3), disk.files[segment(3)])[0].index_term == 0
    assert opened(disk, (10, 2), begun=True)[:] == [(NO_OP, 10, 2), (b"11", 11, 2), (b"12", 12, 2)]


def test_what_may_be_removed_is_known_again_after_reopening():
    """From what is in the segments that are left; the first of them goes on from an entry that is not in it."""
    disk = five_segments()
    journal = opened(disk)
    for term in (3, 4):
        journal.setCurrentTerm(term, None)
        sync(journal)
    journal.free(5)
    assert segments(disk) == [8]
    add_synced(journal, b"six", b"seven", term=4)
    left = []

    for snapshot, index in (((5, 1), 4), ((5, 1), 5), ((6, 4), 6), ((7, 4), 7)):
        opened(disk, snapshot, begun=True).free(index)
        left.append(segments(disk))

    assert left == [[8, 9, 10], [9, 10], [10], [10]]


def test_what_a_segment_held_before_reopening_counts_though_no_entry_is_added_to_it():
    """Its last batch is a vote, and its entries are needed."""
    disk = MemoryDisk(segment_bytes=200)
    add_synced(opened(disk), b"one", b"two", b"three")
    journal = opened(disk, begun=True)
    for term in (2, 3):
        journal.setCurrentTerm(term, "b")
        sync(journal)
    assert segments(disk) == [1, 5]

    journal.free(2)

    assert segments(disk) == [1, 5]
    assert opened(disk, (2, 1), begun=True)[:] == [(NO_OP, 2, 1), (b"three", 3, 1)]


def test_a_term_and_a_vote_survive_the_segment_that_they_were_noted_in():
    """Each header has them."""
    disk = small_disk()
    journal = opened(disk)
    journal.setCurrentTerm(7, "c")
    add_synced(journal, b"one", b"two", b"three", term=7)

    journal.free(2)

    assert segments(disk) == [3]
    assert contents(opened(disk, (2, 7), begun=True)) == ([(NO_OP, 2, 7), (b"three", 3, 7)], 7, "c")


# --- the whole log is replaced ---------------------------------------------------------------------------------------


def test_a_log_that_is_replaced_goes_on_after_the_snapshot():
    """It has been sent one that is newer than all it had."""
    disk = small_disk()
    journal = opened(disk)
    add_synced(journal, b"one", b"two")

    journal.reset(50, 4)
    add(journal, b"fifty-one", term=4)
    sync(journal)
    again = opened(disk, (50, 4), begun=True)

    assert contents(journal) == ([(NO_OP, 50, 4), (b"fifty-one", 51, 4)], 4, None)
    assert contents(again) == contents(journal)
    assert (again.getRaftCommitIndex(), again.base, again.dirty) == (50, (50, 4), False)


def test_a_log_that_was_replaced_needs_its_snapshot():
    """Without it a part of the state is missing."""
    disk = MemoryDisk()
    journal = opened(disk)
    journal.reset(50, 4)
    sync(journal)

    with pytest.raises(JournalDamaged, match="of entry 50, is missing; the newest good one is of entry 9"):
        opened(disk, (9, 1), begun=True)
    with pytest.raises(JournalDamaged, match="goes on from, of entry 50, is missing; there is none"):
        opened(disk, begun=True)


def test_segments_before_a_replacement_are_removed_with_the_rest():
    """But not the one that it was noted in, as long as it is the current one."""
    disk = small_disk()
    journal = opened(disk)
    add_synced(journal, b"one", b"two")
    journal.reset(50, 4)
    sync(journal)

    journal.free(50)
    left = [segments(disk)]
    add_synced(journal, b"fifty-one", term=4)
    for index in (49, 50):
        journal.free(index)
        left.append(segments(disk))

    assert left == [[3], [3, 4], [4]]
    assert opened(disk, (50, 4), begun=True)[:] == [(NO_OP, 50, 4), (b"fifty-one", 51, 4)]


def test_a_log_is_not_replaced_by_one_that_is_older_than_what_is_committed():
    """What was acknowledged would be gone (defect S6)."""
    journal = Journal()
    add(journal, b"one", b"two", b"three")
    commit(journal, 3)

    with pytest.raises(AssertionError):
        journal.reset(2, 1)


# --- it is brought into line with the newest snapshot when it is opened ----------------------------------------------


def test_what_comes_after_the_snapshot_stays():
    """The process died after the snapshot was made and before the log was compacted (defect S3)."""
    disk = five_segments()

    journal = opened(disk, (3, 1), begun=True)

    assert contents(journal) == ([(NO_OP, 3, 1), (b"four", 4, 1), (b"five", 5, 1)], 2, "b")
    assert journal.bytes == 2 * ENTRY_BYTES + len(b"fourfive")
    assert (journal.getRaftCommitIndex(), journal.dirty) == (3, False)


def test_a_snapshot_of_the_last_entry_leaves_only_the_base():
    """There is nothing after it."""
    journal = opened(five_segments(), (5, 1), begun=True)

    assert journal[:] == [(NO_OP, 5, 1)]


@pytest.mark.parametrize("base", [(3, 2), (5, 2), (6, 1), (900, 8)])
def test_a_log_that_does_not_have_the_snapshots_entry_is_given_up(base: tuple[int, int]):
    """It ends before it, or has another one there; so it was sent the snapshot, and died before it noted that."""
    disk = five_segments()

    journal = opened(disk, base, begun=True)
    noted = journal.dirty
    add(journal, b"next", term=9)
    sync(journal)
    again = opened(disk, base, begun=True)

    assert noted
    assert journal[:] == again[:] == [(NO_OP, *base), (b"next", base[0] + 1, 9)]
    assert again.getRaftCommitIndex() == base[0]


def test_a_term_is_never_older_than_the_snapshots():
    """The vote was given in an older one."""
    journal = opened(five_segments(), (900, 8), begun=True)

    assert (journal.getCurrentTerm(), journal.getVotedForNodeId()) == (8, None)
    assert contents(opened(five_segments(), (900, 2), begun=True)) == ([(NO_OP, 900, 2)], 2, "b")


def test_a_snapshot_without_a_journal_is_a_beginning():
    """Of a directory that was made from it, and has voted in nothing yet."""
    disk = MemoryDisk()
    journal = opened(disk, (7, 2))
    sync(journal)

    assert contents(opened(disk, (7, 2))) == ([(NO_OP, 7, 2)], 2, None)


def test_a_snapshot_of_the_first_entry_goes_with_a_log_that_is_still_empty():
    """The first entry is known to be committed before anybody has it."""
    disk = MemoryDisk()
    opened(disk)

    assert opened(disk, (1, 5), begun=True)[:] == [(NO_OP, 1, 5)]


def test_an_older_snapshot_than_the_log_goes_on_from_is_refused():
    """Something in between would be missing."""
    disk = five_segments()
    opened(disk).free(3)

    with pytest.raises(JournalDamaged, match="of entry 3, is missing; the newest good one is of entry 2"):
        opened(disk, (2, 1), begun=True)
    assert contents(opened(disk, (3, 1), begun=True))[0][0] == (NO_OP, 3, 1)


def test_a_segment_that_goes_on_from_a_later_entry_is_refused_though_it_cuts_that_off():
    """What it was cut off from is in a segment that should be there."""
    disk = small_disk()
    journal = opened(disk)
    add_synced(journal, b"one", b"two", b"three")
    journal.deleteEntriesFrom(2)
    add_synced(journal, b"other three", term=2)
    for number in (1, 2, 3):
        del disk.files[segment(number)]

    with pytest.raises(JournalDamaged, match="of entry 3, is missing; the newest good one is of entry 2"):
        opened(disk, (2, 1), begun=True)


def test_a_snapshot_that_contradicts_what_is_committed_is_refused():
    """One of the two is not of this cluster, or something is badly wrong."""
    disk = MemoryDisk()
    journal = opened(disk)
    add(journal, b"one", b"two", b"three")
    commit(journal, 3)
    sync(journal)

    with pytest.raises(JournalDamaged, match="entry 2 is committed with term 1, but its snapshot has term 2"):
        opened(disk, (2, 2), begun=True)
