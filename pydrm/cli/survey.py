"""`survey`: what is in a journal, segment by segment and entry by entry, with what was cut off again."""

from __future__ import annotations

from pathlib import Path

import attrs

from pydrm.engine.codec import CodecError, decode_entry, encode_request
from pydrm.engine.disk import Disk
from pydrm.engine.journal_records import Added, BaseSet, CommitNoted, CutFrom, TermSet, decode_records
from pydrm.engine.replay import Replay
from pydrm.engine.segment_format import JournalDamaged, decode_header, find_batches, is_segment
from pydrm.errors import ConfigurationError

__all__ = ["EntrySurvey", "JournalSurvey", "SegmentSurvey", "survey"]

_CUT, _COMMITTED = "cut", "committed"


@attrs.define
class SegmentSurvey:
    """
    Attributes:
        torn: How many bytes of a batch that is not finished are at the end.
        entries, terms: The lowest and the highest index, and term, of the entries that were added.
        cuts: How often entries were cut off, or the log replaced by a snapshot.
        term, voted_for, commit_index: As they were at its end; the commit index None as long as no hint was noted.
    """

    file: str
    first_batch: int
    term: int
    voted_for: str | None
    commit_index: int | None
    bytes: int = 0
    torn: int = 0
    batches: int = 0
    entries: tuple[int, int] | None = None
    terms: tuple[int, int] | None = None
    cuts: int = 0


@attrs.define
class EntrySurvey:
    """
    Attributes:
        state: "committed" if that is known, "cut" if it was cut off or replaced, or "".
        commands: (name, bytes) of each.
        problem: Why they cannot be read, or "".
    """

    index: int
    term: int
    bytes: int
    segment: int
    commands: list[tuple[str, int]]
    problem: str = ""
    state: str = ""


@attrs.define
class JournalSurvey:
    """
    Attributes:
        entries: All that were ever added, in that order.
        damage: What kept it from being read to its end.
    """

    segments: list[SegmentSurvey] = attrs.field(factory=list)
    entries: list[EntrySurvey] = attrs.field(factory=list)
    damage: ConfigurationError | None = None


def survey(directory: Path, disk: Disk, *, entries: bool) -> JournalSurvey:
    """
    As far as the journal in *directory* can be read; its entries only if they are asked for.

    Raises:
        FileNotFoundError: A segment was removed meanwhile, by the process that uses the directory.
        OSError: It cannot be read.
    """
    seen, replay = JournalSurvey(), Replay()
    paths = [directory / name for name in disk.names(directory) if is_segment(name)]
    try:
        for path in paths:
            _look_at_segment(seen, replay, path, disk, last=path == paths[-1], entries=entries)
    except ConfigurationError as error:
        seen.damage = error
    for entry in seen.entries:
        if not entry.state and entry.index <= (seen.segments[-1].commit_index or 0):
            entry.state = _COMMITTED
    return seen


def _look_at_segment(seen: JournalSurvey, replay: Replay, path: Path, disk: Disk, *, last: bool, entries: bool) -> None:
    data = disk.read(path)
    if data is None:
        raise FileNotFoundError(str(path))
    header, end = decode_header(path, data)
    commit_index = seen.segments[-1].commit_index if seen.segments else None
    segment = SegmentSurvey(path.name, header.first_batch, header.term, header.voted_for, commit_index, bytes=end)
    at = 0
    try:
        replay.begin(header)
        seen.segments.append(segment)
        for found in find_batches(path, data, end, header.first_batch, last=last):
            at = found.start
            replay.apply(found.body)
            _look_at_batch(seen, segment, found.body, entries=entries)
            segment.bytes = found.end
            segment.batches += 1
    except ValueError as error:
        raise JournalDamaged(path, at, str(error)) from error
    segment.torn = len(data) - segment.bytes


def _look_at_batch(seen: JournalSurvey, segment: SegmentSurvey, body: memoryview, *, entries: bool) -> None:
    for record in decode_records(body):
        match record:
            case Added(command, index, term):
                segment.entries = _widened(segment.entries, index)
                segment.terms = _widened(segment.terms, term)
                if entries:
                    seen.entries.append(_entry(command, index, term, segment.first_batch))
            case CutFrom(index):
                segment.cuts += 1
                _cut(seen.entries, index)
            case BaseSet(index):
                segment.cuts += 1
                _cut(seen.entries, (segment.commit_index or 0) + 1)
                segment.commit_index = index
            case TermSet(term, voted_for):
                segment.term, segment.voted_for = term, voted_for
            case CommitNoted(index):
                segment.commit_index = index


def _widened(ends: tuple[int, int] | None, number: int) -> tuple[int, int]:
    return (number, number) if ends is None else (min(ends[0], number), max(ends[1], number))


def _cut(entries: list[EntrySurvey], index: int) -> None:
    for entry in reversed(entries):
        if entry.state != _CUT and entry.index < index:
            return
        entry.state = _CUT


def _entry(command: bytes, index: int, term: int, segment: int) -> EntrySurvey:
    seen = EntrySurvey(index, term, len(command), segment, [])
    if command == b"\x01":
        return seen
    try:
        seen.commands = [
            (type(request.command).__name__, len(encode_request(request))) for request in decode_entry(command[1:])
        ]
    except CodecError as error:
        seen.problem = str(error)
    return seen
