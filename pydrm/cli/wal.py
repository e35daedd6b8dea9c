"""`pydrm wal inspect` and `verify`: a data directory's journal for people. They only read, and take no lock."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import attrs

from pydrm.cli.exits import Exit, Failed
from pydrm.cli.survey import EntrySurvey, JournalSurvey, SegmentSurvey, survey
from pydrm.cli.tables import print_table
from pydrm.engine.local_disk import LocalDisk
from pydrm.engine.replay import Replay, SegmentRead, read_journal
from pydrm.errors import ConfigurationError

__all__ = ["inspect", "verify"]

_TRIES = 10

T = TypeVar("T")


def inspect(arguments: argparse.Namespace) -> Exit:
    """Print what can be read, even if that is not all; then say what cannot."""
    seen = _read(arguments.directory, lambda directory: survey(directory, LocalDisk(), entries=arguments.entries))
    if not seen.segments and seen.damage is None:
        raise Failed(f"there is no journal in {arguments.directory}", exit=Exit.INVALID)
    if arguments.json:
        print(json.dumps(_flat(seen, entries=arguments.entries), indent=2, ensure_ascii=False))
    elif arguments.entries:
        _print_entries(seen.entries)
    else:
        _print_segments(seen.segments)
    if seen.damage is not None:
        raise Failed(_said(seen.damage), exit=Exit.INVALID)
    return Exit.OK


def verify(arguments: argparse.Namespace) -> Exit:
    """Check all that is checked when a node starts, but for what the snapshots say."""
    try:
        replay, read = _read(arguments.directory, lambda directory: read_journal(directory, LocalDisk()))
    except ConfigurationError as error:
        raise Failed(_said(error), exit=Exit.INVALID) from error
    if not read:
        raise Failed(f"there is no journal in {arguments.directory}", exit=Exit.INVALID)
    print(f"ok: {'; '.join(_summary(replay, read))}")
    return Exit.OK


def _read(directory: str, look: Callable[[Path], T]) -> T:
    for _ in range(_TRIES):
        try:
            return look(Path(directory))
        except FileNotFoundError as error:
            # The node that runs on it has removed a segment meanwhile; unless there is no such directory.
            gone = error
        except OSError as error:
            raise Failed(f"{directory} cannot be read: {error.strerror}", exit=Exit.INVALID) from error
    raise Failed(f"{directory} cannot be read: {gone.strerror or gone}", exit=Exit.INVALID) from gone


def _said(error: ConfigurationError) -> str:
    # Here it is no setting that is wrong.
    return str(error).removeprefix(f"{error.field}: ")


def _summary(replay: Replay, read: list[SegmentRead]) -> list[str]:
    batches = replay.batches - read[0].first_batch + 1
    said = [f"{_count(len(read), 'segment')}, {_count(batches, 'batch', 'batches')}, {sum(s.size for s in read)} bytes"]
    if replay.snapshot:
        said.append(f"goes on from a snapshot of entry {replay.snapshot} or a later one")
    first = replay.base[0] + 1
    said.append(f"entries {first} to {replay.last[0]}" if replay.entries else "no entries")
    said.append(f"term {replay.term}, {f'voted for {replay.voted_for}' if replay.voted_for else 'no vote'}")
    if read[-1].torn:
        said.append(_unfinished(read[-1].torn))
    return said


def _unfinished(size: int) -> str:
    return f"{_count(size, 'byte')} of an unfinished batch at the end"


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _print_segments(segments: list[SegmentSurvey]) -> None:
    head = ("segment", "bytes", "batches", "entries", "terms", "cuts", "term", "vote", "commit")
    rows = [
        (
            segment.first_batch,
            segment.bytes,
            segment.batches,
            _range(segment.entries),
            _range(segment.terms),
            segment.cuts,
            segment.term,
            segment.voted_for,
            segment.commit_index,
        )
        for segment in segments
    ]
    print_table(head, rows)
    if segments and segments[-1].torn:
        print(f"\n{_unfinished(segments[-1].torn)} of {segments[-1].file}")


def _range(ends: tuple[int, int] | None) -> str | None:
    if ends is None:
        return None
    return str(ends[0]) if ends[0] == ends[1] else f"{ends[0]}-{ends[1]}"


def _print_entries(entries: list[EntrySurvey]) -> None:
    rows = [(entry.index, entry.term, entry.bytes, entry.state or None, _commands(entry)) for entry in entries]
    print_table(("index", "term", "bytes", "state", "commands"), rows)


def _commands(entry: EntrySurvey) -> str:
    if entry.problem:
        return entry.problem
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for name, size in entry.commands:
        counts[name] += 1
        sizes[name] += size
    texts = [f"{name}{f' x{count}' if count > 1 else ''} ({sizes[name]} B)" for name, count in counts.items()]
    return ", ".join(texts) or "no-op"


def _flat(seen: JournalSurvey, *, entries: bool) -> dict[str, Any]:
    flat: dict[str, Any] = {"segments": [attrs.asdict(segment) for segment in seen.segments]}
    if entries:
        flat["entries"] = [attrs.asdict(entry) for entry in seen.entries]
    return flat
