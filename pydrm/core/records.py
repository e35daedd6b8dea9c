"""
The records the state is made of: frozen, so that any thread may keep one it has read.

There may be millions, so Python's collector does not see them (`gc=False`): one look at each would stop the node
for a second. That is sound because a record can hold no cycle: it holds strings, numbers and older records.

`parts()` of a record is what the digest sees: plain strings, numbers and bytes, in a fixed order.

A field may be added later, as the last one, with a default: what was written before it is read with the default.
`parts()` leaves it out where it has its default, so that replicas of both versions have equal digests for as long as
nobody uses the new one. See `protocol` for when somebody may.
"""

from __future__ import annotations

import enum
from sys import intern

import msgspec
from msgspec.structs import force_setattr

__all__ = [
    "CHECKPOINT_BYTES_MAX",
    "REASON_CHARACTERS_MAX",
    "SOURCE_PREFIX",
    "Assignment",
    "AssignmentKey",
    "AuditEntry",
    "Checkpoint",
    "Condition",
    "Definition",
    "Holder",
    "Incarnation",
    "Node",
    "NodeState",
    "Parked",
    "ParkedCause",
    "Phase",
    "Record",
    "Role",
    "Watermark",
]

CHECKPOINT_BYTES_MAX = 4096

# Of every text for people: why something is paused, failed, dead, held back.
REASON_CHARACTERS_MAX = 200

# What the kinds of sources begin with; only such a resource can own others.
SOURCE_PREFIX = "source."

AssignmentKey = tuple[str, int]  # (resource id, slot)
Incarnation = tuple[str, int]  # (node name, incarnation number)


class Definition(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """
    A resource as the cluster keeps it; *fields* is sealed, canonical and opaque here.

    A map by names where the records are arrays, because the log's commands carry it.

    Attributes:
        source: The id of the source that brought it, and owns it; "": the app's own. The deciders write it.
        topics: The events that it is to be given, by pattern: see `topics`. They are in *fields* too, where only the
            kind can read them.
        group: Whose budget it is held within; "" is nobody's.
    """

    id: str
    kind: str
    fields: bytes
    weight: int = 1
    overlap: bool = False
    source: str = ""
    topics: tuple[str, ...] = ()
    group: str = ""

    def __post_init__(self) -> None:
        # There are few kinds and groups, and each definition that is read comes with strings of its own.
        force_setattr(self, "kind", intern(self.kind))
        force_setattr(self, "group", intern(self.group))

    @property
    def is_source(self) -> bool:
        """Whether it can own others."""
        return self.kind.startswith(SOURCE_PREFIX)

    def parts(self) -> tuple[object, ...]:
        parts: tuple[object, ...] = (self.id, self.kind, self.fields, self.weight, self.overlap)
        # Named, so that no two definitions can have the same parts.
        parts += (("source", self.source),) if self.source else ()
        parts += (("topics", *self.topics),) if self.topics else ()
        parts += (("group", self.group),) if self.group else ()
        return parts


class ParkedCause(enum.Enum):
    """Why nobody is to hold a resource."""

    PAUSED = "paused"  # somebody asked for it; ends when somebody asks for that
    QUARANTINED = "quarantined"  # every node gave it up; ends by itself, too


class Parked(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """
    That nobody is to hold a resource for now.

    Attributes:
        reason: In words, for people.
        number: Names this one, for compare and set; from the same counter as the tokens.
        duration_ms: QUARANTINED: how long, in milliseconds, counted from when it was applied.
    """

    cause: ParkedCause
    reason: str
    number: int
    duration_ms: int = 0

    def parts(self) -> tuple[object, ...]:
        return (self.cause.value, self.reason, self.number, self.duration_ms)


class Record(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """
    A resource under management.

    Attributes:
        revision: Grows with each change of the definition; a handle is opened for one revision.
        following: The definition that was added while the old one was still being removed.
        parked: Set while nobody is to hold it.
    """

    definition: Definition
    revision: int
    following: Definition | None = None
    parked: Parked | None = None

    @property
    def owner(self) -> str:
        """The source that owns it, or will once what is being removed is gone; "": the app."""
        return (self.following or self.definition).source

    def parts(self) -> tuple[object, ...]:
        following = self.following.parts() if self.following else None
        parts = (*self.definition.parts(), self.revision, following)
        return (*parts, self.parked.parts()) if self.parked else parts


class Phase(enum.Enum):
    """Where an assignment is in its way from one holder to the next."""

    WAITING = "waiting"  # no holder
    HELD = "held"
    OPENING = "opening"  # overlap: the holder keeps it until the target has opened it too
    RELEASING = "releasing"  # the holder must close it; never cancelled
    REMOVING = "removing"  # the same, and then the record goes
    PARKED = "parked"  # no holder, and none wanted


class Condition(enum.Enum):
    """What a holder last reported of its own handle."""

    OPENING = "opening"
    OPEN = "open"
    RETRYING = "retrying"
    FAILED = "failed"
    STUCK = "stuck"  # told to close it, cannot


class Holder(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """
    One node's claim on an assignment, under one fencing token.

    Attributes:
        condition, detail: What it last reported; the detail is for people.
        next_try_ms: When it tries again, in milliseconds since the epoch by its own clock; for people. 0: soon.
        permit: The group of which it has one of the connections; "": it has none.
        permitted: How many times it was granted one, for compare and set.
    """

    node: str
    incarnation: int
    token: int
    revision: int
    condition: Condition = Condition.OPENING
    detail: str = ""
    next_try_ms: int = 0
    permit: str = ""
    permitted: int = 0

    def parts(self) -> tuple[object, ...]:
        parts: tuple[object, ...]
        parts = (self.node, self.incarnation, self.token, self.revision, self.condition.value, self.detail)
        if self.next_try_ms:
            parts = (*parts, self.next_try_ms)
        return (*parts, self.permit, self.permitted) if self.permit or self.permitted else parts


class Assignment(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """
    Who holds a slot of a resource.

    Attributes:
        weight: How much it counts where it is now. Of a new definition that needs a new handle, it counts once that is
            placed; else at once.
        target: OPENING: who opens it. RELEASING, REMOVING: who has it open besides the holder.
        excluded: Holders it was taken from by force, until their handle is known to be gone.
        ticket: WAITING only: its place in the queue, from the same counter as the tokens.
        previous: WAITING only: the node that held it last; wins a tie in placement.
        failed: Incarnations that gave it up since it was last open for good; the last of them is the newest.
        group: Whose budget it is held within where it is now; as with the weight.
    """

    resource: str
    slot: int
    phase: Phase
    weight: int = 1
    holder: Holder | None = None
    target: Holder | None = None
    excluded: tuple[Holder, ...] = ()
    ticket: int = 0
    previous: str = ""
    failed: tuple[Incarnation, ...] = ()
    group: str = ""

    @property
    def key(self) -> AssignmentKey:
        return (self.resource, self.slot)

    def claims(self) -> tuple[Holder, ...]:
        """Everyone who may have a handle for it."""
        claims = self.excluded
        if self.target is not None:
            claims = (self.target, *claims)
        if self.holder is not None:
            claims = (self.holder, *claims)
        return claims

    def claim(self, token: int) -> Holder | None:
        """The claim under *token*; None if there is none. A token is of one claim only, for ever."""
        for claim in self.claims():
            if claim.token == token:
                return claim
        return None

    def parts(self) -> tuple[object, ...]:
        parts: tuple[object, ...]
        parts = (
            self.resource,
            self.slot,
            self.phase.value,
            self.weight,
            self.holder.parts() if self.holder else None,
            self.target.parts() if self.target else None,
            tuple([holder.parts() for holder in self.excluded]) if self.excluded else (),
            self.ticket,
            self.previous,
        )
        if self.failed:
            parts = (*parts, self.failed)
        return (*parts, self.group) if self.group else parts


class Checkpoint(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """
    How far a holder had got.

    Attributes:
        token: The one that it was saved under.
        value: Opaque here; at most `CHECKPOINT_BYTES_MAX`.
        watermark_us: The `Watermark` that its node had when the holder was gone without having said more; 0: none.
    """

    resource: str
    slot: int
    token: int
    value: bytes
    watermark_us: int = 0

    @property
    def key(self) -> AssignmentKey:
        return (self.resource, self.slot)

    def parts(self) -> tuple[object, ...]:
        parts = (self.resource, self.slot, self.token, self.value)
        return (*parts, self.watermark_us) if self.watermark_us else parts


class Watermark(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """
    Until when an incarnation may have acted, for whatever it had saved a checkpoint for.

    So one record is enough for all that was due by then. It is kept until the node joins anew, and for as long as that
    incarnation has claims: whoever is given one of those is to know of it.

    Attributes:
        until_us: Microseconds since the epoch, by the clock of whoever says what is due when. Nothing is decided by it.
    """

    node: str
    incarnation: int
    until_us: int

    @property
    def by(self) -> Incarnation:
        return (self.node, self.incarnation)

    def parts(self) -> tuple[object, ...]:
        return (self.node, self.incarnation, self.until_us)


class NodeState(enum.Enum):
    ALIVE = "alive"
    DRAINING = "draining"
    LEFT = "left"  # its lease was expired or resigned; this incarnation is dead for ever


class Role(enum.Enum):
    """What a node is in the group; it holds resources alike."""

    VOTER = "voter"
    WORKER = "worker"  # follows the log without a vote


class Node(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """
    A node's newest incarnation and its lease.

    Attributes:
        incarnation: Assigned by the Join, from one counter for all nodes; never used twice.
        nonce: Random, chosen by the process for this Join.
        count: The newest renewal applied; the Join is renewal 0.
        ttl_ms: The time to live, in milliseconds, that came with that renewal.
        directory: Names the locked data directory on its host; "" if that cannot be relied on.
        address: Where peers reach it.
        protocol: The highest that its version of pydrm can apply; see `protocol`.
    """

    name: str
    incarnation: int
    nonce: str
    state: NodeState
    count: int
    ttl_ms: int
    directory: str = ""
    address: str = ""
    protocol: int = 1
    role: Role = Role.VOTER

    @property
    def lives(self) -> bool:
        """Whether its lease has not been ended; only then it may hold anything."""
        return self.state is not NodeState.LEFT

    def parts(self) -> tuple[object, ...]:
        return (
            self.name,
            self.incarnation,
            self.nonce,
            self.state.value,
            self.count,
            self.ttl_ms,
            self.directory,
            self.address,
            self.protocol,
            self.role.value,
        )


class AuditEntry(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A release by force: who lost what, and why somebody wanted that."""

    number: int
    resource: str
    slot: int
    node: str
    token: int
    reason: str

    def parts(self) -> tuple[object, ...]:
        return (self.number, self.resource, self.slot, self.node, self.token, self.reason)
