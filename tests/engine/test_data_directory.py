"""
`DataDirectory`: a voter that comes back is the one that it was, or is not let in.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from pydrm.engine.data_directory import DataDirectory, Identity
from pydrm.engine.disk import Disk
from pydrm.engine.journal import JournalDamaged
from pydrm.engine.local_disk import LocalDisk
from pydrm.errors import ConfigurationError, DiskFailed
from tests.engine.memory_disk import MemoryDisk

DATA = Path("/data")
IDENTITY = DATA / "identity.json"
JOURNAL = DATA / "journal-00000000000000000001"
MEMBERS = {"a": "id-1", "b": "id-of-b", "c": "id-of-c"}


def numbered() -> Callable[[], str]:
    numbers = count(1)
    return lambda: f"id-{next(numbers)}"


def opened(
    disk: Disk,
    path: Path | None = DATA,
    *,
    cluster: str = "orders",
    node: str = "a",
    new_id: Callable[[], str] | None = None,
    snapshot: tuple[int, int] | None = None,
) -> DataDirectory:
    directory = DataDirectory(path, cluster, node, disk=disk, new_id=new_id or numbered())
    try:
        directory.open_journal(snapshot)
    except BaseException:
        directory.close()
        raise
    return directory


def formed_disk() -> MemoryDisk:
    """A disk on which node a was formed with b and c, and then stopped."""
    disk = MemoryDisk()
    directory = opened(disk)
    directory.form("orders-1", MEMBERS)
    directory.close()
    return disk


def rewritten(disk: MemoryDisk, **fields: object) -> None:
    disk.files[IDENTITY] = json.dumps(json.loads(disk.files[IDENTITY]) | fields).encode()


# --- who it is -------------------------------------------------------------------------------------------------------


def test_a_new_directory_gets_ids_of_its_own():
    """It belongs to no formed cluster yet."""
    directory = opened(MemoryDisk())

    assert directory.identity == Identity("orders", "a", replica_id="id-1", directory_id="id-2", boot=1)
    assert directory.empty


def test_the_replica_id_stays_and_boots_are_counted():
    """Others know by the id that it has not forgotten its votes, and by the boot which process is the newest."""
    disk = MemoryDisk()
    identities = []
    for _ in range(3):
        directory = opened(disk)
        identities.append(directory.identity)
        directory.close()

    assert [identity.boot for identity in identities] == [1, 2, 3]
    assert {(identity.replica_id, identity.directory_id) for identity in identities} == {("id-1", "id-2")}


def test_what_it_was_formed_with_stays():
    """The cluster's id and the replica ids of all voters; on disk when `form` returns."""
    again = opened(formed_disk())

    assert again.identity == Identity("orders", "a", "id-1", "id-2", cluster_id="orders-1", members=MEMBERS, boot=2)
    assert not again.empty


def test_the_journal_comes_back_with_it():
    """What was written to it before is its content now."""
    disk = formed_disk()
    directory = opened(disk)
    directory.journal.add(b"one", 1, 1)
    directory.journal.write(directory.journal.take_batch())
    directory.close()

    assert opened(disk).journal[:] == [(b"one", 1, 1)]


def test_the_journal_goes_on_from_the_newest_snapshot():
    """What the snapshot covers is not there any more, and what comes after it is."""
    disk = formed_disk()
    directory = opened(disk)
    for index in (1, 2, 3):
        directory.journal.add(b"entry", index, 1)
    directory.journal.write(directory.journal.take_batch())
    directory.close()

    again = opened(disk, snapshot=(2, 1))

    assert again.journal.base == (2, 1)
    assert [index for _, index, _ in again.journal[:]] == [2, 3]


def test_without_a_path_it_is_made_up_in_memory():
    """Nothing is written, and nothing on this host can be told from it."""
    disk = MemoryDisk()
    directory = opened(disk, None)
    directory.form("orders-1", {"a": "id-1"})
    directory.journal.add(b"one", 1, 1)

    assert directory.identity.boot == 1
    assert directory.on_this_host == ""
    assert not directory.empty
    assert not directory.journal.dirty
    assert disk.files == {}


def test_the_same_directory_is_known_again_on_this_host():
    """So a process that was restarted takes its resources back at once."""
    disk = MemoryDisk()
    first = opened(disk)
    name = first.on_this_host
    first.close()

    assert name == f"id-2:{DATA}"
    assert opened(disk).on_this_host == name


def test_a_copy_of_a_directory_is_another_directory(tmp_path: Path):
    """Its lock does not prove that the process on the original is gone."""
    original = opened(LocalDisk(), tmp_path / "one")
    (tmp_path / "two").mkdir()
    for file in ("identity.json", JOURNAL.name):
        (tmp_path / "two" / file).write_bytes((tmp_path / "one" / file).read_bytes())

    copy = opened(LocalDisk(), tmp_path / "two")

    assert copy.identity.directory_id == original.identity.directory_id
    assert copy.on_this_host != original.on_this_host


# --- who is not let in -----------------------------------------------------------------------------------------------


def test_a_directory_in_use_is_refused():
    """By the lock, before anything is read."""
    disk = MemoryDisk()
    opened(disk)

    with pytest.raises(ConfigurationError, match="in use"):
        opened(disk)


def test_the_lock_names_its_holder_and_is_given_back(tmp_path: Path):
    """On a real disk; whoever is refused gives back nothing that is not its own."""
    first = opened(LocalDisk(), tmp_path)
    with pytest.raises(ConfigurationError, match=f"in use by process {os.getpid()}"):
        opened(LocalDisk(), tmp_path)

    first.close()

    assert opened(LocalDisk(), tmp_path).identity.boot == 2


@pytest.mark.parametrize("other", [{"node": "b"}, {"cluster": "invoices"}])
def test_another_nodes_directory_is_refused(other: dict[str, str]):
    """A journal is one voter's memory, and nobody else's."""
    disk = formed_disk()

    with pytest.raises(ConfigurationError, match="/data is of node a, cluster orders; not of") as refusal:
        opened(disk, **other)
    assert refusal.value.field == "data_dir"


def test_a_journal_that_is_missing_after_forming_is_refused():
    """Votes were in it."""
    disk = formed_disk()
    del disk.files[JOURNAL]

    with pytest.raises(ConfigurationError, match="the journal is missing from /data: restore it") as refusal:
        opened(disk)
    assert refusal.value.field == "data_dir"


def test_half_a_segment_is_no_journal():
    """A crash left it; it was never part of one."""
    disk = formed_disk()
    disk.files[JOURNAL.with_name(f"{JOURNAL.name}.new")] = disk.files.pop(JOURNAL)

    with pytest.raises(ConfigurationError, match="the journal is missing from /data"):
        opened(disk)


def test_a_snapshot_does_not_stand_in_for_a_journal_that_is_missing():
    """Votes are in no snapshot."""
    disk = formed_disk()
    del disk.files[JOURNAL]

    with pytest.raises(ConfigurationError, match="the journal is missing from /data"):
        opened(disk, snapshot=(7, 1))


def test_a_later_segment_is_a_journal_too():
    """The first ones are removed once a snapshot has what is in them."""
    disk = formed_disk()
    disk.segment_bytes = 1
    journal = opened(disk).journal
    for index in (1, 2):
        journal.add(b"entry", index, 1)
        journal.write(journal.take_batch())
    disk.locked.clear()
    journal.free(1)
    assert JOURNAL not in disk.files

    assert opened(disk, snapshot=(1, 1)).journal[1:] == [(b"entry", 2, 1)]
    del disk.files[IDENTITY]
    disk.locked.clear()
    with pytest.raises(ConfigurationError, match=r"identity\.json is missing beside a journal"):
        opened(disk)


def test_an_empty_journal_after_forming_is_refused():
    """A file system that lost its content leaves one."""
    disk = formed_disk()
    disk.files[JOURNAL] = b""

    with pytest.raises(JournalDamaged, match="its beginning is missing"):
        opened(disk)


def test_an_identity_that_is_missing_beside_a_journal_is_refused():
    """A new identity would make a voter of one that may have forgotten who it was."""
    disk = formed_disk()
    del disk.files[IDENTITY]

    with pytest.raises(ConfigurationError, match=r"identity\.json is missing beside a journal") as refusal:
        opened(disk)
    assert refusal.value.field == "data_dir"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"cluster": "orders"}', b"\xff"])
def test_an_identity_that_cannot_be_read_is_refused(content: bytes):
    """The file is named, and left as it is."""
    disk = formed_disk()
    disk.files[IDENTITY] = content

    with pytest.raises(ConfigurationError, match=r"/data/identity\.json cannot be read") as refusal:
        opened(disk)
    assert refusal.value.field == "data_dir"
    assert disk.files[IDENTITY] == content


def test_a_format_of_a_newer_version_is_refused():
    """The version that wrote it reads it."""
    disk = formed_disk()
    rewritten(disk, format=2)

    with pytest.raises(ConfigurationError, match="has format 2; this pydrm reads 1") as refusal:
        opened(disk)
    assert refusal.value.field == "data_dir"


def test_whoever_is_refused_gives_the_lock_back():
    """The right one can start at once."""
    disk = formed_disk()
    with pytest.raises(ConfigurationError):
        opened(disk, node="b")

    assert opened(disk).identity.node == "a"


def test_a_disk_that_fails_is_named():
    """It is not the configuration that is wrong."""
    disk = MemoryDisk()
    disk.fails_after = 5

    with pytest.raises(DiskFailed, match=r"data directory /data: .*No space left on device"):
        opened(disk)
    assert disk.locked == set()


# --- what a crash leaves ---------------------------------------------------------------------------------------------


def test_an_identity_without_a_journal_is_a_first_start_that_crashed():
    """The identity is written first; nothing was voted yet."""
    disk = MemoryDisk()
    opened(disk).close()
    del disk.files[JOURNAL]

    again = opened(disk)

    assert again.empty
    assert again.identity.replica_id == "id-1"
    assert disk.files[JOURNAL] != b""


def test_leftovers_of_a_crash_do_not_matter(tmp_path: Path):
    """A first start that crashed before the identity took its place leaves a lock and half a file."""
    (tmp_path / "lock").write_text("12345678\n")
    (tmp_path / "identity.json.new").write_text('{"clus')

    directory = opened(LocalDisk(), tmp_path)

    assert directory.identity.boot == 1
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["identity.json", JOURNAL.name, "lock"]
