"""
`RecordTable` and `AssignmentTable`: a `Table` each, for what there may be a million of.

They are to be read and written like a `Table`, and differ from it in two ways, both for the sake of pauses:

A dict of a million takes 40 ms at the moment at which it grows. So the records lie in `_SHARDS` dicts, by a checksum
of the resource's id: not by its hash, which differs between processes, and with it the order of everything listed.

Python's collector looks at each record of a dict that may hold something collectable, such as a key that is a tuple.
These dicts hold what it does not see, under plain strings; an assignment's slot is looked up first.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator
from functools import reduce
from operator import iadd
from typing import Generic, TypeVar
from zlib import adler32

from pydrm.core.records import Assignment, AssignmentKey, Record
from pydrm.core.table import MODULUS, Digestible, fingerprint

__all__ = ["AssignmentTable", "RecordTable", "ShardedTable"]

_SHARDS = 64

K = TypeVar("K", bound=Hashable)
R = TypeVar("R", bound=Digestible)


class ShardedTable(ABC, Generic[K, R]):
    """
    Single reads and what gives all at once (`keys`, `values`, `items`, each a list of its own) are safe from any
    thread: CPython does each under one hold of the GIL. Writing is for one thread.
    """

    __slots__ = ("_slots", "digest")

    def __init__(self) -> None:
        self.digest = 0
        self._slots: dict[int, list[dict[str, R]]] = {}

    # --- how a key is kept

    @abstractmethod
    def _where(self, key: K) -> tuple[dict[str, R], str]:
        """The dict that may have *key*, and under which name."""

    @abstractmethod
    def _key(self, name: str, record: R) -> K:
        """The key of what is kept under *name*."""

    def _shard(self, id: str, slot: int) -> dict[str, R]:
        shards = self._slots.get(slot)
        if shards is None:
            shards = self._slots[slot] = [{} for _ in range(_SHARDS)]
        # The upper half of this sum spreads numbered ids evenly; the lower one would not.
        return shards[adler32(id.encode(errors="replace")) >> 16 & _SHARDS - 1]

    def _shards(self) -> list[dict[str, R]]:
        return [shard for _, shards in sorted(self._slots.items()) for shard in shards]

    # --- reading

    def __getitem__(self, key: K) -> R:
        record = self.get(key)
        if record is None:
            raise KeyError(key)
        return record

    def get(self, key: K) -> R | None:
        shard, name = self._where(key)
        return shard.get(name)

    def __contains__(self, key: K) -> bool:
        return self.get(key) is not None

    def __len__(self) -> int:
        return sum(map(len, self._shards()))

    def __iter__(self) -> Iterator[K]:
        return iter(self.keys())

    def keys(self) -> list[K]:
        return [key for key, _ in self.items()]

    def values(self) -> list[R]:
        return reduce(iadd, map(dict.values, self._shards()), [])

    def items(self) -> list[tuple[K, R]]:
        rows: list[tuple[str, R]] = reduce(iadd, map(dict.items, self._shards()), [])
        return [(self._key(name, record), record) for name, record in rows]

    # --- writing

    def put(self, key: K, record: R) -> R | None:
        """Keep *record* under *key*; returns the one that it replaces."""
        shard, name = self._where(key)
        old = shard.get(name)
        if old is not None:
            self.digest -= fingerprint(old)
        shard[name] = record
        self.digest = (self.digest + fingerprint(record)) % MODULUS
        return old

    def drop(self, key: K) -> R | None:
        shard, name = self._where(key)
        old = shard.pop(name, None)
        if old is not None:
            self.digest = (self.digest - fingerprint(old)) % MODULUS
        return old


class RecordTable(ShardedTable[str, Record]):
    """By the resource's id."""

    __slots__ = ()

    def _where(self, key: str) -> tuple[dict[str, Record], str]:
        return self._shard(key, 0), key

    def _key(self, name: str, record: Record) -> str:
        return name


class AssignmentTable(ShardedTable[AssignmentKey, Assignment]):
    """By (resource id, slot)."""

    __slots__ = ()

    def _where(self, key: AssignmentKey) -> tuple[dict[str, Assignment], str]:
        return self._shard(*key), key[0]

    def _key(self, name: str, record: Assignment) -> AssignmentKey:
        return (name, record.slot)
