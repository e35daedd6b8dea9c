"""
The kind "source.file": a list in a file, in JSON, TOML or YAML.

It is looked at each second, and read when it is another than the last time, and the same at two looks: whoever writes
it in place is given the time to finish. What cannot be read, or not as a whole, changes nothing.
"""

from __future__ import annotations

import asyncio
import os
import stat
import tomllib
from collections.abc import Callable, Mapping
from math import inf
from pathlib import Path
from typing import Any

import msgspec

from pydrm.agent.hold import Hold
from pydrm.agent.readable import Readable
from pydrm.clock import Clock
from pydrm.core.resource import Json, Resource
from pydrm.engine.codec import UNREADABLE
from pydrm.sources.entries import list_at
from pydrm.sources.fetching import Api, Fetched, Fetcher, FetchFailed
from pydrm.sources.fields import Fields
from pydrm.sources.options import Options

__all__ = ["FileOrigin"]

POLL_S = 1.0

# A few lines of aliases of aliases can stand for more than anybody could look at, on the loop or anywhere.
UNFOLDED_MAX = 100_000

# What a file was when it was looked at: when it was written, its size and which one it is.
_Look = tuple[int, int, int]
_GONE: _Look = (0, 0, 0)


class FileOrigin:
    """
    An Origin, for `SourceKind`. Fields: `path`, absolute, the same on each node; `list`, where the list is in it;
    `format`, if the name does not end in .json, .toml, .yaml or .yml; `max_bytes`.
    """

    def __init__(self, clock: Clock, readable: Readable) -> None:
        self._clock = clock
        self._readable = readable

    def check(self, resource: Resource) -> Options:
        fields = Fields(resource)
        options = Options.read(resource, fields, poll_s=POLL_S)
        if options.poll_s == 0:
            raise fields.wrong("poll", "must be above 0: a file is watched")
        _FileFetcher(fields, self._clock, self._readable)
        fields.refuse_others()
        return options

    def fetcher(self, hold: Hold) -> Fetcher:
        return _FileFetcher(Fields(hold.resource), self._clock, self._readable)


class _FileFetcher:
    def __init__(self, fields: Fields, clock: Clock, readable: Readable) -> None:
        self._clock = clock
        self._readable = readable
        self._path = Path(fields.text("path"))
        self._list = fields.path("list", "data")
        self._bytes_max = fields.count("max_bytes", 64 * 1024 * 1024, 1, 1024**3)
        self._read: _Look | None = None
        if not self._path.is_absolute() or "\0" in str(self._path):
            raise fields.wrong("path", f"must be absolute, not {str(self._path)!r}")
        format = fields.any("format", self._path.suffix.removeprefix(".").lower())
        parse = _PARSERS.get(format) if isinstance(format, str) else None
        if parse is None:
            raise fields.wrong("format", f"must be {', '.join(map(repr, _PARSERS))}, not {format!r}")
        self._parse = parse

    async def open(self, api: Api) -> None:
        """Nothing stays open."""

    async def fetch(self, known: Mapping[str, Json]) -> Fetched:
        self._read = None
        # A file may be on a network.
        before = await asyncio.to_thread(self._look)
        content = await asyncio.to_thread(self._content)
        after = await asyncio.to_thread(self._look)
        if before != after:
            raise FetchFailed(f"{self._path} is being written")
        try:
            entries = list_at(content, self._list)
        except ValueError as error:
            raise FetchFailed(f"in {self._path}: {error}") from None
        self._read = after
        return Fetched(entries)

    async def wait(self, seconds: float) -> None:
        last: _Look | None = self._read
        while True:
            await self._clock.sleep(seconds)
            try:
                look = await asyncio.to_thread(self._look)
            except FetchFailed:
                # It may be back at the next look; fetch says so if it is not.
                look = _GONE
            if look == last and look != self._read:
                return
            last = look

    async def close(self) -> None:
        """Nothing stays open."""

    def _look(self) -> _Look:
        self._refuse_elsewhere()
        try:
            status = os.stat(self._path)
        except OSError as error:
            raise FetchFailed(f"{self._path} cannot be read: {error.strerror}") from None
        if not stat.S_ISREG(status.st_mode):
            # To open a pipe would wait for whoever writes to it, and a thread cannot be stopped.
            raise FetchFailed(f"{self._path} is no file")
        return (status.st_mtime_ns, status.st_size, status.st_ino)

    def _refuse_elsewhere(self) -> None:
        """Right before it is opened: the file may be a link by now."""
        if problem := self._readable.file_problem(self._path):
            raise FetchFailed(f"{self._path} {problem}")

    def _content(self) -> object:
        self._refuse_elsewhere()
        try:
            with self._path.open("rb") as file:
                data = file.read(self._bytes_max + 1)
        except OSError as error:
            raise FetchFailed(f"{self._path} cannot be read: {error.strerror}") from None
        if len(data) > self._bytes_max:
            raise FetchFailed(f"{self._path} is longer than {self._bytes_max} bytes (max_bytes)")
        try:
            return self._parse(data)
        except _UNREADABLE as error:
            raise FetchFailed(f"{self._path} cannot be understood: {error}") from None


def _toml(data: bytes) -> object:
    return tomllib.loads(data.decode())


def _yaml(data: bytes) -> object:
    try:
        import yaml
    except ImportError:
        raise FetchFailed("YAML needs an extra on this node: pip install pydrm[yaml]") from None
    try:
        content = yaml.safe_load(data)
    except Exception as error:  # noqa: BLE001 (PyYAML lets out what its constructors come upon, such as IndexError)
        raise ValueError(str(error) or type(error).__name__) from None
    if _unfolded(content, {}) > max(UNFOLDED_MAX, len(data)):
        raise ValueError("its aliases stand for more than they may")
    return content


def _unfolded(value: object, known: dict[int, float]) -> float:
    """How many values there are in *value*, with what aliases stand for counted each time; a circle has no end."""
    if not isinstance(value, (list, tuple, dict)):
        return 1
    if id(value) not in known:
        known[id(value)] = inf
        inside = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_unfolded(item, known) for item in inside)
    return known[id(value)]


_UNREADABLE = (*UNREADABLE, tomllib.TOMLDecodeError, ValueError)

_PARSERS: dict[str, Callable[[bytes], Any]] = {
    "json": msgspec.json.decode,
    "toml": _toml,
    "yaml": _yaml,
    "yml": _yaml,
}
