"""
`Journal`: the log, the term and the vote, on disk before anything leaves the node that depends on them.

PySyncObj adds and cuts entries as if it were memory; here they are noted and written by `sync`, which
runs on a thread of its own, in one batch with one fdatasync for all that came since the last.

    file    header, then batches
    header  "pydrmjnl", version (u32)
    batch   "BTCH", length of the body (u32), number of the batch (u64), CRC-32 of number and body (u32), body
    body    records: length (u32), kind (u8), then
            1 ENTRY  index (u64), term (u64), command
            2 CUT    index (u64): this entry and all after it are gone
            3 TERM   term (u64), voted (u8), name voted for
            4 COMMIT index (u64): known to be committed when the batch was begun; a hint, never waited for

A batch is begun only when the one before is on disk. So a bad batch that nothing valid follows was being
written when the power went: it is cut off, for nobody was told of it. One that valid batches follow is
damage, and is refused. All numbers are little-endian.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import overload

import attrs

from pydrm.engine.disk import AppendFile, Disk
from pydrm.errors import ConfigurationError

__all__ = ["FIRST_INDEX", "Entry", "Journal", "JournalDamaged", "JournalFile"]

Entry = tuple[bytes, int, int]  # (command, index, term), as PySyncObj has it

FIRST_INDEX = 1

_MAGIC = b"pydrmjnl"
_VERSION = 1
_HEADER = struct.Struct("<8sI")
_BATCH_MAGIC = b"BTCH"
_BATCH = struct.Struct("<4sIQI")
_RECORD = struct.Struct("<IB")
_ENTRY = struct.Struct("<QQ")
_CUT = struct.Struct("<Q")
_TERM = struct.Struct("<QB")
_COMMIT = struct.Struct("<Q")
_KIND_ENTRY, _KIND_CUT, _KIND_TERM, _KIND_COMMIT = 1, 2, 3, 4


class JournalDamaged(ConfigurationError):
    """The journal cannot be read; the message names file and offset."""

    def __init__(self, path: Path, offset: int, what: str) -> None:
        super().__init__(
            f"{path} is damaged at offset {offset}: {what}. Do not delete it: restore the data directory of this "
            "node from a copy of its own, or replace the node as a voter",
            field="data_dir",
        )


class Journal:
    """
    What PySyncObj takes for its journal (pysyncobj/journal.py, class Journal).

    Used by the engine's thread, but for `sync`. The commit index is not kept: it is learnt again from the
    leader, which is always safe (Ongaro, "Consensus: Bridging Theory and Practice", 2014, section 3.8).
    """

    def __init__(self, file: AppendFile | None = None, recovered: Recovered | None = None) -> None:
        """Keep to *file* what comes on top of *recovered*; without a file, in memory only."""
        recovered = recovered or Recovered()
        self._file = file
        self._entries: list[Entry] = recovered.entries
        self._term = recovered.term
        self._voted_for = recovered.voted_for
        self._batches = recovered.batches
        self._commit_index = self._commit_noted = recovered.commit_index
        self._unsynced: list[bytes] = []

    @property
    def dirty(self) -> bool:
        """Whether something was noted that is not on disk and not on its way there."""
        return bool(self._unsynced)

    @property
    def base(self) -> tuple[int, int]:
        return (self._entries[0][1], self._entries[0][2]) if self._entries else (1, 0)

    def take_batch(self) -> bytes:
        """Everything noted since the last call, as a batch for `write`. On the engine's thread."""
        # What is committed stays so; so it may be late, but never wrong. It costs no sync of its own.
        if self._commit_index != self._commit_noted:
            self._note(_KIND_COMMIT, _COMMIT.pack(self._commit_index))
            self._commit_noted = self._commit_index
        body = b"".join(self._unsynced)
        self._unsynced.clear()
        self._batches += 1
        crc = zlib.crc32(body, zlib.crc32(self._batches.to_bytes(8, "little")))
        return _BATCH.pack(_BATCH_MAGIC, len(body), self._batches, crc) + body

    def write(self, batch: bytes) -> None:
        """Put *batch* on disk. From any thread, one at a time, in the order of `take_batch`. Raises OSError."""
        assert self._file is not None
        self._file.append(batch)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _note(self, kind: int, body: bytes) -> None:
        if self._file is not None:
            self._unsynced.append(_RECORD.pack(len(body), kind) + body)

    # What PySyncObj calls, under its names.

    def add(self, command: bytes, idx: int, term: int) -> None:
        assert idx == (self._entries[-1][1] + 1 if self._entries else FIRST_INDEX)
        self._entries.append((command, idx, term))
        self._note(_KIND_ENTRY, _ENTRY.pack(idx, term) + command)

    def deleteEntriesFrom(self, entryFrom: int) -> None:
        """Cut off the entry at that place in the list, and all after it."""
        index = self._entries[entryFrom][1]
        del self._entries[entryFrom:]
        self._note(_KIND_CUT, _CUT.pack(index))

    def setCurrentTerm(self, term: int, votedForNodeId: str | None) -> None:
        if (term, votedForNodeId) == (self._term, self._voted_for):
            return
        self._term, self._voted_for = term, votedForNodeId
        self._note(_KIND_TERM, _TERM.pack(term, votedForNodeId is not None) + (votedForNodeId or "").encode())

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
        return len(self._entries)

    @overload
    def __getitem__(self, item: int) -> Entry: ...
    @overload
    def __getitem__(self, item: slice) -> list[Entry]: ...
    def __getitem__(self, item: int | slice) -> Entry | list[Entry]:
        return self._entries[item]


@attrs.define
class Recovered:
    """What a journal's file held when it was opened."""

    entries: list[Entry] = attrs.field(factory=list)
    term: int = 0
    voted_for: str | None = None
    batches: int = 0
    commit_index: int = FIRST_INDEX

    def replay(self, body: bytes) -> None:
        for kind, record in _records(body):
            if kind == _KIND_ENTRY:
                index, term = _ENTRY.unpack_from(record)
                if index != len(self.entries) + FIRST_INDEX:
                    raise ValueError(f"entry {index} follows entry {len(self.entries)}")
                self.entries.append((record[_ENTRY.size :], index, term))
            elif kind == _KIND_CUT:
                del self.entries[_CUT.unpack(record)[0] - FIRST_INDEX :]
            elif kind == _KIND_COMMIT:
                (self.commit_index,) = _COMMIT.unpack(record)
                if self.commit_index > len(self.entries):
                    raise ValueError(f"entry {self.commit_index} is committed, but the last is {len(self.entries)}")
            elif kind == _KIND_TERM:
                self.term, voted = _TERM.unpack_from(record)
                self.voted_for = record[_TERM.size :].decode() if voted else None
            else:
                raise ValueError(f"record of kind {kind}")


def _records(body: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(body):
        length, kind = _RECORD.unpack_from(body, position)
        position += _RECORD.size
        yield kind, body[position : position + length]
        position += length


class JournalFile:
    """The file, opened, its torn tail cut off, and all that is left known to be on disk."""

    def __init__(self, path: Path, disk: Disk, *, begun: bool = False) -> None:
        """
        Args:
            begun: Whether it must be there already; then one without a header has lost what it held.

        Raises:
            JournalDamaged: Something valid follows something invalid.
            ConfigurationError: A newer version of pydrm wrote it.
            OSError: It cannot be read or written.
        """
        self.recovered = Recovered()
        self.file = disk.open(path)
        self._path = path
        self._last_batch_at = _HEADER.size
        try:
            data = self.file.read()
            if len(data) < _HEADER.size and begun:
                raise JournalDamaged(path, 0, "its beginning is missing, and with it all that this node voted and has")
            if len(data) < _HEADER.size:
                self.file.cut(0)
                self.file.append(_HEADER.pack(_MAGIC, _VERSION))
            else:
                # What was read may be in the page cache only: the process before may have been killed between write
                # and sync, or its last sync may have failed; and a vote or an acknowledgement must not rest on that.
                self.file.cut(self._read(data))
                self.file.write_again(self._last_batch_at)
        except BaseException:
            self.file.close()
            raise

    def _read(self, data: bytes) -> int:
        """Fill `recovered`; return where the next batch goes."""
        magic, version = _HEADER.unpack_from(data)
        if magic != _MAGIC:
            raise JournalDamaged(self._path, 0, "it does not begin like a journal")
        if version != _VERSION:
            message = f"{self._path} has format {version}; this pydrm reads {_VERSION}. Start the version that wrote it"
            raise ConfigurationError(message, field="data_dir")
        position = _HEADER.size
        while position < len(data):
            body = _batch_at(data, position, self.recovered.batches + 1)
            if body is None:
                if _any_batch_from(data, position, self.recovered.batches + 1):
                    raise JournalDamaged(self._path, position, "a batch is broken or missing, and valid ones follow")
                return position
            try:
                self.recovered.replay(body)
            except (ValueError, struct.error) as error:
                raise JournalDamaged(self._path, position, str(error)) from error
            self.recovered.batches += 1
            self._last_batch_at = position
            position += _BATCH.size + len(body)
        return position


def _batch_at(data: bytes, position: int, number_least: int, *, exactly: bool = True) -> bytes | None:
    if position + _BATCH.size > len(data):
        return None
    magic, length, number, crc = _BATCH.unpack_from(data, position)
    start = position + _BATCH.size
    if magic != _BATCH_MAGIC or start + length > len(data):
        return None
    if number != number_least if exactly else number < number_least:
        return None
    body = data[start : start + length]
    if zlib.crc32(body, zlib.crc32(number.to_bytes(8, "little"))) != crc:
        return None
    return body


def _any_batch_from(data: bytes, position: int, number_least: int) -> bool:
    found = data.find(_BATCH_MAGIC, position)
    while found >= 0:
        if _batch_at(data, found, number_least, exactly=False) is not None:
            return True
        found = data.find(_BATCH_MAGIC, found + 1)
    return False
