"""
Files of snapshots: what is written comes back, and nothing else does.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydrm.core.picture import take
from pydrm.core.state import State
from pydrm.engine.disk import MemoryFiles
from pydrm.engine.restore import restored
from pydrm.engine.snapshots import Heading, SnapshotDamaged, Snapshots, blocks, encoded
from pydrm.errors import ConfigurationError
from tests.core.build import cluster, numbered
from tests.engine.memory_disk import MemoryDisk

DATA = Path("/data")


def some_state(count: int = 10) -> State:
    return cluster("a", "b", "c", resources=numbered(count)).state


def written(snapshots: Snapshots, state: State, index: int = 7, term: int = 2) -> None:
    picture = take(state)
    heading = Heading("orders-1", index, term, f"{state.digest:032x}", picture.head)
    file = snapshots.create(index, term)
    for piece in encoded(heading, picture):
        file.write(piece)
    file.commit()
    snapshots.add(index, term)


def read(snapshots: Snapshots) -> tuple[Heading, State]:
    assert snapshots.newest is not None
    return asyncio.run(restored(snapshots, snapshots.newest))


CONTENT_STATE = some_state()


def content() -> bytes:
    picture = take(CONTENT_STATE)
    heading = Heading("orders-1", 7, 2, f"{CONTENT_STATE.digest:032x}", picture.head)
    return b"".join(encoded(heading, picture))


CONTENT = content()


@pytest.mark.parametrize("count", [0, 10, 2500])
def test_a_state_comes_back_as_it_was(count: int):
    """Also one that needs many blocks, and one with nothing in it."""
    state = some_state(count)
    snapshots = Snapshots(DATA, MemoryDisk())

    written(snapshots, state)
    heading, again = read(snapshots)

    assert again.digest == state.digest
    assert (heading.cluster_id, heading.index, heading.term) == ("orders-1", 7, 2)
    assert int(heading.digest, 16) == state.digest


def test_what_changes_while_it_is_written_is_not_in_it():
    """It is of the moment at which the picture was taken."""
    house = cluster("a", "b", "c", resources=numbered(2500))
    digest = house.state.digest
    picture = take(house.state)
    pieces = encoded(Heading("orders-1", 7, 2, "", picture.head), picture)
    snapshots = Snapshots(DATA, MemoryDisk())
    file = snapshots.create(7, 2)

    for number, piece in enumerate(pieces):
        file.write(piece)
        house.renew("a")
        if number == 2:
            house.expire("b")
            house.settle()
    file.commit()
    snapshots.add(7, 2)

    assert house.state.digest != digest
    assert read(snapshots)[1].digest == digest


@given(at=st.integers(0, len(CONTENT) - 1), bit=st.integers(0, 7))
def test_any_bit_that_changed_is_found(at: int, bit: int):
    """Wherever it is; or a version that nobody knows is named."""
    damaged = bytearray(CONTENT)
    damaged[at] ^= 1 << bit

    assert_refused(bytes(damaged))


@given(st.integers(0, len(CONTENT) - 1))
def test_any_part_that_is_missing_is_found(size: int):
    assert_refused(CONTENT[:size])


@given(st.binary(min_size=1, max_size=40))
def test_anything_that_follows_is_found(more: bytes):
    assert_refused(CONTENT + more)


def assert_refused(data: bytes) -> None:
    disk = MemoryDisk()
    disk.files[DATA / "snapshot-00000000000000000007-2"] = data
    with pytest.raises(
        ConfigurationError, match=r"/data/snapshot-00000000000000000007-2 (is damaged at offset \d+|has)"
    ):
        read(Snapshots(DATA, disk))


def test_one_that_is_named_after_another_entry_is_refused():
    """Somebody copied it."""
    disk = MemoryDisk()
    disk.files[DATA / "snapshot-00000000000000000009-2"] = CONTENT

    with pytest.raises(SnapshotDamaged, match="it is of entry 7"):
        read(Snapshots(DATA, disk))


def test_the_newest_two_are_kept():
    snapshots = Snapshots(DATA, disk := MemoryDisk())
    for index in (7, 20, 30):
        written(snapshots, CONTENT_STATE, index)

    surplus = snapshots.surplus(in_use=set())
    snapshots.remove(surplus)

    assert [snapshot.index for snapshot in surplus] == [7]
    assert [snapshot.index for snapshot in Snapshots(DATA, disk).kept] == [20, 30]


def test_one_that_is_being_sent_is_kept():
    snapshots = Snapshots(DATA, MemoryDisk())
    for index in (7, 20, 30):
        written(snapshots, CONTENT_STATE, index)

    assert snapshots.surplus(in_use={7}) == []
    assert [snapshot.index for snapshot in snapshots.surplus(in_use=set())] == [7]


def test_half_of_one_is_removed_at_the_next_start():
    """Its name says that it was never whole."""
    disk = MemoryDisk()
    Snapshots(DATA, disk).create(7, 2).write(b"half")

    assert Snapshots(DATA, disk).kept == []
    assert disk.files == {}


def test_without_a_directory_they_are_in_memory():
    """For a worker that keeps nothing."""
    snapshots = Snapshots(None, MemoryDisk())

    written(snapshots, CONTENT_STATE)

    assert read(snapshots)[1].digest == CONTENT_STATE.digest


def test_files_of_another_kind_are_left_alone():
    disk = MemoryDisk()
    disk.files[DATA / "journal-00000000000000000001"] = b"x"

    assert Snapshots(DATA, disk).kept == []
    assert disk.files


def test_its_blocks_can_be_read_without_a_state():
    """For people who look into it."""
    files = MemoryFiles()
    file = files.create(DATA / "s")
    file.write(CONTENT)
    file.commit()

    heading, *rest = blocks(files, DATA / "s")

    assert isinstance(heading, Heading)
    assert sum(len(block[1]) for block in rest if isinstance(block, tuple)) == sum(heading.head.counts.values())
