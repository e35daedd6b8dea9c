"""
`Snapshots`: the state as of one entry of the log, in a file of its own, so that the log up to there can go.

    file    header, then blocks
    header  "pydrmsnp", version (u32)
    block   length of the body (u32), number of the block (u32), CRC-32 of number and body (u32), body
            the first body is a `Heading`, each further one (section, records): see `core.picture`
            (msgpack; all other numbers are little-endian)

A file is written from a picture that was taken between two entries, while the log goes on, and it is there whole or not
at all. The newest two are kept, and the log from the older one on: if the newer is damaged, nothing is lost.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import attrs
import msgspec

from pydrm.core.picture import SECTION_TYPES, Head, Picture, Section
from pydrm.engine.codec import UNREADABLE
from pydrm.engine.disk import Files, MemoryFiles, NewFile
from pydrm.errors import ConfigurationError

__all__ = ["Heading", "Snapshot", "SnapshotDamaged", "Snapshots", "blocks", "encoded", "snapshots_in"]

_MAGIC = b"pydrmsnp"
_VERSION = 1
_HEADER = struct.Struct("<8sI")
_BLOCK = struct.Struct("<III")
_BLOCK_BYTES_MAX = 64 * 1024 * 1024
_READ_BYTES = 1024 * 1024
_KEPT = 2
_PREFIX = "snapshot-"

_encoder = msgspec.msgpack.Encoder()
_block_decoder = msgspec.msgpack.Decoder(tuple[str, msgspec.Raw])


class SnapshotDamaged(ConfigurationError):
    """A snapshot cannot be read; the message names file and offset."""

    def __init__(self, path: Path, offset: int, what: str) -> None:
        super().__init__(f"{path} is damaged at offset {offset}: {what}", field="data_dir")


class Heading(msgspec.Struct, frozen=True):
    """
    What a snapshot is of.

    Attributes:
        index, term: The last entry of the log that it covers.
        digest: The state's, as `State.digest` gives it, in hexadecimal.
    """

    cluster_id: str
    index: int
    term: int
    digest: str
    head: Head


@attrs.frozen
class Snapshot:
    """One that is there."""

    path: Path
    index: int
    term: int
    size: int


class Snapshots:
    """
    Those of one data directory; without one, in memory.

    Attributes:
        files: Where they are.
        kept: What may be used, oldest first.
    """

    def __init__(self, directory: Path | None, files: Files) -> None:
        """Raises OSError."""
        self._directory = directory or Path()
        self.files = files if directory is not None else MemoryFiles()
        for name in self.files.names(self._directory):
            if name.startswith(_PREFIX) and name.endswith(".new"):
                self.files.remove(self._directory / name)  # it was never whole
        self.kept = snapshots_in(self._directory, self.files)

    @property
    def newest(self) -> Snapshot | None:
        return self.kept[-1] if self.kept else None

    def create(self, index: int, term: int) -> NewFile:
        """Begin the one of entry *index*. From any thread. Raises OSError."""
        return self.files.create(self._path(index, term))

    def add(self, index: int, term: int) -> Snapshot:
        """The one of entry *index* is complete. Raises OSError."""
        path = self._path(index, term)
        snapshot = Snapshot(path, index, term, self.files.size(path))
        self.kept = sorted([*(other for other in self.kept if other.index != index), snapshot], key=_by_index)
        return snapshot

    def surplus(self, in_use: set[int]) -> list[Snapshot]:
        """Those that are not needed any more; they are forgotten, and to be given to `remove`."""
        surplus = [snapshot for snapshot in self.kept[:-_KEPT] if snapshot.index not in in_use]
        self.kept = [snapshot for snapshot in self.kept if snapshot not in surplus]
        return surplus

    def forget(self, index: int) -> None:
        """That of entry *index* is damaged, and must not be used again; its file stays, for people to look at."""
        self.kept = [other for other in self.kept if other.index != index]

    def remove(self, snapshots: list[Snapshot]) -> None:
        """Delete the files. From any thread. Raises OSError."""
        for snapshot in snapshots:
            self.files.remove(snapshot.path)

    def read(self, snapshot: Snapshot, offset: int, size: int) -> bytes:
        """A part of its file. From any thread. Raises OSError."""
        return self.files.read_at(snapshot.path, offset, size)

    def _path(self, index: int, term: int) -> Path:
        return self._directory / f"{_PREFIX}{index:020d}-{term}"


def snapshots_in(directory: Path, files: Files) -> list[Snapshot]:
    """Those that are there, oldest first. Raises OSError."""
    found = []
    for name in files.names(directory):
        if name.startswith(_PREFIX) and not name.endswith(".new"):
            index, term = name.removeprefix(_PREFIX).split("-")
            found.append(Snapshot(directory / name, int(index), int(term), files.size(directory / name)))
    return found


def _by_index(snapshot: Snapshot) -> int:
    return snapshot.index


def encoded(heading: Heading, picture: Picture) -> Iterator[bytes]:
    """The content of a file, in pieces that are each made in a few milliseconds."""
    yield _HEADER.pack(_MAGIC, _VERSION) + _block(0, _encoder.encode(heading))
    number = 0
    for section in Section:
        for items in picture.chunks(section):
            number += 1
            yield _block(number, _encoder.encode((section.value, items)))


def _block(number: int, body: bytes) -> bytes:
    return _BLOCK.pack(len(body), number, _crc(number, body)) + body


def _crc(number: int, body: bytes) -> int:
    return zlib.crc32(body, number)


def blocks(files: Files, path: Path) -> Iterator[Heading | tuple[Section, list[msgspec.Struct]]]:
    """
    Read the file at *path*: its heading, then its records, block by block.

    Whether all records are there is for who restores them to check.

    Raises:
        SnapshotDamaged: It is not as it was written.
        ConfigurationError: A newer version of pydrm wrote it.
        OSError: It cannot be read.
    """
    stream = _Stream(files, path)
    header = stream.take(_HEADER.size)
    if len(header) < _HEADER.size or not header.startswith(_MAGIC):
        raise SnapshotDamaged(path, 0, "it does not begin like a snapshot")
    _, version = _HEADER.unpack(header)
    if version != _VERSION:
        message = f"{path} has format {version}; this pydrm reads {_VERSION}. Start the version that wrote it"
        raise ConfigurationError(message, field="data_dir")
    number = 0
    while True:
        offset = stream.offset
        prefix = stream.take(_BLOCK.size)
        if not prefix:
            if number == 0:
                raise SnapshotDamaged(path, offset, "its heading is missing")
            return
        if len(prefix) < _BLOCK.size:
            raise SnapshotDamaged(path, offset, "it ends in the middle of a block")
        length, found, crc = _BLOCK.unpack(prefix)
        body = stream.take(length) if length <= _BLOCK_BYTES_MAX else b""
        if len(body) < length or found != number or crc != _crc(number, body):
            raise SnapshotDamaged(path, offset, f"block {number} is broken")
        try:
            yield msgspec.msgpack.decode(body, type=Heading) if number == 0 else _records(body)
        except UNREADABLE as error:
            raise SnapshotDamaged(path, offset, f"block {number} cannot be read: {error}") from error
        number += 1


def _records(body: bytes) -> tuple[Section, list[msgspec.Struct]]:
    name, raw = _block_decoder.decode(body)
    section = Section(name)
    return section, _decoders[section].decode(raw)


_decoders = {
    section: msgspec.msgpack.Decoder(list[type])  # type: ignore[valid-type]
    for section, type in SECTION_TYPES.items()
}


class _Stream:
    """A file from its beginning to its end."""

    def __init__(self, files: Files, path: Path) -> None:
        self.offset = 0
        self._files = files
        self._path = path
        self._buffer = b""
        self._position = 0

    def take(self, size: int) -> bytes:
        """The next *size* bytes, or what is left."""
        left = len(self._buffer) - self._position
        if left < size:
            more = self._files.read_at(self._path, self.offset + left, max(size - left, _READ_BYTES))
            self._buffer = self._buffer[self._position :] + more
            self._position = 0
        taken = self._buffer[self._position : self._position + size]
        self._position += len(taken)
        self.offset += len(taken)
        return taken
