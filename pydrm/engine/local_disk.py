"""
`LocalDisk`: the host's file system, and what has to be asked of it for something to be on disk.

    a file that grows       fdatasync after each write; its directory once, when it is made
    a file that is replaced written under another name, synced, renamed, and then its directory synced
    a directory             one process's, by a lock that the kernel gives back when that is gone
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from pydrm.engine.disk import SEGMENT_BYTES, AppendFile, LockedDirectory, NewFile
from pydrm.errors import ConfigurationError

__all__ = ["LocalDisk"]

# The inode and the lock of a directory on these may be seen by several hosts at once (mount(8), flock(2)).
_NETWORK_FILE_SYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs", "lustre", "ocfs2", "gfs2")


class LocalDisk:
    """The host's file system."""

    segment_bytes = SEGMENT_BYTES
    log_bytes = 8 * 1024 * 1024
    tail_bytes = 4 * 1024 * 1024

    def lock(self, directory: Path) -> LockedDirectory:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _FlockedDirectory(directory)

    def read(self, file: Path) -> bytes | None:
        try:
            return file.read_bytes()
        except FileNotFoundError:
            return None

    def size(self, file: Path) -> int:
        return file.stat().st_size

    def read_at(self, file: Path, offset: int, size: int) -> bytes:
        with file.open("rb") as stream:
            stream.seek(offset)
            return stream.read(size)

    def names(self, directory: Path) -> list[str]:
        return sorted(os.listdir(directory))

    def replace(self, file: Path, data: bytes) -> None:
        new = self.create(file)
        try:
            new.write(data)
            new.commit()
        finally:
            new.discard()

    def create(self, file: Path) -> NewFile:
        return _LocalNewFile(file)

    def open(self, file: Path) -> AppendFile:
        return _LocalFile(file)

    def remove(self, file: Path) -> None:
        file.unlink(missing_ok=True)


class _FlockedDirectory:
    def __init__(self, directory: Path) -> None:
        self._descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip()
            self.release()
            message = f"{directory} is in use by process {holder or 'unknown'}; give each node a directory of its own"
            raise ConfigurationError(message, field="data_dir") from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        self.name = self._name(directory)

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _name(self, directory: Path) -> str:
        if _file_system(directory).startswith(_NETWORK_FILE_SYSTEMS):
            return ""
        try:
            host_boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return ""
        status = os.fstat(self._descriptor)
        return f"{status.st_dev}:{status.st_ino}:{host_boot}"


class _LocalNewFile:
    def __init__(self, file: Path) -> None:
        self._file = file
        self._temporary = file.with_name(file.name + ".new")
        self._descriptor = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def write(self, data: bytes) -> None:
        _write_all(self._descriptor, data)

    def commit(self) -> None:
        os.fsync(self._descriptor)
        self._close()
        self._temporary.rename(self._file)
        _sync_directory(self._file.parent)

    def discard(self) -> None:
        if self._descriptor >= 0:
            self._close()
            self._temporary.unlink(missing_ok=True)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)


class _LocalFile:
    def __init__(self, file: Path) -> None:
        self._file = file
        self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.lseek(self._descriptor, 0, os.SEEK_END)
        _sync_directory(file.parent)

    def read(self) -> bytes:
        return self._file.read_bytes()

    def cut(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)
        os.lseek(self._descriptor, size, os.SEEK_SET)
        os.fsync(self._descriptor)

    def write_again(self, start: int) -> None:
        data = self._file.read_bytes()[start:]
        if data:
            os.pwrite(self._descriptor, data, start)
        os.fsync(self._descriptor)

    def append(self, data: bytes) -> None:
        _write_all(self._descriptor, data)
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync_directory(path: Path) -> None:
    """Make what was created or renamed in *path* survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _file_system(path: Path) -> str:
    """The type of the file system that *path* is on, as /proc/self/mountinfo names it; "" if that is not known."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return ""
    for mount in mounts:
        fields, _, source = mount.partition(" - ")
        if fields.split()[2] == wanted:
            return source.split()[0]
    return ""
