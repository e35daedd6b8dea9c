"""
When a snapshot is taken; and one on its way from a leader to a follower, when something comes between.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pydrm.core.picture import take
from pydrm.core.state import State
from pydrm.engine.entries import ENTRY_BYTES
from pydrm.engine.frames import Frame, SnapshotDone, SnapshotOffer, SnapshotPiece, SnapshotWant
from pydrm.engine.snapshots import Heading, Snapshot, Snapshots, encoded
from pydrm.engine.snapshotter import Snapshotter
from pydrm.engine.transfer import PIECE_BYTES
from tests.core.build import cluster, numbered
from tests.engine.loops import on_a_loop, until
from tests.engine.memory_disk import MemoryDisk
from tests.engine.raft_world import World

FIRST, SECOND = 700, 800  # entries that nobody here has


class Side:
    """
    The snapshotter of one member of a world.

    Attributes:
        sent: What it sends, and to whom.
        installed: Of which entries it has put a state in force.
    """

    def __init__(self, world: World, name: str, journal_disk: ThreadPoolExecutor, *, log_bytes_min: int) -> None:
        self.raft = world.members[name].running
        self.state = some_state(1)
        self.disk = MemoryDisk()
        self.snapshots = Snapshots(Path("/data"), self.disk)
        self.sent: list[tuple[str, Frame]] = []
        self.installed: list[int] = []
        self.snapshotter = Snapshotter(
            self.snapshots,
            world.members[name].journal,
            journal_disk,
            lambda peer, frame: self.sent.append((peer, frame)),
            log_bytes_min=log_bytes_min,
            tail_bytes=0,
            arrived=lambda heading, state: self.installed.append(heading.index),
            outdated=lambda error: None,
            now=world.clock.now,
        )

    def tick(self) -> None:
        self.snapshotter.tick(self.raft, self.state)

    def receive(self, peer: str, frame: SnapshotOffer | SnapshotWant | SnapshotPiece | SnapshotDone) -> None:
        self.snapshotter.receive(peer, frame, self.raft)

    def keep(self, index: int, state: State) -> Snapshot:
        """Have a snapshot of *state* as of entry *index*."""
        file = self.snapshots.create(index, 1)
        file.write(content(index, state))
        file.commit()
        return self.snapshots.add(index, 1)

    @property
    def pieces(self) -> list[SnapshotPiece]:
        return [frame for _, frame in self.sent if isinstance(frame, SnapshotPiece)]


def some_state(resources: int) -> State:
    return cluster("a", "b", resources=numbered(resources)).state


def content(index: int, state: State) -> bytes:
    picture = take(state)
    return b"".join(encoded(Heading("orders-1", index, 1, f"{state.digest:032x}", picture.head), picture))


@asynccontextmanager
async def side(name: str, names: str = "ab", *, log_bytes_min: int = 10**9) -> AsyncIterator[tuple[World, Side]]:
    """Of a world of *names* in which node a leads."""
    world = World(names)
    world.start()
    world.elect("a")
    world.calm(0.3)
    with ThreadPoolExecutor(1) as journal_disk:
        it = Side(world, name, journal_disk, log_bytes_min=log_bytes_min)
        try:
            yield world, it
        finally:
            it.snapshotter.close()
            await asyncio.get_running_loop().run_in_executor(None, it.snapshotter.shut)


# --- when one is taken -----------------------------------------------------------------------------------------------


async def is_taken(world: World, it: Side, commands: list[bytes]) -> bool:
    """Whether a snapshot is taken once these are applied."""
    before = len(it.snapshots.kept)
    for command in commands:
        world.submit("a", command)
    world.calm(1.0)
    it.tick()
    if it.snapshotter._task is None:
        return False
    await until(lambda: it.snapshotter._task is None)
    assert len(it.snapshots.kept) > before
    return True


@on_a_loop
async def test_one_is_taken_when_the_log_is_longer_than_the_least_and_than_the_last_snapshot():
    """So no more is written for snapshots than for the log, and a small state does not have one taken all the time."""
    async with side("a", "a", log_bytes_min=4000) as (world, it):
        it.state = some_state(500)

        assert not await is_taken(world, it, [b"1" * 3000])
        assert await is_taken(world, it, [b"2" * 2000])

        size = it.snapshots.kept[-1].size
        assert size > 2 * 4000
        assert not await is_taken(world, it, [b"3" * (size - 1000)])
        assert await is_taken(world, it, [b"4" * 1000])


@on_a_loop
async def test_many_tiny_entries_make_one_due_too():
    """Each costs more than its bytes: objects in memory, and time to be read again."""
    async with side("a", "a", log_bytes_min=100 * ENTRY_BYTES) as (world, it):
        assert not await is_taken(world, it, [b"a%d" % number for number in range(50)])
        assert await is_taken(world, it, [b"b%d" % number for number in range(50)])


# --- the follower's side ---------------------------------------------------------------------------------------------


@on_a_loop
async def test_an_offer_that_comes_while_another_is_installed_is_taken_up_afterwards():
    """It is not made again: there is a new leader, for which this node is away until it has what it was offered."""
    async with side("b") as (_, it):
        data, term = content(FIRST, some_state(2000)), it.raft.term
        it.receive("a", SnapshotOffer(term, FIRST, 1, len(data)))
        it.receive("a", SnapshotPiece(term, FIRST, 0, data))
        while it.snapshotter._installing is None:
            await asyncio.sleep(0)

        it.receive("a", SnapshotOffer(term, SECOND, 1, len(data)))
        it.tick()
        assert ("a", SnapshotWant(term, SECOND, 0)) not in it.sent
        await until(lambda: it.snapshotter._installing is None)
        it.tick()

        assert it.installed == [FIRST]
        assert it.sent[-1] == ("a", SnapshotWant(term, SECOND, 0))


@on_a_loop
async def test_of_two_offers_that_come_meanwhile_the_later_counts():
    async with side("b") as (_, it):
        data, term = content(FIRST, some_state(2000)), it.raft.term
        it.receive("a", SnapshotOffer(term, FIRST, 1, len(data)))
        it.receive("a", SnapshotPiece(term, FIRST, 0, data))
        while it.snapshotter._installing is None:
            await asyncio.sleep(0)

        it.receive("a", SnapshotOffer(term, SECOND, 1, len(data)))
        await until(lambda: it.snapshotter._installing is None)
        it.receive("a", SnapshotOffer(term, SECOND + 1, 1, len(data)))
        it.tick()

        assert it.sent[-1] == ("a", SnapshotWant(term, SECOND + 1, 0))
        assert ("a", SnapshotWant(term, SECOND, 0)) not in it.sent


# --- the leader's side -----------------------------------------------------------------------------------------------


async def offered_to_b(it: Side, state: State) -> Snapshot:
    """Node b lags, and is offered a snapshot of *state*."""
    snapshot = it.keep(FIRST, state)
    it.raft._group.put_away("b")
    it.raft.lagging.append("b")
    it.tick()
    assert it.sent == [("b", SnapshotOffer(it.raft.term, FIRST, 1, snapshot.size))]
    return snapshot


@on_a_loop
async def test_who_is_sent_what_cannot_be_read_does_not_wait_for_it_for_ever(caplog: pytest.LogCaptureFixture):
    """A little later its log is tried again, and then a newer snapshot."""
    async with side("a") as (world, it):
        snapshot = await offered_to_b(it, some_state(10))
        del it.disk.files[snapshot.path]
        it.receive("b", SnapshotWant(it.raft.term, FIRST, 0))
        await until(lambda: it.snapshotter._again_at)
        assert "cannot read" in caplog.text
        assert not it.raft._group.is_connected("b")

        world.clock.seconds += 11
        it.tick()

        assert it.raft._group.is_connected("b")
        assert it.snapshotter._wanted


@on_a_loop
async def test_a_link_that_is_lost_meanwhile_is_not_taken_for_there():
    async with side("a") as (world, it):
        await offered_to_b(it, some_state(10))
        it.receive("b", SnapshotDone(it.raft.term, FIRST, "it is damaged"))
        world.cut("a", "b")
        it.snapshotter.unlinked("b")

        world.clock.seconds += 11
        it.tick()

        assert not it.raft._group.is_connected("b")


@on_a_loop
async def test_a_slow_follower_has_one_piece_on_its_way_and_no_more():
    """However large the state is: the next is read when the follower wants it."""
    async with side("a") as (_, it):
        snapshot = await offered_to_b(it, some_state(12_000))
        assert snapshot.size > 3 * PIECE_BYTES
        received = 0
        while received < snapshot.size:
            it.receive("b", SnapshotWant(it.raft.term, FIRST, received))
            await until(lambda: it.pieces)
            await asyncio.sleep(0.01)  # whatever else it would send, it would by now

            (piece,) = it.pieces
            assert piece.offset == received
            assert len(piece.data) <= PIECE_BYTES
            received += len(piece.data)
            it.sent.clear()
