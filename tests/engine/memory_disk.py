"""
A disk in memory for the tests of the engine: what is on it outlives the processes that use it, and it can fail.
"""

from __future__ import annotations

from pathlib import Path

from pydrm.engine.disk import SEGMENT_BYTES, AppendFile, LockedDirectory, NewFile
from pydrm.errors import ConfigurationError


class MemoryDisk:
    """
    Attributes:
        files: What is on it.
        fails_after: How many more bytes can be written before writing fails for good; None for ever. To put a new
            file in its place, or to remove one, counts as a byte.
        written_again: Which files were, and from where on.
    """

    def __init__(self, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.segment_bytes = segment_bytes
        self.files: dict[Path, bytes] = {}
        self.locked: set[Path] = set()
        self.fails_after: int | None = None
        self.written_again: list[tuple[Path, int]] = []

    def lock(self, directory: Path) -> LockedDirectory:
        if directory in self.locked:
            raise ConfigurationError(f"{directory} is in use", field="data_dir")
        self.locked.add(directory)
        return _Lock(self, directory)

    def read(self, file: Path) -> bytes | None:
        return self.files.get(file)

    def read_at(self, file: Path, offset: int, size: int) -> bytes:
        if file not in self.files:
            raise FileNotFoundError(str(file))
        return self.files[file][offset : offset + size]

    def names(self, directory: Path) -> list[str]:
        return sorted(file.name for file in self.files if file.parent == directory)

    def replace(self, file: Path, data: bytes) -> None:
        self.files[file] = data

    def create(self, file: Path) -> NewFile:
        return _NewFile(self, file)

    def open(self, file: Path) -> AppendFile:
        self.files.setdefault(file, b"")
        return _File(self, file)

    def remove(self, file: Path) -> None:
        self.spend(1)
        self.files.pop(file, None)

    def append_to(self, file: Path, data: bytes) -> None:
        self.files[file] += data if self.fails_after is None else data[: self.fails_after]
        self.spend(len(data))

    def spend(self, cost: int) -> None:
        room = self.fails_after
        if room is not None:
            self.fails_after = max(room - cost, 0)
            if room < cost:
                raise OSError(28, "No space left on device")


class _Lock:
    def __init__(self, disk: MemoryDisk, directory: Path) -> None:
        self.name = str(directory)
        self._disk = disk

    def release(self) -> None:
        self._disk.locked.discard(Path(self.name))


class _NewFile:
    """Discarded or not, it stays under its temporary name, as if the process had died."""

    def __init__(self, disk: MemoryDisk, file: Path) -> None:
        self._disk = disk
        self._file = file
        self._temporary = file.with_name(file.name + ".new")
        disk.files[self._temporary] = b""

    def write(self, data: bytes) -> None:
        self._disk.append_to(self._temporary, data)

    def commit(self) -> None:
        self._disk.spend(1)
        self._disk.files[self._file] = self._disk.files.pop(self._temporary)

    def discard(self) -> None:
        pass


class _File:
    def __init__(self, disk: MemoryDisk, file: Path) -> None:
        self._disk = disk
        self._file = file

    def read(self) -> bytes:
        return self._disk.files[self._file]

    def write_again(self, start: int) -> None:
        """What is written here is there."""
        self._disk.written_again.append((self._file, start))

    def cut(self, size: int) -> None:
        self._disk.files[self._file] = self.read()[:size]

    def append(self, data: bytes) -> None:
        self._disk.append_to(self._file, data)

    def close(self) -> None:
        pass
