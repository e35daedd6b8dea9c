"""
A disk in memory for the tests of the engine: what is on it outlives the processes that use it, and it can fail.
"""

from __future__ import annotations

from pathlib import Path

from pydrm.engine.disk import AppendFile, LockedDirectory
from pydrm.errors import ConfigurationError


class MemoryDisk:
    """
    Attributes:
        files: What is on it.
        fails_after: How many more bytes can be appended before writing fails for good; None for ever.
    """

    def __init__(self) -> None:
        self.files: dict[Path, bytes] = {}
        self.locked: set[Path] = set()
        self.fails_after: int | None = None

    def lock(self, directory: Path) -> LockedDirectory:
        if directory in self.locked:
            raise ConfigurationError(f"{directory} is in use", field="data_dir")
        self.locked.add(directory)
        return _Lock(self, directory)

    def read(self, file: Path) -> bytes | None:
        return self.files.get(file)

    def replace(self, file: Path, data: bytes) -> None:
        self.files[file] = data

    def open(self, file: Path) -> AppendFile:
        self.files.setdefault(file, b"")
        return _File(self, file)


class _Lock:
    def __init__(self, disk: MemoryDisk, directory: Path) -> None:
        self.name = str(directory)
        self._disk = disk

    def release(self) -> None:
        self._disk.locked.discard(Path(self.name))


class _File:
    def __init__(self, disk: MemoryDisk, file: Path) -> None:
        self._disk = disk
        self._file = file

    def read(self) -> bytes:
        return self._disk.files[self._file]

    def write_again(self, start: int) -> None:
        """What is written here is there."""

    def cut(self, size: int) -> None:
        self._disk.files[self._file] = self.read()[:size]

    def append(self, data: bytes) -> None:
        room = self._disk.fails_after
        if room is not None:
            self._disk.fails_after = max(room - len(data), 0)
            if room < len(data):
                self._disk.files[self._file] += data[:room]
                raise OSError(28, "No space left on device")
        self._disk.files[self._file] += data

    def close(self) -> None:
        pass
