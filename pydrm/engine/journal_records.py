"""
What is noted in a journal, and the bytes of it: the body of a batch (see `segment_format`).

    body    records: length (u32), kind (u8), then
            1 ENTRY  index (u64), term (u64), command
            2 CUT    index (u64): this entry and all after it are gone
            3 TERM   term (u64), voted (u8), name voted for
            4 COMMIT index (u64): known to be committed when the batch was begun; a hint, never waited for
            5 BASE   index (u64), term (u64): the whole log is gone, and goes on after the entry that had these

All numbers are little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import attrs

__all__ = ["Added", "BaseSet", "CommitNoted", "CutFrom", "Record", "TermSet", "decode_records", "encode_record"]

_RECORD = struct.Struct("<IB")
_INDEX = struct.Struct("<Q")
_INDEX_AND_TERM = struct.Struct("<QQ")
_TERM = struct.Struct("<QB")
_KIND_ENTRY, _KIND_CUT, _KIND_TERM, _KIND_COMMIT, _KIND_BASE = 1, 2, 3, 4, 5


@attrs.frozen
class Added:
    command: bytes
    index: int
    term: int


@attrs.frozen
class CutFrom:
    index: int


@attrs.frozen
class TermSet:
    term: int
    voted_for: str | None


@attrs.frozen
class CommitNoted:
    index: int


@attrs.frozen
class BaseSet:
    index: int
    term: int


Record = Added | CutFrom | TermSet | CommitNoted | BaseSet


def encode_record(record: Record) -> bytes:
    match record:
        case Added(command, index, term):
            kind, body = _KIND_ENTRY, _INDEX_AND_TERM.pack(index, term) + command
        case CutFrom(index):
            kind, body = _KIND_CUT, _INDEX.pack(index)
        case TermSet(term, voted_for):
            kind, body = _KIND_TERM, _TERM.pack(term, voted_for is not None) + (voted_for or "").encode()
        case CommitNoted(index):
            kind, body = _KIND_COMMIT, _INDEX.pack(index)
        case BaseSet(index, term):
            kind, body = _KIND_BASE, _INDEX_AND_TERM.pack(index, term)
    return _RECORD.pack(len(body), kind) + body


def decode_records(body: memoryview) -> Iterator[Record]:
    """Raises ValueError if *body* is none of a batch."""
    position = 0
    while position < len(body):
        try:
            length, kind = _RECORD.unpack_from(body, position)
            start, position = position + _RECORD.size, position + _RECORD.size + length
            if position > len(body):
                raise ValueError("a record is longer than its batch")
            record = _decode_record(kind, body[start:position])
        except struct.error as error:
            raise ValueError(str(error)) from error
        yield record


def _decode_record(kind: int, body: memoryview) -> Record:
    if kind == _KIND_ENTRY:
        index, term = _INDEX_AND_TERM.unpack_from(body)
        return Added(bytes(body[_INDEX_AND_TERM.size :]), index, term)
    if kind == _KIND_CUT:
        return CutFrom(*_INDEX.unpack(body))
    if kind == _KIND_TERM:
        term, voted = _TERM.unpack_from(body)
        return TermSet(term, str(body[_TERM.size :], "utf-8") if voted else None)
    if kind == _KIND_COMMIT:
        return CommitNoted(*_INDEX.unpack(body))
    if kind == _KIND_BASE:
        return BaseSet(*_INDEX_AND_TERM.unpack(body))
    raise ValueError(f"a record of kind {kind}")
