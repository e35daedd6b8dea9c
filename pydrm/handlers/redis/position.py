"""
`StreamPosition`: how far each stream of a resource has been read; what is in its checkpoint. Pure.

Beside the id of the last entry there is its number: how many entries had ever been added up to it. From that and from
what the server counts (Redis 7: `entries-added`) follows how many were cut off by MAXLEN before they were read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from pydrm.core.resource import Json

__all__ = ["NONE", "Mark", "StreamInfo", "StreamPosition", "is_entry_id"]

# The id before all others.
NONE = "0-0"


@attrs.frozen
class Mark:
    """
    Attributes:
        id: Of the last entry that was read.
        number: Its number, 0 if that is not known.
    """

    id: str
    number: int


@attrs.frozen
class StreamInfo:
    """
    What XINFO STREAM says.

    Attributes:
        first: The id of the oldest entry that is there; "" if there is none.
        last: The highest id that was ever given.
        length: How many are there.
        added: How many were ever added; 0 if the server does not count.
    """

    first: str
    last: str
    length: int
    added: int

    @classmethod
    def of(cls, reply: list[Any] | None) -> StreamInfo:
        """From the reply, a list of names and values; None: there is no such stream."""
        if reply is None:
            return cls("", NONE, 0, 0)
        values = {reply[at].decode(): reply[at + 1] for at in range(0, len(reply), 2)}
        first = values.get("first-entry")
        return cls(
            first=first[0].decode() if first else "",
            last=values["last-generated-id"].decode(),
            length=values["length"],
            added=values.get("entries-added", 0),
        )

    @property
    def gone(self) -> int:
        """How many were added and are not there any more; 0 if the server does not count."""
        return max(self.added - self.length, 0)

    def mark(self, start: str) -> Mark:
        """Where to begin: "$" is after all there is, "0" before the oldest that is there, an id after that entry."""
        if start == "$":
            return Mark(self.last, self.added)
        if start == "0":
            return Mark(NONE, self.gone)
        return Mark(start, 0)

    def cut_off(self, mark: Mark) -> int:
        """
        How many entries after *mark* are gone unread; -1 if some are, and nobody knows how many.

        Entries that were deleted one by one (XDEL) count as well.
        """
        if not _before(mark.id, self.last) or (self.first and not _before(mark.id, self.first)):
            return 0
        if not self.added:
            return 0 if mark.id == NONE else -1
        if not mark.number and mark.id != NONE:
            return -1
        return max(self.gone - mark.number, 0)

    def is_another(self, mark: Mark) -> bool:
        """Whether the stream is not the one that *mark* was made on: it has not come so far."""
        return _before(self.last, mark.id)


@attrs.frozen
class StreamPosition:
    """
    Attributes:
        definition: The digest of the definition that this is about.
    """

    definition: str
    marks: Mapping[str, Mark]

    @classmethod
    def read(cls, checkpoint: Any, definition: str) -> StreamPosition:
        """What a checkpoint says; nothing is marked if it is of another definition, or cannot be understood."""
        if not isinstance(checkpoint, Mapping) or checkpoint.get("definition") != definition:
            return cls(definition, {})
        marks = {}
        found = checkpoint.get("marks")
        for stream, mark in found.items() if isinstance(found, Mapping) else ():
            match mark:
                case [str(id), int(number)] if is_entry_id(id):
                    marks[stream] = Mark(id, number)
        return cls(definition, marks)

    def to_json(self) -> dict[str, Json]:
        return {
            "definition": self.definition,
            "marks": {stream: [mark.id, mark.number] for stream, mark in self.marks.items()},
        }


def is_entry_id(value: str) -> bool:
    milliseconds, dash, number = value.partition("-")
    return bool(dash) and all(part.isascii() and part.isdigit() and len(part) <= 20 for part in (milliseconds, number))


def _before(one: str, other: str) -> bool:
    return _order(one) < _order(other)


def _order(id: str) -> tuple[int, int]:
    milliseconds, _, number = id.partition("-")
    return int(milliseconds), int(number)
