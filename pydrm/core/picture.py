"""
`Picture`: a whole `State` at one moment, in values that can be written down.

Taking one copies next to nothing, because records are frozen and the large tables share what they hold: the state
goes on meanwhile, and whoever writes the picture down has time. `restoring` makes a state of it again. What follows
from the records, the index, is not in it; the digests are, so that not every record has to be hashed to restore it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from itertools import chain, islice

import msgspec
from msgspec import Struct

from pydrm.core.budget_records import Budget
from pydrm.core.events import Delivery, Event, Published, Remains
from pydrm.core.records import Assignment, AuditEntry, Checkpoint, Node, Record, Watermark
from pydrm.core.sessions import Floor, Remembered
from pydrm.core.settings import Settings
from pydrm.core.state import State

__all__ = ["CHUNK_ITEMS", "SECTION_TYPES", "Head", "Picture", "Section", "digests", "take"]

CHUNK_ITEMS = 1000
_CHUNK_BYTES = 256 * 1024


class Section(enum.Enum):
    """What a picture consists of, in the order in which it is written and read."""

    NODES = "nodes"
    RECORDS = "records"
    ASSIGNMENTS = "assignments"
    CHECKPOINTS = "checkpoints"
    WATERMARKS = "watermarks"
    EVENTS = "events"
    DELIVERIES = "deliveries"
    REMAINS = "remains"
    PUBLISHED = "published"
    BUDGETS = "budgets"
    FLOORS = "floors"
    ANSWERS = "answers"
    AUDIT = "audit"


SECTION_TYPES: dict[Section, type[Struct]] = {
    Section.NODES: Node,
    Section.RECORDS: Record,
    Section.ASSIGNMENTS: Assignment,
    Section.CHECKPOINTS: Checkpoint,
    Section.WATERMARKS: Watermark,
    Section.EVENTS: Event,
    Section.DELIVERIES: Delivery,
    Section.REMAINS: Remains,
    Section.PUBLISHED: Published,
    Section.BUDGETS: Budget,
    Section.FLOORS: Floor,
    Section.ANSWERS: Remembered,
    Section.AUDIT: AuditEntry,
}


class Head(msgspec.Struct, frozen=True):
    """
    What there is one of in a state, and what its sections must come to.

    Attributes:
        counts: How many items each section has.
        digests: Of each section; `State.digest` is made of these and of the rest of the head.
    """

    settings: Settings | None
    next_number: int
    next_incarnation: int
    counts: dict[Section, int]
    digests: dict[Section, bytes]


class Picture:
    """
    Attributes:
        head: What there is one of.
    """

    def __init__(self, head: Head, pieces: dict[Section, list[Iterable[Struct]]]) -> None:
        self.head = head
        self._pieces = pieces

    def chunks(self, section: Section) -> Iterator[tuple[Struct, ...]]:
        """
        The items of one section, `CHUNK_ITEMS` at a time. On any thread; once.

        What was given is let go of: what the state has replaced since is freed piece by piece, not all at the end.
        """
        pieces = self._pieces.pop(section)
        items = chain.from_iterable(pieces.pop() for _ in range(len(pieces)))
        # Those of events are cut by size too: a payload may be large.
        chunks = _by_size(items) if section is Section.EVENTS else iter(lambda: tuple(islice(items, CHUNK_ITEMS)), ())
        yield from chunks


def take(state: State) -> Picture:
    """The state as it is now. On the thread that writes it."""
    head = Head(
        state.settings,
        state.next_number,
        state.next_incarnation,
        counts={
            Section.NODES: len(state.nodes),
            Section.RECORDS: len(state.records),
            Section.ASSIGNMENTS: len(state.assignments),
            Section.CHECKPOINTS: len(state.checkpoints),
            Section.WATERMARKS: len(state.watermarks),
            Section.EVENTS: len(state.ledger.events),
            Section.DELIVERIES: state.ledger.deliveries_count,
            Section.REMAINS: len(state.ledger.remains),
            Section.PUBLISHED: len(state.ledger.published),
            Section.BUDGETS: len(state.budgets),
            Section.FLOORS: len(state.sessions.floors()),
            Section.ANSWERS: len(state.sessions),
            Section.AUDIT: len(state.audit),
        },
        digests={section: digest.to_bytes(16, "big") for section, digest in digests(state).items()},
    )
    pieces: dict[Section, list[Iterable[Struct]]] = {
        Section.NODES: [list(state.nodes.values())],
        Section.RECORDS: [shard.values() for shard in state.records.share()],
        Section.ASSIGNMENTS: [shard.values() for shard in state.assignments.share()],
        Section.CHECKPOINTS: [shard.values() for shard in state.checkpoints.share()],
        Section.WATERMARKS: [list(state.watermarks.values())],
        Section.EVENTS: [list(state.ledger.events.values())],
        Section.DELIVERIES: [list(shelf.values()) for shelf in state.ledger.shelves.values()],
        Section.REMAINS: [list(state.ledger.remains.values())],
        Section.PUBLISHED: [list(state.ledger.published.values())],
        Section.BUDGETS: [list(state.budgets.values())],
        Section.FLOORS: [state.sessions.floors()],
        Section.ANSWERS: [state.sessions.answers()],
        Section.AUDIT: [list(state.audit.values())],
    }
    return Picture(head, pieces)


def digests(state: State) -> dict[Section, int]:
    """The digest of each section, as the state has kept it."""
    floors, answers = state.sessions.digest
    return {
        Section.NODES: state.nodes.digest,
        Section.RECORDS: state.records.digest,
        Section.ASSIGNMENTS: state.assignments.digest,
        Section.CHECKPOINTS: state.checkpoints.digest,
        Section.WATERMARKS: state.watermarks.digest,
        **_ledger_digests(state),
        Section.BUDGETS: state.budgets.digest,
        Section.FLOORS: floors,
        Section.ANSWERS: answers,
        Section.AUDIT: state.audit.digest,
    }


def _ledger_digests(state: State) -> dict[Section, int]:
    sections = (Section.EVENTS, Section.DELIVERIES, Section.PUBLISHED, Section.REMAINS)
    return dict(zip(sections, state.ledger.digest, strict=True))


def _by_size(items: Iterator[Struct]) -> Iterator[tuple[Struct, ...]]:
    chunk: list[Struct] = []
    size = 0
    for item in items:
        assert isinstance(item, Event)
        chunk.append(item)
        size += len(item.payload)
        if size >= _CHUNK_BYTES or len(chunk) == CHUNK_ITEMS:
            yield tuple(chunk)
            chunk, size = [], 0
    if chunk:
        yield tuple(chunk)
