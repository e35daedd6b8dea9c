"""
`RecordTable`, `AssignmentTable` and `CheckpointTable`: a `Table` each, for what there may be a million of.

They are to be read and written like a `Table`, and differ from it for the sake of pauses:

A dict of a million takes 40 ms at the moment at which it grows, and as long to be copied. So the records lie in
`_SHARDS` dicts, by a checksum of the resource's id: not by its hash, which differs between processes, and with it the
order of everything listed. A copy of all is made by noting that all dicts are shared; one is copied when it is next
written to.

Python's collector looks at each record of a dict that may hold something collectable, such as a key that is a tuple.
These dicts hold what it does not see, under plain strings; an assignment's slot is a part of its dict's number.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from binascii import crc32
from collections.abc import Hashable, Iterator
from functools import reduce
from operator import iadd
from typing import Generic, TypeVar

from pydrm.core.records import Assignment, AssignmentKey, Checkpoint, Record
from pydrm.core.table import MODULUS, Digestible, fingerprint

__all__ = ["AssignmentTable", "CheckpointTable", "RecordTable", "ShardedTable"]

_SHARDS = 2048

K = TypeVar("K", bound=Hashable)
R = TypeVar("R", bound=Digestible)


class ShardedTable(ABC, Generic[K, R]):
    """
    Single reads and what gives all at once (`keys`, `values`, `items`, each a list of its own) are safe from any
    thread: CPython does each under one hold of the GIL. Writing is for one thread.
    """

    __slots__ = ("_shards", "_shared", "digest")

    def __init__(self) -> None:
        self.digest = 0
        self._shards: dict[int, dict[str, R]] = {}
        self._shared: set[int] = set()

    # --- how a key is kept

    @abstractmethod
    def _where(self, key: K) -> tuple[int, str]:
        """The number of the dict that may have *key*, and under which name."""

    @abstractmethod
    def _key(self, name: str, record: R) -> K:
        """The key of what is kept under *name*."""

    # --- reading

    def __getitem__(self, key: K) -> R:
        record = self.get(key)
        if record is None:
            raise KeyError(key)
        return record

    def get(self, key: K) -> R | None:
        number, name = self._where(key)
        shard = self._shards.get(number)
        return shard.get(name) if shard is not None else None

    def __contains__(self, key: K) -> bool:
        return self.get(key) is not None

    def __len__(self) -> int:
        return sum(map(len, self._shards.values()))

    def __iter__(self) -> Iterator[K]:
        return iter(self.keys())

    def keys(self) -> list[K]:
        return [key for key, _ in self.items()]

    def values(self) -> list[R]:
        return reduce(iadd, map(dict.values, self._copies()), [])

    def items(self) -> list[tuple[K, R]]:
        rows: list[tuple[str, R]] = reduce(iadd, map(dict.items, self._copies()), [])
        return [(self._key(name, record), record) for name, record in rows]

    def _copies(self) -> Iterator[dict[str, R]]:
        # Going through a dict makes objects, and that may run the collector and with it another thread, which writes to
        # it; to copy it does not.
        return map(dict.copy, list(self._shards.values()))

    def share(self) -> list[dict[str, R]]:
        """All of it as it is now, in dicts that nobody writes to any more. For the thread that writes."""
        self._shared = set(self._shards)
        return list(self._shards.values())

    # --- writing

    def put(self, key: K, record: R) -> R | None:
        """Keep *record* under *key*; returns the one that it replaces."""
        number, name = self._where(key)
        shard = self._to_write(number)
        old = shard.get(name)
        if old is not None:
            self.digest -= fingerprint(old)
        shard[name] = record
        self.digest = (self.digest + fingerprint(record)) % MODULUS
        return old

    def drop(self, key: K) -> R | None:
        """Returns what was there."""
        number, name = self._where(key)
        old = self._to_write(number).pop(name, None)
        if old is not None:
            self.digest = (self.digest - fingerprint(old)) % MODULUS
        return old

    def load(self, key: K, record: R) -> bool:
        """
        Keep *record* where there is none yet, and say whether that was so. Whoever loads sets the digest.

        Hashing is most of what `put` costs.
        """
        number, name = self._where(key)
        shard = self._to_write(number)
        if name in shard:
            return False
        shard[name] = record
        return True

    def empty(self) -> Iterator[None]:
        """Give all of it up, in steps."""
        while self._shards:
            self._shards.popitem()
            yield
        self.digest = 0

    def _to_write(self, number: int) -> dict[str, R]:
        shard = self._shards.get(number)
        if shard is None:
            shard = self._shards[number] = {}
        elif number in self._shared:
            self._shared.discard(number)
            shard = self._shards[number] = shard.copy()
        return shard


class RecordTable(ShardedTable[str, Record]):
    """By the resource's id."""

    __slots__ = ()

    def _where(self, key: str) -> tuple[int, str]:
        return crc32(key.encode(errors="replace")) % _SHARDS, key

    def _key(self, name: str, record: Record) -> str:
        return name


S = TypeVar("S", Assignment, Checkpoint)


class _SlotTable(ShardedTable[AssignmentKey, S]):
    """By (resource id, slot)."""

    __slots__ = ()

    def _where(self, key: AssignmentKey) -> tuple[int, str]:
        name, slot = key
        return slot * _SHARDS + crc32(name.encode(errors="replace")) % _SHARDS, name

    def _key(self, name: str, record: S) -> AssignmentKey:
        return (name, record.slot)


class AssignmentTable(_SlotTable[Assignment]):
    __slots__ = ()


class CheckpointTable(_SlotTable[Checkpoint]):
    __slots__ = ()
