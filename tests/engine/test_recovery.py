"""What `recover` makes of a data directory, and that at no moment of it a node starts on a half of it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from msgspec.structs import replace

from pydrm.core.commands import AddVoter, Command, Form, Request
from pydrm.core.invariants import check
from pydrm.core.machine import Outcome
from pydrm.core.picture import take
from pydrm.core.recovery import SKIPPED_NUMBERS
from pydrm.core.settings import Voter
from pydrm.core.state import State
from pydrm.engine import Engine, EngineConfig, Footing, Membership, Port, SystemHost
from pydrm.engine.data_directory import DataDirectory, Identity, read_identity
from pydrm.engine.disk import NewFile
from pydrm.engine.recovery import Recovered, recover
from pydrm.engine.restore import Readout
from pydrm.engine.snapshots import Heading, Snapshots, encoded, snapshots_in
from pydrm.errors import ConfigurationError, DiskFailed
from tests.engine.loops import on_a_loop
from tests.engine.memory_disk import MemoryDisk
from tests.engine.voter_data import LOST_ID, TTL_MS, VOTERS, add, lay_out, numbered, opened_as_a

DATA = Path("/data")
JOURNAL = DATA / "journal-00000000000000000001"


class CrashingDisk(MemoryDisk):
    """
    The process dies when it asks for the change number `crashes_at`, which is made, or not.

    Attributes:
        changes: How many were asked for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.crashes_at: int | None = None
        self.made = False
        self.changes = 0

    def replace(self, file: Path, data: bytes) -> None:
        self.change(lambda: MemoryDisk.replace(self, file, data))

    def remove(self, file: Path) -> None:
        self.change(lambda: MemoryDisk.remove(self, file))

    def append_to(self, file: Path, data: bytes) -> None:
        self.change(lambda: MemoryDisk.append_to(self, file, data))

    def create(self, file: Path) -> NewFile:
        new = super().create(file)
        commit = new.commit
        new.commit = lambda: self.change(commit)  # type: ignore[method-assign]
        return new

    def change(self, make: Callable[[], None]) -> None:
        self.changes += 1
        crashes = self.crashes_at is not None and self.changes >= self.crashes_at
        if not crashes or (self.made and self.changes == self.crashes_at):
            make()
        if crashes:
            raise OSError(5, "the process died")


class Bystander:
    """A participant that takes no part."""

    def formed(self, port: Port, membership: Membership) -> None:
        pass

    def applied(self, request: Request, outcome: Outcome, now: float) -> None:
        pass

    def restored(self, now: float) -> None:
        pass

    def tick(self, now: float, footing: Footing) -> None:
        pass

    def next_at(self, now: float) -> float:
        return now

    async def stopped(self) -> None:
        pass


def directory(disk: MemoryDisk) -> DataDirectory:
    return opened_as_a(DATA, disk)


def voter(*commands: Command, committed: int = 5, disk: MemoryDisk | None = None) -> MemoryDisk:
    """A disk with what a voter has."""
    disk = disk if disk is not None else CrashingDisk()
    lay_out(DATA, disk, *commands, committed=committed)
    return disk


def recovered(disk: MemoryDisk) -> Recovered:
    return recover(DATA, disk, numbered())


def identity(disk: MemoryDisk) -> Identity:
    found = read_identity(DATA, disk)
    assert found is not None
    return found


def newest(disk: MemoryDisk) -> tuple[Heading, State]:
    readout = Readout(disk, snapshots_in(DATA, disk)[-1])
    for _ in readout.steps():
        pass
    return readout.heading, readout.state


async def start(disk: MemoryDisk) -> State:
    """A node that runs on it for a moment; its state."""
    host = SystemHost()
    host.disk = disk
    config = EngineConfig("orders", "a", "127.0.0.1:1", "127.0.0.1:1", {}, DATA, nonce="nonce")
    engine = Engine(config, Bystander(), host=host, on_failure=lambda error: None)
    await engine.start()
    try:
        return await engine.read(lambda state: state)
    finally:
        await engine.stop()


# --- what it makes ---------------------------------------------------------------------------------------------------


def test_all_that_is_in_the_log_is_in_the_new_cluster_committed_or_not():
    """What this replica has is all there is."""
    disk = voter(committed=4)

    done = recovered(disk)

    heading, state = newest(disk)
    assert sorted(state.records) == ["r1", "r2", "r3"]
    assert check(state) == []
    assert (done.entries, done.uncommitted, done.resources) == (5, 2, 3)
    assert (heading.index, heading.term) == (done.index, 4) == (7, 4)
    assert done.next_token == state.next_number > SKIPPED_NUMBERS


def test_this_replica_is_its_only_voter_under_a_new_id():
    """In the state, in the identity, and in what is told of it."""
    disk = voter()

    done = recovered(disk)

    heading, state = newest(disk)
    assert state.settings is not None
    assert heading.cluster_id == state.settings.cluster_id == identity(disk).cluster_id == done.cluster_id != LOST_ID
    assert state.settings.voters == (Voter("a", "id-1", "a:7000"),)
    assert state.settings.recovering
    assert identity(disk).members == {"a": "id-1"}
    assert (done.node, done.former_id, done.lost_voters, done.other_nodes) == ("a", LOST_ID, ("b", "c"), ("b", "c"))


def test_the_log_goes_on_after_the_new_snapshot_in_a_term_of_its_own():
    """A vote that was given in the old one is none."""
    disk = voter()

    done = recovered(disk)

    opened = directory(disk)
    opened.open_journal((done.index, 4))
    assert opened.journal[:] == [(b"\x01", done.index, 4)]
    assert (opened.journal.getCurrentTerm(), opened.journal.getVotedForNodeId()) == (4, None)


@on_a_loop
async def test_a_node_starts_on_it_with_all_that_it_had():
    disk = voter()
    recovered(disk)

    state = await start(disk)

    assert sorted(state.records) == ["r1", "r2", "r3"]


def test_it_begins_with_the_newest_good_snapshot_and_passes_over_a_damaged_one():
    """As a node does that starts; a recovery's own is such a one."""
    disk = voter()
    first = recovered(disk)

    second = recovered(disk)
    assert (second.snapshot, second.entries) == (first.index, 0)

    disk = voter()
    disk.files[DATA / "snapshot-00000000000000000006-2"] = b"pydrmsnp"
    assert recovered(disk).passed_over == (
        "/data/snapshot-00000000000000000006-2 is damaged at offset 0: it does not begin like a snapshot",
    )


# --- whenever it is interrupted --------------------------------------------------------------------------------------


@on_a_loop
@pytest.mark.parametrize("made", [False, True])
async def test_a_crash_at_any_moment_leaves_the_old_cluster_or_what_no_node_starts_on(made: bool):
    """And it can be run again, to the same end."""
    refused = 0
    for crashes_at in count(1):
        disk = CrashingDisk()
        voter(disk=disk)
        disk.changes, disk.crashes_at, disk.made = 0, crashes_at, made
        try:
            recovered(disk)
        except DiskFailed:
            crashed = True
        else:
            crashed = False
        assert disk.locked == set()
        disk.crashes_at = None

        before = identity(disk).cluster_id
        if snapshots_in(DATA, disk) and before == LOST_ID:
            with pytest.raises(ConfigurationError, match="pydrm recover --force-new-cluster /data"):
                await start(disk)
            refused += 1
        else:
            # Without a snapshot the old log is read again, by a node that has no majority for it.
            state = await start(disk)
            assert state.settings is None or state.settings.cluster_id == before

        if not crashed:
            break
        done = recovered(disk)
        heading, state = newest(disk)
        assert heading.cluster_id == identity(disk).cluster_id == done.cluster_id
        assert sorted(state.records) == ["r1", "r2", "r3"]
        await start(disk)
    assert refused >= 2


# --- what it refuses -------------------------------------------------------------------------------------------------


def refusal(disk: MemoryDisk) -> str:
    """Nothing was changed then but the count of boots."""
    before = {file: data for file, data in disk.files.items() if file.name != "identity.json"}
    with pytest.raises(ConfigurationError) as caught:
        recovered(disk)
    assert {file: data for file, data in disk.files.items() if file.name != "identity.json"} == before
    return str(caught.value)


def test_a_directory_that_is_in_use_is_refused():
    disk = voter()
    opened = directory(disk)

    assert "in use" in refusal(disk)
    opened.close()


def test_where_nothing_is_nothing_is_made():
    """A path with a slip of the pen in it."""
    disk = MemoryDisk()

    assert refusal(disk) == "data_dir: there is no node's data in /data"
    assert disk.files == {}


def test_a_node_that_was_never_part_of_a_cluster_is_refused():
    disk = MemoryDisk()
    directory(disk).close()

    assert "never part of a cluster" in refusal(disk)


@pytest.mark.parametrize(
    "log",
    [
        (Form(LOST_ID, VOTERS[1:], TTL_MS), add("r1")),
        (Form(LOST_ID, VOTERS[1:], TTL_MS), AddVoter("a", "id-of-another-a", "a:7000", 1)),
    ],
    ids=["worker", "emptied"],
)
def test_who_has_no_vote_is_refused(log: tuple[Command, ...]):
    """A worker, or a voter that lost its directory and followed the others since."""
    assert "a has no vote as replica id-1" in refusal(voter(*log, committed=3))


def test_a_log_that_does_not_say_what_the_cluster_is_is_refused():
    """Whoever was formed and then heard nothing more."""
    assert "does not say what the cluster consists of" in refusal(voter(add("r1"), committed=1))


def test_a_damaged_journal_is_refused_with_file_and_offset():
    disk = voter()
    opened = directory(disk)
    opened.open_journal(None)
    opened.journal.write(opened.journal.take_batch())
    opened.close()
    data = bytearray(disk.files[JOURNAL])
    data[60] ^= 1
    disk.files[JOURNAL] = bytes(data)

    assert f"{JOURNAL} is damaged at offset " in refusal(disk)


def test_a_damaged_snapshot_that_nothing_replaces_is_refused_with_file_and_offset():
    """The journal that goes on from it tells only the rest."""
    disk = voter()
    recovered(disk)
    file = snapshots_in(DATA, disk)[-1].path
    disk.files[file] = disk.files[file][:-1]

    message = refusal(disk)

    assert f"{file} is damaged at offset " in message
    assert f"{JOURNAL} is damaged at offset 0: the snapshot that it goes on from" in message


def test_a_snapshot_of_another_cluster_is_refused():
    """A file that was copied from another directory is no recovery that did not come to its end."""
    disk = voter()
    recovered(disk)
    _, state = newest(disk)
    assert state.settings is not None
    state.settings = replace(state.settings, recovering=False)
    picture = take(state)
    copied = Heading("orders-other", 6, 2, f"{state.digest:032x}", picture.head)
    other = voter()
    other.files[DATA / "snapshot-00000000000000000006-2"] = b"".join(encoded(copied, picture))

    assert "is of cluster orders-other" in refusal(other)


def test_an_entry_of_a_newer_version_is_not_skipped():
    """What it did is not known."""
    disk = voter()
    opened = directory(disk)
    opened.open_journal(None)
    opened.journal.add(b"\x00\x91\x93\x7f\xc0\x80", 7, 2)
    opened.journal.write(opened.journal.take_batch())
    opened.close()

    assert "entry 7" in refusal(disk)


def test_unfinished_snapshots_are_no_damage():
    """A crash in the middle of writing one has left it."""
    disk = voter()
    disk.files[DATA / "snapshot-00000000000000000006-2.new"] = b"pyd"

    recovered(disk)

    assert len(Snapshots(DATA, disk).kept) == 1
