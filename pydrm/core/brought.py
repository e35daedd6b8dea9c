"""
`Brought`: which resources each source owns, kept beside the records and made from them alone.

Each source's are in the order of their revisions, which come from one counter; so a replica that read a snapshot takes
them away in the same order as one that replayed the log.
"""

from __future__ import annotations

from pydrm.core.queue import Queue
from pydrm.core.records import Record
from pydrm.core.sharded_table import RecordTable

__all__ = ["Brought"]


class Brought:
    """
    Attributes:
        by_source: For each source that owns something, the ids of that, by revision.
        gone: Those of them that are under management no more, or not as a source.
    """

    def __init__(self) -> None:
        self.by_source: dict[str, Queue[str]] = {}
        self.gone: dict[str, None] = {}

    def owned_by(self, source: str) -> list[str]:
        """The ids of what it owns. From any thread."""
        queue = self.by_source.get(source)
        return queue.copy() if queue is not None else []

    def count(self, source: str) -> int:
        """How many `owned_by` would name; at no cost. From any thread."""
        queue = self.by_source.get(source)
        return len(queue) if queue is not None else 0

    def update(self, old: Record | None, new: Record | None) -> None:
        """Follow one record from *old* to *new*; None is a record that does not exist."""
        left = (old.owner, old.revision) if old is not None and old.owner else None
        taken = (new.owner, new.revision) if new is not None and new.owner else None
        if left is not None and left != taken:
            self._drop(*left)
        if taken is not None and new is not None and left != taken:
            queue = self.by_source.get(taken[0])
            if queue is None:
                queue = self.by_source[taken[0]] = Queue()
            queue.put(taken[1], new.definition.id)
        if old is not None and old.definition.is_source and not (new is not None and new.definition.is_source):
            if old.definition.id in self.by_source:
                self.gone[old.definition.id] = None
        elif new is not None and new.definition.is_source:
            self.gone.pop(new.definition.id, None)

    def restored(self, records: RecordTable) -> None:
        """All *records* were given to `update`, in any order: look which of their owners are not among them."""
        for source in self.by_source:
            record = records.get(source)
            if record is None or not record.definition.is_source:
                self.gone[source] = None

    def queues(self) -> list[Queue[str]]:
        return list(self.by_source.values())

    def _drop(self, source: str, revision: int) -> None:
        self.by_source[source].drop(revision)
        if not self.by_source[source]:
            del self.by_source[source]
            self.gone.pop(source, None)

    def __repr__(self) -> str:
        return f"Brought({self.by_source}, gone={list(self.gone)})"
