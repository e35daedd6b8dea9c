"""
`Disk`: the few things that are asked of a file system, each durable when it returns.

`local_disk` has the host's. A simulation has one of its own, on which the power can fail between any two of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

__all__ = ["SEGMENT_BYTES", "AppendFile", "Disk", "Files", "LockedDirectory", "MemoryFiles", "NewFile"]

SEGMENT_BYTES = 16 * 1024 * 1024


class LockedDirectory(Protocol):
    """
    Attributes:
        name: Names this very directory on this very boot of the host; "" where a lock would not prove that the
            process which had it before is gone.
    """

    name: str

    def release(self) -> None:
        """Idempotent."""


class AppendFile(Protocol):
    """A file that grows at its end."""

    def read(self) -> bytes:
        """All of it."""

    def cut(self, size: int) -> None:
        """Keep the first *size* bytes; all that is left is on disk when this returns."""

    def write_again(self, start: int) -> None:
        """
        Write what is there from *start* on once more, in place; on disk when this returns.

        After a failed sync the kernel may take pages for clean that never reached the disk, so that a later sync
        passes them over; only writing them again makes them dirty (Rebello et al., USENIX ATC 2020).
        """

    def append(self, data: bytes) -> None:
        """Write at the end; on disk when this returns. From any thread, one at a time."""

    def close(self) -> None:
        """Idempotent."""


class NewFile(Protocol):
    """A file that is written from its beginning to its end, and is not there before it is whole."""

    def write(self, data: bytes) -> None: ...

    def commit(self) -> None:
        """Put it in the place of any former one; on disk when this returns."""

    def discard(self) -> None:
        """Have it never been there. Idempotent; nothing after `commit`."""


class Files(Protocol):
    """Files that are written whole. Every method may raise OSError."""

    def size(self, file: Path) -> int:
        """In bytes. Raises FileNotFoundError."""

    def read_at(self, file: Path, offset: int, size: int) -> bytes:
        """*size* bytes from *offset* on, fewer only at the end. Raises FileNotFoundError."""

    def names(self, directory: Path) -> list[str]:
        """What is in *directory*, sorted; with what an interrupted `create` left, which is called NAME.new."""

    def create(self, file: Path) -> NewFile:
        """Begin a file of any length."""

    def remove(self, file: Path) -> None:
        """Idempotent. After a power cut it may be there again."""


class Disk(Files, Protocol):
    """
    Every method may raise OSError.

    Attributes:
        segment_bytes: How long a file that only grows may become before another is begun.
        log_bytes: How long the log becomes at least before a snapshot takes its place.
        tail_bytes: How much of the log before a snapshot stays in memory, for peers that are a little behind.
    """

    segment_bytes: int
    log_bytes: int
    tail_bytes: int

    def lock(self, directory: Path) -> LockedDirectory:
        """Make the directory if it is not there, and lock it. Raises ConfigurationError if another process has it."""

    def read(self, file: Path) -> bytes | None:
        """All of it; None if it is not there."""

    def replace(self, file: Path, data: bytes) -> None:
        """Give *file* this content, whole or not at all; on disk when this returns."""

    def open(self, file: Path) -> AppendFile:
        """Make the file if it is not there."""


class MemoryFiles:
    """For a node that keeps nothing."""

    def __init__(self) -> None:
        self._files: dict[Path, bytes] = {}

    def size(self, file: Path) -> int:
        return len(self._files[file])

    def read_at(self, file: Path, offset: int, size: int) -> bytes:
        return self._files[file][offset : offset + size]

    def names(self, directory: Path) -> list[str]:
        return sorted(file.name for file in self._files if file.parent == directory)

    def create(self, file: Path) -> NewFile:
        return _MemoryNewFile(self._files, file)

    def remove(self, file: Path) -> None:
        self._files.pop(file, None)


class _MemoryNewFile:
    def __init__(self, files: dict[Path, bytes], file: Path) -> None:
        self._files = files
        self._file = file
        self._content = bytearray()

    def write(self, data: bytes) -> None:
        self._content += data

    def commit(self) -> None:
        self._files[self._file] = bytes(self._content)

    def discard(self) -> None:
        self._content.clear()
