"""
`Batches`: requests on their way into the log, grouped into entries. Sans I/O.

    Rule 1.  What keeps a lease goes first, and never waits behind the app's requests.
    Rule 2.  What is in the log and not applied is bounded: whatever comes next, a renewal too, is applied after that.
    Rule 3.  Who leads gathers everybody's renewals for a while, so that fifty nodes do not make fifty entries; but
             what goes into the log anyway takes them along.
    Rule 4.  A change of the voters is alone in its entry, where `Raft` finds it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

from pydrm.engine.codec import (
    encode_entry,
    is_participants,
    is_renewal,
    is_voters_change,
)

__all__ = ["Batches"]

_ENTRY_BYTES_AIM = 32 * 1024
_ENTRIES_PER_TICK = 4
_BACKLOG_MAX = 4  # entries that are in the log and not applied
_GATHER_PER_TTL = 20


class Batches:
    def __init__(self) -> None:
        self._urgent: list[bytes] = []
        self._renewals: list[bytes] = []
        self._gathered_at = math.inf  # when what renewals there are need not wait for more
        self._requests: deque[bytes] = deque()

    @property
    def next_at(self) -> float:
        """When `due` may give what it has not given yet; long ago if that is as soon as there is room."""
        if self._urgent or self._requests:
            return -math.inf
        return self._gathered_at

    def urgent(self, request: bytes) -> None:
        """What this node's lease depends on, or somebody else's."""
        self._urgent.append(request)

    def add(self, requests: Iterable[bytes]) -> None:
        self._requests += requests

    def forwarded(self, requests: Iterable[bytes]) -> None:
        """Of other nodes, to this one because it leads."""
        for request in requests:
            (self._urgent if is_participants(request) else self._requests).append(request)

    def due(self, now: float, *, leads: bool, backlog: int, lease_ttl_s: float) -> list[bytes]:
        """Entries to be put into the log now."""
        urgent = self._take_urgent(now, lease_ttl_s if leads else 0.0)
        entries = [encode_entry(urgent)] if urgent else []
        for _ in range(_ENTRIES_PER_TICK):
            if not self._requests or backlog + len(entries) >= _BACKLOG_MAX:
                break
            batch = self._take_batch()
            if self._renewals and not is_voters_change(batch[0]):
                batch = self._take_renewals() + batch
            entries.append(encode_entry(batch))
        return entries

    def _take_urgent(self, now: float, lease_ttl_s: float) -> list[bytes]:
        urgent: list[bytes] = []
        for request in self._urgent:
            (self._renewals if is_renewal(request) else urgent).append(request)
        self._urgent.clear()
        if not self._renewals:
            return urgent
        self._gathered_at = min(self._gathered_at, now + lease_ttl_s / _GATHER_PER_TTL)
        if urgent or now >= self._gathered_at:
            return self._take_renewals() + urgent
        return []

    def _take_renewals(self) -> list[bytes]:
        renewals, self._renewals = self._renewals, []
        self._gathered_at = math.inf
        return renewals

    def _take_batch(self) -> list[bytes]:
        batch: list[bytes] = []
        size = 0
        # Closed before it would be too long, not after: one request may fill an entry by itself.
        while self._requests and (not batch or size + len(self._requests[0]) <= _ENTRY_BYTES_AIM):
            alone = is_voters_change(self._requests[0])
            if alone and batch:
                break
            request = self._requests.popleft()
            batch.append(request)
            size += len(request)
            if alone:
                break
        return batch
