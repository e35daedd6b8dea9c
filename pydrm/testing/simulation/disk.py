"""
`SimDisk`: files that survive a killed process, and a power cut only as far as they were synced.

What is appended is durable when `append` returns. A kill or a power cut in between leaves a part of it, which is
what `torn` decides; that is how half a record, or half a file under its temporary name, comes to be on a disk.
"""

from __future__ import annotations

import errno
from pathlib import Path
from random import Random
from typing import Any

from pydrm.errors import ConfigurationError

__all__ = ["SimDisk"]


class SimDisk:
    """
    Attributes:
        full: No more room: an append leaves a part of it and fails.
        broken: Nothing can be written or synced.
        segment_bytes, log_bytes, tail_bytes: So few that segments and snapshots come and go all the time.
    """

    segment_bytes = 1024
    log_bytes = 20 * 1024
    tail_bytes = 3 * 1024

    def __init__(self, random: Random) -> None:
        self.full = False
        self.broken = False
        self._random = random
        self._files: dict[Path, bytearray] = {}
        self._locks: dict[Path, Any] = {}
        self._name = 0
        self._torn = False
        self._dead = False

    def wipe(self) -> None:
        """The disk was replaced by an empty one."""
        self._files.clear()
        self._name += 1

    def process_gone(self) -> None:
        """Its locks are free again."""
        self._locks.clear()

    def torn(self) -> SimDisk:
        """From now on the process dies, in the middle of the next thing that it does here or of a later one."""
        self._torn = True
        return self

    def mended(self) -> None:
        self._torn = self._dead = False

    # --- Disk --------------------------------------------------------------------------------------------------------

    def lock(self, directory: Path) -> _Lock:
        if directory in self._locks:
            raise ConfigurationError(f"{directory} is in use by another process", field="data_dir")
        lock = _Lock(self._locks, directory, f"disk{self._name}")
        self._locks[directory] = lock
        return lock

    def read(self, file: Path) -> bytes | None:
        content = self._files.get(file)
        return bytes(content) if content is not None else None

    def size(self, file: Path) -> int:
        return len(self._content(file))

    def read_at(self, file: Path, offset: int, size: int) -> bytes:
        return bytes(self._content(file)[offset : offset + size])

    def names(self, directory: Path) -> list[str]:
        return sorted(file.name for file in self._files if file.parent == directory)

    def replace(self, file: Path, data: bytes) -> None:
        self._check(0)
        self._files[file] = bytearray(data)

    def create(self, file: Path) -> _NewFile:
        self._check(0)
        temporary = file.with_name(file.name + ".new")
        content = self._files[temporary] = bytearray()
        return _NewFile(self, file, temporary, content)

    def remove(self, file: Path) -> None:
        self._check(0, needs_room=False)
        if not self._dies() or self._random.random() < 0.5:
            self._files.pop(file, None)
        self._check_life()

    def open(self, file: Path) -> _File:
        content = self._files.setdefault(file, bytearray())
        return _File(self, content)

    def _content(self, file: Path) -> bytearray:
        if file not in self._files:
            raise FileNotFoundError(errno.ENOENT, "No such file", str(file))
        return self._files[file]

    def append_to(self, content: bytearray, data: bytes) -> None:
        self._check_life()
        if self.full or self._dies():
            content += data[: self._random.randrange(len(data) + 1)]
            self._check_life()
        self._check(len(data))
        content += data

    def put_in_place(self, temporary: Path, file: Path, content: bytearray) -> None:
        self._check(0)
        # A process that dies in here has made the rename, or has not.
        if not self._dies() or self._random.random() < 0.5:
            self._files[file] = content
            self._files.pop(temporary, None)
        self._check_life()

    def drop(self, temporary: Path) -> None:
        if not self._dead:
            self._files.pop(temporary, None)

    def _dies(self) -> bool:
        if self._torn and self._random.random() < 0.5:
            self._dead = True
        return self._dead

    def _check_life(self) -> None:
        if self._dead:
            raise OSError(errno.EIO, "the process died")

    def _check(self, size: int, *, needs_room: bool = True) -> None:
        self._check_life()
        if self.broken:
            raise OSError(errno.EIO, "Input/output error")
        if self.full and needs_room:
            raise OSError(errno.ENOSPC, "No space left on device")


class _Lock:
    def __init__(self, locks: dict[Path, Any], directory: Path, name: str) -> None:
        self.name = name
        self._locks = locks
        self._directory = directory

    def release(self) -> None:
        if self._locks.get(self._directory) is self:
            del self._locks[self._directory]


class _NewFile:
    """Its content is in the page cache until `commit`; a power cut leaves any part of it, under its temporary name."""

    def __init__(self, disk: SimDisk, file: Path, temporary: Path, content: bytearray) -> None:
        self._disk = disk
        self._file = file
        self._temporary = temporary
        self._content = content
        self._open = True

    def write(self, data: bytes) -> None:
        self._disk.append_to(self._content, data)

    def commit(self) -> None:
        self._open = False
        self._disk.put_in_place(self._temporary, self._file, self._content)

    def discard(self) -> None:
        if self._open:
            self._open = False
            self._disk.drop(self._temporary)


class _File:
    def __init__(self, disk: SimDisk, content: bytearray) -> None:
        self._disk = disk
        self._content = content

    def read(self) -> bytes:
        return bytes(self._content)

    def cut(self, size: int) -> None:
        del self._content[size:]

    def write_again(self, start: int) -> None:
        pass

    def append(self, data: bytes) -> None:
        self._disk.append_to(self._content, data)

    def close(self) -> None:
        pass
