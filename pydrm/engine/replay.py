"""
`Replay`: what a journal's records lead to; and `read_journal`, which reads a directory's segments into one.

It only reads: what is torn, or has to be brought into line with a snapshot, is for `journal` to mend.
"""

from __future__ import annotations

from pathlib import Path

import attrs

from pydrm.engine.disk import Disk
from pydrm.engine.entries import FIRST_INDEX, Entry
from pydrm.engine.journal_records import Added, BaseSet, CommitNoted, CutFrom, TermSet, decode_records
from pydrm.engine.segment_format import Header, JournalDamaged, decode_header, find_batches, is_segment

__all__ = ["Replay", "SegmentRead", "read_journal"]


@attrs.define
class Replay:
    """
    Attributes:
        base: (index, term) of the last entry before `entries`; (0, 0) if there was none. A term of 0 is not known.
        snapshot: The index of the entry that there must be a snapshot of, or of a later one; 0 if there need be none.
        batches: The number of the last batch.
        index_max: The highest index that the log ever had.
    """

    entries: list[Entry] = attrs.field(factory=list)
    base: tuple[int, int] = (0, 0)
    snapshot: int = 0
    term: int = 0
    voted_for: str | None = None
    batches: int = 0
    commit_index: int = FIRST_INDEX
    index_max: int = 0
    _begun: bool = False

    @property
    def last(self) -> tuple[int, int]:
        """(index, term) of the last entry."""
        return self.entries[-1][1:] if self.entries else self.base

    def begin(self, header: Header) -> None:
        """Go on with another segment. Raises ValueError if it does not go on where the one before ends."""
        if self._begun:
            self._check(header)
        else:
            self._begun = True
            self.batches = header.first_batch - 1
            self.base = (header.index, header.index_term)
            self.snapshot = self.index_max = header.index
            self.term, self.voted_for = header.term, header.voted_for

    def _check(self, header: Header) -> None:
        expected = self.batches + 1
        if header.first_batch != expected:
            raise ValueError(f"a segment is missing before it, with batches {expected} to {header.first_batch - 1}")
        index, index_term = self.last
        agree = header.index == index and (header.index_term == index_term or 0 in (header.index_term, index_term))
        if not agree or (header.term, header.voted_for) != (self.term, self.voted_for):
            raise ValueError("it does not go on from what the segment before leads to")

    def apply(self, body: memoryview) -> None:
        """The next batch. Raises ValueError if it cannot be one."""
        for record in decode_records(body):
            match record:
                case Added(command, index, term):
                    self._add((command, index, term))
                case CutFrom(index):
                    self._cut(index)
                case TermSet(term, voted_for):
                    self.term, self.voted_for = term, voted_for
                case CommitNoted(index):
                    self._commit(index)
                case BaseSet(index, term):
                    self._replace(index, term)
        self.batches += 1

    def _add(self, entry: Entry) -> None:
        index, before = entry[1], self.last[0]
        if index != before + 1:
            raise ValueError(f"entry {index} follows entry {before}")
        self.entries.append(entry)
        self.index_max = max(self.index_max, index)

    def _commit(self, index: int) -> None:
        if index > self.last[0]:
            raise ValueError(f"entry {index} is committed, but the last is {self.last[0]}")
        self.commit_index = index

    def _cut(self, index: int) -> None:
        if index <= self.commit_index:
            raise ValueError(f"entry {index} is cut off, but {self.commit_index} are committed")
        if index > self.last[0]:
            raise ValueError(f"entry {index} is cut off, but the last is {self.last[0]}")
        kept = index - 1 - self.base[0]
        if kept >= 0:
            del self.entries[kept:]
        else:
            # Entries that were in a segment which is gone took the place of others that were there too.
            self.entries.clear()
            self.base = (index - 1, 0)

    def _replace(self, index: int, term: int) -> None:
        if index < self.commit_index:
            raise ValueError(f"the log goes on after entry {index}, but {self.commit_index} are committed")
        self.entries.clear()
        self.base = (index, term)
        self.snapshot = max(self.snapshot, index)
        self.commit_index = index
        self.index_max = max(self.index_max, index)

    def check_snapshot(self, newest: tuple[int, int] | None) -> None:
        """Raises ValueError if this does not go together with the snapshot of the entry with that (index, term)."""
        index, term = newest or (0, 0)
        if self.snapshot > index:
            there_is = f"the newest good one is of entry {index}" if newest else "there is none"
            raise ValueError(f"the snapshot that it goes on from, of entry {self.snapshot}, is missing; {there_is}")
        # An empty log has no first entry yet, though that is known to be committed.
        first = self.base[0]
        if first < index <= min(self.commit_index, self.last[0]):
            here = self.entries[index - first - 1][2]
            if here != term:
                raise ValueError(f"entry {index} is committed with term {here}, but its snapshot has term {term}")


@attrs.frozen
class SegmentRead:
    """
    Attributes:
        size: Where its last batch ends.
        torn: How many bytes of a batch that was being written follow.
        last_batch_at: Where its last batch begins; `size` if it has none.
        index_max: The highest index that the log ever had, up to its end.
    """

    path: Path
    first_batch: int
    size: int
    torn: int
    last_batch_at: int
    index_max: int


def read_journal(directory: Path, disk: Disk) -> tuple[Replay, list[SegmentRead]]:
    """
    What the journal in *directory* holds, and the segments that it is made of, oldest first.

    One segment is in memory at a time, beside the entries.

    Raises:
        JournalDamaged: Anything but the last batch is broken, or a segment is missing between two.
        ConfigurationError: A newer version of pydrm wrote it.
        FileNotFoundError: A segment was removed meanwhile, by the process that uses the directory.
        OSError: It cannot be read.
    """
    replay = Replay()
    paths = [directory / name for name in disk.names(directory) if is_segment(name)]
    return replay, [_read_segment(replay, path, disk, last=path == paths[-1]) for path in paths]


def _read_segment(replay: Replay, path: Path, disk: Disk, *, last: bool) -> SegmentRead:
    data = disk.read(path)
    if data is None:
        raise FileNotFoundError(str(path))
    header, end = decode_header(path, data)
    at, last_batch_at = 0, end
    try:
        replay.begin(header)
        for found in find_batches(path, data, end, header.first_batch, last=last):
            at = last_batch_at = found.start
            replay.apply(found.body)
            end = found.end
    except ValueError as error:
        raise JournalDamaged(path, at, str(error)) from error
    return SegmentRead(path, header.first_batch, end, len(data) - end, last_batch_at, replay.index_max)
