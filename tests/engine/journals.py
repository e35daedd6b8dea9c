"""What tests of journals build them with: a directory in memory in which each batch may be a segment of its own."""

from __future__ import annotations

from pathlib import Path

from pydrm.engine.journal import Entry, Journal, open_journal
from pydrm.engine.segment_format import is_segment
from tests.engine.memory_disk import MemoryDisk

DATA = Path("/data")
NO_OP = b"\x01"


def segment(first_batch: int) -> Path:
    return DATA / f"journal-{first_batch:020}"


def small_disk() -> MemoryDisk:
    """Each batch is a segment of its own."""
    return MemoryDisk(segment_bytes=1)


def opened(disk: MemoryDisk, base: tuple[int, int] | None = None, *, begun: bool = False) -> Journal:
    return open_journal(DATA, disk, begun=begun, base=base)


def sync(journal: Journal) -> None:
    journal.write(journal.take_batch())


def add(journal: Journal, *commands: bytes, term: int = 1) -> None:
    """All of *commands* in one batch, without a sync."""
    for command in commands:
        journal.add(command, journal[-1][1] + 1 if len(journal) else 1, term)


def add_synced(journal: Journal, *commands: bytes, term: int = 1) -> None:
    """Each of *commands* in a batch of its own."""
    for command in commands:
        add(journal, command, term=term)
        sync(journal)


def commit(journal: Journal, index: int) -> None:
    journal.setRaftCommitIndex(index)


def segments(disk: MemoryDisk) -> list[int]:
    """The numbers of the first batches of the segments that are there."""
    return [int(name.removeprefix("journal-")) for name in disk.names(DATA) if is_segment(name)]


def contents(journal: Journal) -> tuple[list[Entry], int, str | None]:
    return journal[:], journal.getCurrentTerm(), journal.getVotedForNodeId()
