"""
`Segments`: the files of a journal, as the disk's thread sees them.

What has to be written is decided elsewhere (`journal`) and comes as a `Batch`. All methods are for one thread at
a time; each is durable when it returns, but for `free`, after which a power cut may bring a segment back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from pathlib import Path

import attrs

from pydrm.engine.disk import AppendFile, Disk
from pydrm.engine.replay import SegmentRead
from pydrm.engine.segment_format import Header

__all__ = ["Batch", "Segments"]


@attrs.frozen
class Batch:
    """
    What is written at once.

    Attributes:
        begins: The header of the segment that is begun with it, if it is not for the current one.
        index_max: The highest index that the log ever had, even if it was cut off again.
    """

    data: bytes
    index_max: int
    begins: Header | None = None


@attrs.define
class _File:
    path: Path
    index_max: int


class Segments:
    """The last one is open; it can be read with those before it."""

    def __init__(self, directory: Path, disk: Disk, file: AppendFile, files: Iterable[_File]) -> None:
        self._directory = directory
        self._disk = disk
        self._file = file
        self._files = deque(files)

    @classmethod
    def begin(cls, directory: Path, disk: Disk) -> Segments:
        """The first one of a journal."""
        header = Header(first_batch=1)
        return cls(directory, disk, _create(directory, disk, header), [_File(directory / header.file_name, 0)])

    @classmethod
    def go_on(cls, directory: Path, disk: Disk, read: list[SegmentRead]) -> Segments:
        """
        After those that were *read*, the torn tail cut off, and all that is left known to be on disk.

        What was read may be in the page cache only: the process before may have been killed between write and
        sync, or its last sync may have failed; and a vote or an acknowledgement must not rest on that. It
        can be so of the last batch only, because no segment and no batch is begun before that.
        """
        last = read[-1]
        file = disk.open(last.path)
        try:
            file.cut(last.size)
            file.write_again(last.last_batch_at)
        except BaseException:
            file.close()
            raise
        return cls(directory, disk, file, [_File(segment.path, segment.index_max) for segment in read])

    def write(self, batch: Batch) -> None:
        if batch.begins is not None:
            self._file.close()
            self._file = _create(self._directory, self._disk, batch.begins)
            self._files.append(_File(self._directory / batch.begins.file_name, 0))
        self._files[-1].index_max = batch.index_max
        self._file.append(batch.data)

    def free(self, index: int) -> None:
        """
        Remove the oldest segments, but never the current one, as long as no entry in them is after *index*.

        Whatever was ever added counts, though it was cut off later: so whatever the next segment goes on from, or
        cuts off again, is not after *index* either, and in the snapshot of that entry.
        """
        while len(self._files) > 1 and self._files[0].index_max <= index:
            self._disk.remove(self._files[0].path)
            self._files.popleft()

    def close(self) -> None:
        """Idempotent."""
        self._file.close()


def _create(directory: Path, disk: Disk, header: Header) -> AppendFile:
    path = directory / header.file_name
    new = disk.create(path)
    try:
        new.write(header.encode())
        new.commit()
    finally:
        new.discard()
    return disk.open(path)
