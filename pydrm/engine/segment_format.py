"""
A segment: one of the files that a journal is made of, as bytes. No disk here, and no state.

    file    journal-NUMBER: a segment; NUMBER is that of its first batch, in 20 digits
    header  "pydrmjnl", version (u32), number of the first batch (u64), index (u64) and term (u64) of the log's
            last entry before it, current term (u64), voted (u8), length of the name voted for (u16), that name,
            CRC-32 of all before (u32)
    batch   "BTCH", length of the body (u32), number of the batch (u64), CRC-32 of number and body (u32), body
    body    see `journal_records`

A segment begins whole, header and all, or not at all. Its header says what the segments before it led to, so
that it can be read without them. Batches are numbered through all segments. A batch is begun only when the one
before is on disk. So a bad batch at the end of the last segment was being written when the power went:
nobody was told of it. Any other is damage. All numbers are little-endian.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import attrs

from pydrm.errors import ConfigurationError

__all__ = [
    "Found",
    "Header",
    "JournalDamaged",
    "decode_header",
    "encode_batch",
    "find_batches",
    "is_segment",
    "is_unfinished_segment",
]

_NAME = re.compile(r"journal-\d{20}(\.new)?")
_MAGIC = b"pydrmjnl"
_VERSION = 1
_HEADER_BEGIN = struct.Struct("<8sI")
_HEADER = struct.Struct("<8sIQQQQBH")
_CRC = struct.Struct("<I")
_BATCH_MAGIC = b"BTCH"
_BATCH = struct.Struct("<4sIQI")


class JournalDamaged(ConfigurationError):
    """The journal cannot be read; the message names file and offset."""

    def __init__(self, path: Path, offset: int, what: str) -> None:
        super().__init__(
            f"{path} is damaged at offset {offset}: {what}. Do not delete it: restore the data directory of this "
            "node from a copy of its own, or replace the node as a voter",
            field="data_dir",
        )


def is_segment(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and not is_unfinished_segment(name)


def is_unfinished_segment(name: str) -> bool:
    """Whether it is what a crash left of the beginning of a segment."""
    return _NAME.fullmatch(name) is not None and name.endswith(".new")


# --- a segment's header ----------------------------------------------------------------------------------------------


@attrs.frozen
class Header:
    """
    Attributes:
        first_batch: The number of the segment's first batch.
        index, index_term: The log's last entry before that; (0, 0) if there is none. A term of 0 is one that is not
            known any more, because the entry was in a segment that is gone.
        term, voted_for: The current term before that, and the vote in it.
    """

    first_batch: int
    index: int = 0
    index_term: int = 0
    term: int = 0
    voted_for: str | None = None

    @property
    def file_name(self) -> str:
        return f"journal-{self.first_batch:020}"

    def encode(self) -> bytes:
        vote = (self.voted_for or "").encode()
        voted = self.voted_for is not None
        numbers = (self.first_batch, self.index, self.index_term, self.term)
        data = _HEADER.pack(_MAGIC, _VERSION, *numbers, voted, len(vote)) + vote
        return data + _CRC.pack(zlib.crc32(data))


def decode_header(path: Path, data: bytes) -> tuple[Header, int]:
    """
    Return the header of the segment *path*, and where its first batch begins.

    Raises:
        JournalDamaged: It has none, or that of another segment.
        ConfigurationError: A newer version of pydrm wrote it.
    """
    if len(data) < _HEADER_BEGIN.size:
        raise JournalDamaged(path, 0, "its beginning is missing, and with it all that this node voted and has")
    magic, version = _HEADER_BEGIN.unpack_from(data)
    if magic != _MAGIC:
        raise JournalDamaged(path, 0, "it does not begin like a journal")
    if version != _VERSION:
        message = f"{path} has format {version}; this pydrm reads {_VERSION}. Start the version that wrote it"
        raise ConfigurationError(message, field="data_dir")
    if len(data) < _HEADER.size:
        raise JournalDamaged(path, 0, "its header is broken")
    _, _, first_batch, index, index_term, term, voted, length = _HEADER.unpack_from(data)
    end = _HEADER.size + length
    if data[end : end + _CRC.size] != _CRC.pack(zlib.crc32(data[:end])):
        raise JournalDamaged(path, 0, "its header is broken")
    voted_for = data[_HEADER.size : end].decode() if voted else None
    header = Header(first_batch, index, index_term, term, voted_for)
    if header.file_name != path.name:
        raise JournalDamaged(path, 0, f"it is the segment {header.file_name} under another name")
    return header, end + _CRC.size


# --- batches ---------------------------------------------------------------------------------------------------------


@attrs.frozen
class Found:
    """A batch in a segment: from *start* to *end*."""

    start: int
    end: int
    body: memoryview


def encode_batch(number: int, body: bytes) -> bytes:
    return _BATCH.pack(_BATCH_MAGIC, len(body), number, _crc(number, body)) + body


def find_batches(path: Path, data: bytes, position: int, number: int, *, last: bool) -> Iterator[Found]:
    """
    The batches of the segment *path* from *position* on, the first of which has this *number*.

    In the *last* segment they end where a batch was being written.

    Raises:
        JournalDamaged: One is broken or missing.
    """
    while position < len(data):
        found = _batch_at(data, position, number, number)
        if found is None:
            if not last:
                raise JournalDamaged(path, position, "a batch is broken or missing, and another segment follows")
            if _any_batch_from(data, position, number):
                raise JournalDamaged(path, position, "a batch is broken or missing, and valid ones follow")
            return
        yield found
        number += 1
        position = found.end


def _batch_at(data: bytes, position: int, number_least: int, number_most: int) -> Found | None:
    start = position + _BATCH.size
    if start > len(data):
        return None
    magic, length, number, crc = _BATCH.unpack_from(data, position)
    end = start + length
    if magic != _BATCH_MAGIC or end > len(data) or not number_least <= number <= number_most:
        return None
    body = memoryview(data)[start:end]
    return Found(position, end, body) if _crc(number, body) == crc else None


def _any_batch_from(data: bytes, position: int, number_least: int) -> bool:
    found = data.find(_BATCH_MAGIC, position)
    while found >= 0:
        if _batch_at(data, found, number_least, 2**64) is not None:
            return True
        found = data.find(_BATCH_MAGIC, found + 1)
    return False


def _crc(number: int, body: bytes | memoryview) -> int:
    return zlib.crc32(body, zlib.crc32(number.to_bytes(8, "little")))
