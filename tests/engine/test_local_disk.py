"""
`LocalDisk`: what it says is on disk is there, and a directory is one process's.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pydrm.engine import local_disk
from pydrm.engine.local_disk import LocalDisk
from pydrm.errors import ConfigurationError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- the lock --------------------------------------------------------------------------------------------------------


def test_a_directory_is_made_for_its_owner_only(tmp_path: Path):
    """What is in it is the cluster's state."""
    directory = tmp_path / "some" / "node"

    LocalDisk().lock(directory)

    assert mode(directory) == 0o700
    assert mode(directory / "lock") == 0o600


def test_a_second_opener_is_refused_and_told_who_has_it(tmp_path: Path):
    """Two processes on one journal would be two votes."""
    first = LocalDisk().lock(tmp_path)

    with pytest.raises(ConfigurationError, match=f"in use by process {os.getpid()}; give each node") as refusal:
        LocalDisk().lock(tmp_path)
    assert refusal.value.field == "data_dir"

    first.release()
    LocalDisk().lock(tmp_path).release()


def test_a_refused_opener_leaves_the_lock_with_its_holder(tmp_path: Path):
    """Closing the second descriptor must not unlock the first, as it would with POSIX record locks."""
    LocalDisk().lock(tmp_path)

    for _ in range(2):
        with pytest.raises(ConfigurationError, match=str(os.getpid())):
            LocalDisk().lock(tmp_path)


def test_a_lock_is_given_back_once(tmp_path: Path):
    """A descriptor that is closed twice could be another file's the second time."""
    lock = LocalDisk().lock(tmp_path)
    lock.release()
    with (tmp_path / "other").open("w") as other:
        lock.release()

        assert os.fstat(other.fileno())


def test_a_directory_has_the_same_name_each_time(tmp_path: Path):
    """Who holds the lock of the directory with this name knows that its holder before is gone."""
    names = set()
    for _ in range(2):
        lock = LocalDisk().lock(tmp_path)
        names.add(lock.name)
        lock.release()
    other = LocalDisk().lock(tmp_path / "other")

    assert len(names) == 1
    assert "" not in names
    assert other.name not in names


def test_a_directory_on_a_network_file_system_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """There its lock proves nothing about a process on another host."""
    monkeypatch.setattr(local_disk, "_file_system", lambda path: "nfs4")

    assert LocalDisk().lock(tmp_path).name == ""


# --- small files -----------------------------------------------------------------------------------------------------


def test_a_file_that_is_not_there_reads_as_none(tmp_path: Path):
    """An empty file is another thing."""
    (tmp_path / "empty").touch()

    assert LocalDisk().read(tmp_path / "nothing") is None
    assert LocalDisk().read(tmp_path / "empty") == b""


def test_a_file_is_replaced_as_a_whole(tmp_path: Path):
    """A longer one that was there before leaves nothing behind, and neither does a crash in between."""
    file = tmp_path / "identity.json"
    file.write_bytes(b"a long content of before")
    (tmp_path / "identity.json.new").write_bytes(b"an even longer content that a crash has left behind")

    LocalDisk().replace(file, b"new")

    assert file.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["identity.json"]


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    """What is synced, in order: its name, and what was in the directory (itself, or where it is) at that moment."""
    seen: list[tuple[str, list[str]]] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        seen.append((path.name, sorted(os.listdir(path if path.is_dir() else path.parent))))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    return seen


def test_a_file_is_synced_before_it_takes_its_place_and_the_directory_afterwards(
    tmp_path: Path, synced: list[tuple[str, list[str]]]
):
    """Without the first a power cut could leave an empty file, without the second the former one, or none."""
    LocalDisk().replace(tmp_path / "identity.json", b"new")

    assert synced == [("identity.json.new", ["identity.json.new"]), (tmp_path.name, ["identity.json"])]


def test_the_directory_is_synced_once_a_file_that_grows_is_made(tmp_path: Path, synced: list[tuple[str, list[str]]]):
    """What is appended to it is of no use to anybody if the file is not there after a power cut."""
    LocalDisk().open(tmp_path / "journal").close()

    assert synced == [(tmp_path.name, ["journal"])]


def test_a_file_that_cannot_be_synced_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It takes its place only when it is on disk."""
    file = tmp_path / "identity.json"
    file.write_bytes(b"old")

    def fails(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fails)

    with pytest.raises(OSError, match="Input/output error"):
        LocalDisk().replace(file, b"new")
    assert file.read_bytes() == b"old"


# --- a file that grows -----------------------------------------------------------------------------------------------


def test_what_is_appended_follows_what_is_there(tmp_path: Path):
    """From one process to the next."""
    path = tmp_path / "journal"
    file = LocalDisk().open(path)
    file.append(b"one ")
    file.append(b"two ")
    file.close()

    again = LocalDisk().open(path)
    again.cut(len(again.read()))
    again.append(b"three")

    assert again.read() == path.read_bytes() == b"one two three"
    assert mode(path) == 0o600


def test_what_is_appended_first_goes_to_the_end_too(tmp_path: Path):
    """Whoever opens it need not know how long it is."""
    path = tmp_path / "journal"
    path.write_bytes(b"one ")

    file = LocalDisk().open(path)
    file.append(b"two")

    assert file.read() == b"one two"


def test_what_is_cut_off_is_gone_and_what_follows_takes_its_place(tmp_path: Path):
    """The next byte goes where the cut was made, without a hole."""
    file = LocalDisk().open(tmp_path / "journal")
    file.append(b"0123456789")

    file.cut(4)
    file.append(b"abc")

    assert file.read() == b"0123abc"


def test_writing_again_writes_the_same_bytes_to_the_same_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The content stays; the pages are dirty again, so that the next sync cannot pass them over."""
    written = []
    pwrite = os.pwrite

    def noted(descriptor: int, data: bytes, offset: int) -> int:
        written.append((bytes(data), offset))
        return pwrite(descriptor, data, offset)

    file = LocalDisk().open(tmp_path / "journal")
    file.append(b"0123456789")
    monkeypatch.setattr(os, "pwrite", noted)

    file.write_again(6)
    file.append(b"abc")
    file.write_again(13)

    assert written == [(b"6789", 6)]
    assert file.read() == b"0123456789abc"


def test_a_short_write_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """write(2) may take less than it was given."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    file = LocalDisk().open(tmp_path / "journal")

    file.append(b"0123456789")

    assert file.read() == b"0123456789"


def test_a_file_is_closed_once(tmp_path: Path):
    """A descriptor that is closed twice could be another file's the second time."""
    file = LocalDisk().open(tmp_path / "journal")
    file.close()
    with (tmp_path / "other").open("w") as other:
        file.close()

        assert os.fstat(other.fileno())
