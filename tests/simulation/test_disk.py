"""
`SimDisk`: what a process that dies leaves behind is what a real one would leave.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from random import Random

import pytest

from pydrm.engine.journal import Batch, open_journal
from pydrm.testing.simulation.disk import SimDisk

DATA = Path("/data")
SECOND = "journal-00000000000000000002"


def dies_while_a_segment_is_begun(seed: int) -> tuple[SimDisk, Batch]:
    """A disk with a segment on it, and what was being written to the next one."""
    disk = SimDisk(Random(seed))
    disk.segment_bytes = 1
    journal = open_journal(DATA, disk, begun=False, base=None)
    journal.add(b"one", 1, 1)
    journal.write(journal.take_batch())
    journal.add(b"two", 2, 1)
    batch = journal.take_batch()
    disk.torn()
    with contextlib.suppress(OSError):
        journal.write(batch)
    disk.mended()
    return disk, batch


def left(disk: SimDisk, batch: Batch) -> str:
    assert batch.begins is not None
    header = batch.begins.encode()
    match disk.names(DATA):
        case [_, name] if name == f"{SECOND}.new":
            return "a header aside" if disk.read(DATA / name) == header else "a part of a header aside"
        case [_, name] if name == SECOND:
            return {header: "a header", header + batch.data: "all"}.get(disk.read(DATA / name) or b"", "a part")
        case names:
            return f"{names}"


def test_a_segment_that_is_begun_when_the_process_dies_is_torn_in_every_way():
    """Before it has taken its place, then, and after that; a journal can be opened again, whatever it was."""
    seen: dict[str, int] = {}
    for seed in range(200):
        disk, batch = dies_while_a_segment_is_begun(seed)
        what = left(disk, batch)
        seen[what] = len(open_journal(DATA, disk, begun=True, base=None))

    assert seen == {"a part of a header aside": 1, "a header aside": 1, "a header": 1, "a part": 1, "all": 2}


def test_nothing_is_done_by_a_dead_process():
    """A file that it would have discarded stays, and so does one that it would have removed next."""
    disk = SimDisk(Random(0))
    disk.replace(DATA / "kept", b"content")
    new = disk.create(DATA / "file")
    disk.torn()
    with contextlib.suppress(OSError):
        for _ in range(100):
            new.write(b"some")

    new.discard()
    with pytest.raises(OSError, match="the process died"):
        disk.remove(DATA / "kept")
    disk.mended()

    assert disk.names(DATA) == ["file.new", "kept"]
