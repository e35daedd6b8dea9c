"""
`Table`: a dict of frozen records that keeps a digest of its content as it changes.

The digest is the sum, modulo 2**128, of a hash of each record: independent of the order in which
the records came, and as cheap to keep as what changes (Clarke et al., "Incremental Multiset Hash
Functions", ASIACRYPT 2003: AdHash). It finds replicas that differ by mistake, not by malice.
"""

from __future__ import annotations

from collections.abc import Hashable
from hashlib import blake2b
from typing import Protocol, TypeVar

import msgspec

__all__ = ["MODULUS", "Digestible", "ShortTable", "Table", "fingerprint"]

MODULUS = 2**128

_encode = msgspec.msgpack.Encoder().encode


class Digestible(Protocol):
    def parts(self) -> tuple[object, ...]:
        """Strings, numbers, bytes, None and tuples of them, in a fixed order."""


K = TypeVar("K", bound=Hashable)
R = TypeVar("R", bound=Digestible)


class Table(dict[K, R]):
    """
    Read it like a dict; write it through `put` and `drop` only.

    Single reads and whole copies (`dict(table)`) are safe from any thread: CPython does each under one
    hold of the GIL. Iterating is for the thread that writes.
    """

    __slots__ = ("digest",)

    def __init__(self) -> None:
        super().__init__()
        self.digest = 0

    def put(self, key: K, record: R) -> None:
        old = self.get(key)
        if old is not None:
            self.digest -= fingerprint(old)
        self[key] = record
        self.digest = (self.digest + fingerprint(record)) % MODULUS

    def drop(self, key: K) -> None:
        old = self.pop(key, None)
        if old is not None:
            self.digest = (self.digest - fingerprint(old)) % MODULUS


class ShortTable(Table[K, R]):
    """A table of few records that change often: it keeps their hashes too, so that each is made once."""

    __slots__ = ("_fingerprints",)

    def __init__(self) -> None:
        super().__init__()
        self._fingerprints: dict[K, int] = {}

    def put(self, key: K, record: R) -> None:
        new = fingerprint(record)
        self.digest = (self.digest - self._fingerprints.get(key, 0) + new) % MODULUS
        self._fingerprints[key] = new
        self[key] = record

    def drop(self, key: K) -> None:
        if self.pop(key, None) is not None:
            self.digest = (self.digest - self._fingerprints.pop(key)) % MODULUS


def fingerprint(record: Digestible) -> int:
    # msgpack has one shortest form for each of these values, and no two values share one.
    return int.from_bytes(blake2b(_encode(record.parts()), digest_size=16).digest(), "big")
