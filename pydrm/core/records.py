"""
The records the state is made of: frozen, so that any thread may keep one it has read.

`parts()` of a record is what the digest sees: plain strings, numbers and bytes, in a fixed order.
"""

from __future__ import annotations

import enum

import attrs

__all__ = [
    "Assignment",
    "AssignmentKey",
    "AuditEntry",
    "Condition",
    "Definition",
    "Holder",
    "Incarnation",
    "Node",
    "NodeState",
    "Phase",
    "Record",
    "Settings",
]

AssignmentKey = tuple[str, int]  # (resource id, slot)
Incarnation = tuple[str, int]  # (node name, incarnation number)


@attrs.frozen
class Definition:
    """A resource as the cluster keeps it; *fields* is sealed, canonical and opaque here."""

    id: str
    kind: str
    fields: bytes
    weight: int = 1
    overlap: bool = False

    def parts(self) -> tuple[object, ...]:
        return (self.id, self.kind, self.fields, self.weight, self.overlap)


@attrs.frozen
class Record:
    """
    A resource under management.

    Attributes:
        revision: Grows with each change of the definition; a handle is opened for one revision.
        following: The definition that was added while the old one was still being removed.
    """

    definition: Definition
    revision: int
    following: Definition | None = None

    def parts(self) -> tuple[object, ...]:
        following = self.following.parts() if self.following else None
        return (*self.definition.parts(), self.revision, following)


class Phase(enum.Enum):
    """Where an assignment is in its way from one holder to the next."""

    WAITING = "waiting"  # no holder
    HELD = "held"
    OPENING = "opening"  # overlap: the holder keeps it until the target has opened it too
    RELEASING = "releasing"  # the holder must close it; never cancelled
    REMOVING = "removing"  # the same, and then the record goes


class Condition(enum.Enum):
    """What a holder last reported of its own handle."""

    OPENING = "opening"
    OPEN = "open"
    RETRYING = "retrying"
    FAILED = "failed"
    STUCK = "stuck"  # told to close it, cannot


@attrs.frozen
class Holder:
    """One node's claim on an assignment, under one fencing token."""

    node: str
    incarnation: int
    token: int
    revision: int
    condition: Condition = Condition.OPENING
    detail: str = ""

    def parts(self) -> tuple[object, ...]:
        return (self.node, self.incarnation, self.token, self.revision, self.condition.value, self.detail)


@attrs.frozen
class Assignment:
    """
    Who holds a slot of a resource.

    Attributes:
        weight: How much it counts where it is now; a new definition's weight counts once it is placed anew.
        target: OPENING: who opens it. RELEASING, REMOVING: who has it open besides the holder.
        excluded: Holders it was taken from by force, until their handle is known to be gone.
        ticket: WAITING only: its place in the queue, from the same counter as the tokens.
        previous: WAITING only: the node that held it last; wins a tie in placement.
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

    def parts(self) -> tuple[object, ...]:
        return (
            self.resource,
            self.slot,
            self.phase.value,
            self.weight,
            self.holder.parts() if self.holder else None,
            self.target.parts() if self.target else None,
            tuple(holder.parts() for holder in self.excluded),
            self.ticket,
            self.previous,
        )


class NodeState(enum.Enum):
    ALIVE = "alive"
    DRAINING = "draining"
    LEFT = "left"  # its lease was expired or resigned; this incarnation is dead for ever


@attrs.frozen
class Node:
    """
    A node's newest incarnation and its lease.

    Attributes:
        incarnation: Assigned by the Join, from one counter for all nodes; never used twice.
        nonce: Random, chosen by the process for this Join.
        count: The newest renewal applied; the Join is renewal 0.
        ttl_ms: The time to live, in milliseconds, that came with that renewal.
        directory: Names the locked data directory on its host; "" if that cannot be relied on.
        address: Where peers reach it.
    """

    name: str
    incarnation: int
    nonce: str
    state: NodeState
    count: int
    ttl_ms: int
    directory: str = ""
    address: str = ""

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
        )


@attrs.frozen
class Settings:
    """What all nodes must agree on; set when the cluster is formed."""

    cluster_id: str
    members: tuple[tuple[str, str], ...]  # (voter's name, replica id), sorted
    lease_ttl_ms: int
    protocol: int = 1

    @property
    def voters(self):
        from types import SimpleNamespace as N
        return [N(name=n, replica_id=r, address="") for n, r in self.members]
    voters_revision = 1

    def parts(self) -> tuple[object, ...]:
        return (self.cluster_id, self.members, self.lease_ttl_ms, self.protocol)


@attrs.frozen
class AuditEntry:
    """A release by force: who lost what, and why somebody wanted that."""

    number: int
    resource: str
    slot: int
    node: str
    token: int
    reason: str

    def parts(self) -> tuple[object, ...]:
        return (self.number, self.resource, self.slot, self.node, self.token, self.reason)
