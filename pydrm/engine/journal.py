"""
`Journal`: the log, the term and the vote, on disk before anything leaves the node that depends on them.

PySyncObj adds and cuts entries as if it were memory; here they are noted and written by `write`, which
runs on a thread of its own, in one batch with one fdatasync for all that came since the last. The files are
`segments`; what is in them, `segment_format` and `journal_records` say.
"""

from __future__ import annotations

from pathlib import Path
from typing import overload

from pydrm.engine.disk import Disk
from pydrm.engine.entries import FIRST_INDEX, Command, Entries, Entry
from pydrm.engine.journal_records import Added, BaseSet, CommitNoted, CutFrom, Record, TermSet, encode_record
from pydrm.engine.replay import Replay, SegmentRead, read_journal
from pydrm.engine.segment_format import Header, JournalDamaged, encode_batch, is_unfinished_segment
from pydrm.engine.segments import Batch, Segments

__all__ = ["FIRST_INDEX", "Batch", "Entry", "Journal", "JournalDamaged", "open_journal"]


class Journal:
    """
    What PySyncObj takes for its journal (pysyncobj/journal.py, class Journal).

    Used by the engine's thread, but for `write` and `free`. The commit index is a hint: it is learnt again from
    the leader, which is always safe (Ongaro, "Consensus: Bridging Theory and Practice", 2014, section 3.8).
    """

    def __init__(
        self,
        segments: Segments | None = None,
        replay: Replay | None = None,
        *,
        current: SegmentRead | None = None,
        segment_bytes: int = 0,
    ) -> None:
        """
        Keep in *segments* what comes on top of *replay*; without them, in memory only.

        Args:
            current: The last segment, unless it is a new one.
            segment_bytes: Once a segment is so long, the next batch begins another.
        """
        replay = replay or Replay()
        self._segments = segments
        self._segment_bytes = segment_bytes
        self._size = current.size if current else len(Header(1).encode())
        self._first_batch = current.first_batch if current else 1
        # What a segment that is begun now would go on from: all that was noted up to the last batch.
        self._batched = (*replay.last, replay.term, replay.voted_for)
        self._entries = Entries(replay.base, replay.entries)
        self._term = replay.term
        self._voted_for = replay.voted_for
        self._batches = replay.batches
        self._commit_index = self._commit_noted = replay.commit_index
        self._unsynced: list[bytes] = []
        self._index_max = replay.index_max

    @property
    def dirty(self) -> bool:
        """Whether something was noted that is not on disk and not on its way there."""
        return bool(self._unsynced)

    @property
    def base(self) -> tuple[int, int]:
        """(index, term) of the first entry; (0, 0) as long as there is none."""
        return self._entries.base

    @property
    def bytes(self) -> int:
        """How long all entries after the base are together; see `entries`."""
        return self._entries.bytes

    def bytes_after(self, index: int) -> int:
        """The same of the entries after *index*, or after the base if that is later."""
        return self._entries.bytes_after(index)

    def compact(self, index: int) -> None:
        """
        Forget everything before entry *index*, which becomes the base. It must be committed, and in a snapshot.

        In memory only: when the journal is opened again it is brought into line with the snapshot again.
        """
        assert index <= self._commit_index
        self._entries.forget_before(index)

    def reset(self, index: int, term: int) -> None:
        """
        Give up the whole log; it goes on after the entry that had *index* and *term*.

        The snapshot of that entry must be on disk: without it, what is written from now on cannot be read.
        """
        assert index >= self._commit_index
        self._entries.replace(index, term)
        self._commit_index = self._commit_noted = index
        self._index_max = max(self._index_max, index)
        self._note(BaseSet(index, term))
        self._raise_term(term)

    def align(self, index: int, term: int) -> None:
        """
        Begin with the entry of a snapshot, if the log has it; else `reset` to it.

        A snapshot may be of an entry in the middle of the log, after a crash before the log was compacted, and what
        comes after that entry was acknowledged: it stays (the defects S3 and S6 that `guards` lists).
        """
        if not self._entries.has(index, term):
            self.reset(index, term)
            return
        self.setRaftCommitIndex(index)
        self.compact(index)
        self._raise_term(term)

    def _raise_term(self, least: int) -> None:
        if self._term < least:
            self.setCurrentTerm(least, None)

    # --- the disk ----------------------------------------------------------------------------------------------------

    def take_batch(self) -> Batch:
        """Everything noted since the last call, for `write`. On the engine's thread."""
        # What is committed stays so; so it may be late, but never wrong. It costs no sync of its own.
        if self._commit_index != self._commit_noted:
            self._note(CommitNoted(self._commit_index))
            self._commit_noted = self._commit_index
        body = b"".join(self._unsynced)
        self._unsynced.clear()
        self._batches += 1
        begins = None
        if self._size >= self._segment_bytes and self._batches > self._first_batch:
            begins = Header(self._batches, *self._batched)
            self._size, self._first_batch = len(begins.encode()), self._batches
        batch = Batch(encode_batch(self._batches, body), self._index_max, begins)
        self._size += len(batch.data)
        self._batched = (*self._entries.last, self._term, self._voted_for)
        return batch

    def write(self, batch: Batch) -> None:
        """Put *batch* on disk. From any thread, one at a time, in the order of `take_batch`. Raises OSError."""
        assert self._segments is not None
        self._segments.write(batch)

    def free(self, index: int) -> None:
        """
        Remove from the disk what is in the snapshot of entry *index*, as far as whole segments are. Raises OSError.

        On the thread that writes. The snapshot must be on disk, and none before it may be needed any more.
        """
        if self._segments is not None:
            self._segments.free(index)

    def close(self) -> None:
        if self._segments is not None:
            self._segments.close()

    def _note(self, record: Record) -> None:
        if self._segments is not None:
            self._unsynced.append(encode_record(record))

    # --- what PySyncObj calls, under its names -----------------------------------------------------------------------

    def add(self, command: Command, idx: int, term: int) -> None:
        self._entries.append(command, idx, term)
        self._index_max = max(self._index_max, idx)
        self._note(Added(command, idx, term))

    def deleteEntriesFrom(self, entryFrom: int) -> None:
        """Cut off the entry at that place in the list, and all after it."""
        self._note(CutFrom(self._entries.cut(entryFrom)))

    def setCurrentTerm(self, term: int, votedForNodeId: str | None) -> None:
        if (term, votedForNodeId) == (self._term, self._voted_for):
            return
        self._term, self._voted_for = term, votedForNodeId
        self._note(TermSet(term, votedForNodeId))

    def getCurrentTerm(self) -> int:
        return self._term

    def getVotedForNodeId(self) -> str | None:
        return self._voted_for

    def setRaftCommitIndex(self, raftCommitIndex: int) -> None:
        self._commit_index = max(raftCommitIndex, self._commit_index)

    def getRaftCommitIndex(self) -> int:
        return self._commit_index

    def onOneSecondTimer(self) -> None:
        pass

    def _destroy(self) -> None:
        pass

    def __len__(self) -> int:
        return len(self._entries.kept)

    @overload
    def __getitem__(self, item: int) -> Entry: ...
    @overload
    def __getitem__(self, item: slice) -> list[Entry]: ...
    def __getitem__(self, item: int | slice) -> Entry | list[Entry]:
        return self._entries.kept[item]


def open_journal(directory: Path, disk: Disk, *, begun: bool, base: tuple[int, int] | None) -> Journal:
    """
    The journal in *directory*, its torn tail cut off, and all that is left known to be on disk.

    Args:
        begun: Whether it must be there already.
        base: (index, term) of the newest good snapshot: the log begins with that entry, and keeps what it has
            after it. One that does not have it is given up, which is noted for the first batch.

    Raises:
        JournalDamaged: Anything but the last batch is broken or missing, or it contradicts the snapshot.
        ConfigurationError: A newer version of pydrm wrote it.
        OSError: It cannot be read or written.
    """
    for name in disk.names(directory):
        if is_unfinished_segment(name):
            disk.remove(directory / name)
    replay, read = read_journal(directory, disk)
    if read:
        try:
            replay.check_snapshot(base)
        except ValueError as error:
            raise JournalDamaged(read[0].path, 0, str(error)) from error
        segments = Segments.go_on(directory, disk, read)
    elif begun:
        raise JournalDamaged(directory / Header(1).file_name, 0, "it is missing, and with it all that this node voted")
    else:
        segments = Segments.begin(directory, disk)
    current = read[-1] if read else None
    journal = Journal(segments, replay, current=current, segment_bytes=disk.segment_bytes)
    if base is not None:
        journal.align(*base)
    return journal
