"""
What can be asked of the cluster, and what it answers.

Commands are imperatives and plain values; the log carries them. A command that comes with a
`RequestId` takes effect once however often it is delivered; Form, Join, Renew, Expire, Place, EndQuarantine,
EndHoldback, EndHour and those about voters, protocol and recovery need none, because each names what it saw and is
refused when that is no longer so.

Many are made, and most live for as long as a request is under way; so Python's collector does not see them
(`gc=False`). That is sound because they hold no cycle: they are frozen, and are made of what was there before.
"""

from __future__ import annotations

import enum

import msgspec

from pydrm.core.ledger_commands import (
    ClaimDeliveries,
    ForgetPublished,
    Publish,
    ReplayDeliveries,
    SettleDeliveries,
)
from pydrm.core.records import Condition, Definition, Role, Voter

__all__ = [
    "AddResources",
    "AddVoter",
    "Answer",
    "Command",
    "Done",
    "Drain",
    "EndHoldback",
    "EndHour",
    "EndQuarantine",
    "EndRecovery",
    "Expire",
    "Failure",
    "ForceRelease",
    "Form",
    "GiveUp",
    "Handle",
    "HandleReport",
    "HoldBack",
    "Join",
    "PauseResources",
    "Place",
    "RaiseProtocol",
    "Reason",
    "Refused",
    "Release",
    "RemoveResources",
    "RemoveVoter",
    "Renew",
    "Report",
    "Request",
    "RequestId",
    "Resign",
    "ResumeResources",
    "Return",
    "ReturnPermits",
    "Save",
    "SaveCheckpoints",
    "SetBudget",
    "Take",
    "TakePermits",
]


class Form(msgspec.Struct, frozen=True, gc=False):
    """Bind the voters to their replica ids and fix the settings; once in a cluster's life."""

    cluster_id: str
    voters: tuple[Voter, ...]
    lease_ttl_ms: int


class Join(msgspec.Struct, frozen=True, gc=False):
    """
    Begin a new incarnation of *node*, in place of incarnation *replaces* (0: there was none).

    While the old one's lease runs, only the same locked data directory may take its place.

    Attributes:
        protocol: `PROTOCOL` of the process that joins.
    """

    node: str
    nonce: str
    replaces: int
    lease_ttl_ms: int
    directory: str = ""
    address: str = ""
    protocol: int = 1
    role: Role = Role.VOTER


class Renew(msgspec.Struct, frozen=True, gc=False):
    """Extend a lease. Never retried: each try has a count of its own."""

    node: str
    incarnation: int
    count: int
    ttl_ms: int


class Expire(msgspec.Struct, frozen=True, gc=False):
    """End a lease whose newest renewal is still *count*: compare and set, so the log's order decides."""

    node: str
    incarnation: int
    count: int


class Drain(msgspec.Struct, frozen=True, gc=False):
    """Have the node hand over all it holds and place nothing on it."""

    node: str
    incarnation: int


class Resign(msgspec.Struct, frozen=True, gc=False):
    """End one's own lease; sent when nothing is open any more."""

    node: str
    incarnation: int


class AddResources(msgspec.Struct, frozen=True, gc=False):
    """
    Put resources under management, all or none.

    Attributes:
        if_absent: Leave a resource that exists as it is, rather than replace its definition.
        source: The handle of the source that brought them; None if it was the app, whose word goes before any source's.
    """

    definitions: tuple[Definition, ...]
    if_absent: bool = False
    source: Handle | None = None


class RemoveResources(msgspec.Struct, frozen=True, gc=False):
    """
    Take resources out of management.

    Attributes:
        source: The handle of the source that wants it, which can remove what it owns; None if it was the app.
    """

    ids: tuple[str, ...]
    source: Handle | None = None


class PauseResources(msgspec.Struct, frozen=True, gc=False):
    """Have nobody hold these until they are resumed."""

    ids: tuple[str, ...]
    reason: str = ""


class ResumeResources(msgspec.Struct, frozen=True, gc=False):
    """End the pause or the quarantine of these."""

    ids: tuple[str, ...]


class EndQuarantine(msgspec.Struct, frozen=True, gc=False):
    """The time of a quarantine is over; *number* names that quarantine, so that it ends no later one."""

    resource: str
    number: int


class Handle(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """
    Names one handle: an assignment and the token it was opened under.

    Attributes:
        checkpoint: Of a Release: the last one that the handler made, if it is not saved yet.
    """

    resource: str
    slot: int
    token: int
    checkpoint: bytes = b""


class Release(msgspec.Struct, frozen=True, gc=False):
    """The node has no handle for these any more and will never open one under those tokens."""

    node: str
    incarnation: int
    handles: tuple[Handle, ...]


class HandleReport(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """
    Attributes:
        next_try_ms: As in `Holder`.
        proven: It has been open for long enough to forget that it was given up elsewhere.
    """

    resource: str
    slot: int
    token: int
    condition: Condition
    detail: str = ""
    next_try_ms: int = 0
    proven: bool = False


class Report(msgspec.Struct, frozen=True, gc=False):
    """How the node's handles are."""

    node: str
    incarnation: int
    reports: tuple[HandleReport, ...]


class Failure(msgspec.Struct, frozen=True, gc=False):
    """Names a handle that could not be opened, and in words what went wrong last."""

    resource: str
    slot: int
    token: int
    reason: str


class GiveUp(msgspec.Struct, frozen=True, gc=False):
    """
    The holder cannot open these, and asks that another node tries; what all have tried is left alone for a while.

    Attributes:
        quarantine_ms: How long that is, in milliseconds.
    """

    node: str
    incarnation: int
    failures: tuple[Failure, ...]
    quarantine_ms: int


class Save(msgspec.Struct, frozen=True, gc=False):
    """One checkpoint; *value* has at most `CHECKPOINT_BYTES_MAX` bytes."""

    resource: str
    slot: int
    token: int
    value: bytes


class SaveCheckpoints(msgspec.Struct, frozen=True, gc=False):
    """How far the node's handlers have got. Those under a token that is over are named in `Done.missing`."""

    node: str
    incarnation: int
    saves: tuple[Save, ...]


class SetBudget(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Limit what all nodes together do to a group's third party, in place of older limits. 0 is no limit."""

    group: str
    connects_per_s: float = 0.0
    connections: int = 0
    requests_per_s: float = 0.0
    sessions_per_day: int = 0


class Take(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """
    Names a handle that is about to connect, and whose budget that goes by.

    Attributes:
        opened: It has been open since before there was a limit: it is granted, even over the limit, and is no session.
    """

    resource: str
    slot: int
    token: int
    group: str
    opened: bool = False


class TakePermits(msgspec.Struct, frozen=True, gc=False):
    """
    Begin a session for each of these, and have one of the group's connections until it is returned or the claim ends.

    Those that were not granted are named in `Done.missing`: nothing is left, or the claim is over.
    """

    node: str
    incarnation: int
    takes: tuple[Take, ...]


class Return(msgspec.Struct, frozen=True, gc=False):
    """
    Names a handle that has no connection.

    Attributes:
        permitted: How many times it had been granted one; once it was granted another, this one says nothing.
    """

    resource: str
    slot: int
    token: int
    permitted: int


class ReturnPermits(msgspec.Struct, frozen=True, gc=False):
    """These have no connection for now, though their claims go on."""

    node: str
    incarnation: int
    returns: tuple[Return, ...]


class HoldBack(msgspec.Struct, frozen=True, gc=False):
    """A third party has asked to be left alone: nobody connects for the group, or requests anything, for so long."""

    node: str
    incarnation: int
    group: str
    duration_ms: int
    reason: str = ""


class EndHoldback(msgspec.Struct, frozen=True, gc=False):
    """The time of holdback *number* is over."""

    group: str
    number: int


class EndHour(msgspec.Struct, frozen=True, gc=False):
    """An hour has passed since *hour* of the group's sessions began."""

    group: str
    hour: int


class ForceRelease(msgspec.Struct, frozen=True, gc=False):
    """Take an assignment from its holder without waiting for it; an exception to "one holder"."""

    resource: str
    slot: int
    token: int
    reason: str


class Place(msgspec.Struct, frozen=True, gc=False):
    """Go on with placing and moving where an earlier command reached its limit."""


class AddVoter(msgspec.Struct, frozen=True, gc=False):
    """
    Give a vote to one more.

    Attributes:
        revision: Of the voters, as it was seen: compare and set.
    """

    name: str
    replica_id: str
    address: str
    revision: int


class RemoveVoter(msgspec.Struct, frozen=True, gc=False):
    """Take the vote from one, named with its replica id. *revision* as in `AddVoter`."""

    name: str
    replica_id: str
    revision: int


class RaiseProtocol(msgspec.Struct, frozen=True, gc=False):
    """Allow what came with protocols up to *to*, for ever; refused while somebody could not apply it."""

    to: int


class EndRecovery(msgspec.Struct, frozen=True, gc=False):
    """Assign resources again. Proposed when whatever was held under the lost log has to be over."""

    cluster_id: str


Command = (
    Form
    | Join
    | Renew
    | Expire
    | Drain
    | Resign
    | AddResources
    | RemoveResources
    | Release
    | Report
    | ForceRelease
    | Place
    | AddVoter
    | RemoveVoter
    | RaiseProtocol
    | EndRecovery
    | SaveCheckpoints
    | PauseResources
    | ResumeResources
    | GiveUp
    | EndQuarantine
    | Publish
    | ClaimDeliveries
    | SettleDeliveries
    | ReplayDeliveries
    | ForgetPublished
    | SetBudget
    | TakePermits
    | ReturnPermits
    | HoldBack
    | EndHoldback
    | EndHour
)


class RequestId(msgspec.Struct, frozen=True, gc=False):
    """
    Makes a command take effect once.

    Attributes:
        floor: The lowest sequence its client still waits for; answers below it can be forgotten.
    """

    node: str
    incarnation: int
    sequence: int
    floor: int


class Request(msgspec.Struct, frozen=True, gc=False):
    """A command as the log carries it."""

    command: Command
    id: RequestId | None = None


class Reason(enum.Enum):
    """Why a command was refused."""

    NOT_FORMED = "not-formed"
    ALREADY_FORMED = "already-formed"
    SETTINGS_DIFFER = "settings-differ"
    STALE = "stale"  # what the command saw is no longer so
    LEASE_RUNNING = "lease-running"  # the node's former process may still be alive
    SUPERSEDED = "superseded"
    EXPIRED = "expired"
    NOT_FOUND = "not-found"
    FORGOTTEN = "forgotten"  # the client no longer waits for this request
    INVALID = "invalid"
    FULL = "full"  # the ledger has no room for another event
    TOO_OLD = "too-old"  # the node's version of pydrm cannot apply what the cluster's log may hold
    UNSUPPORTED = "unsupported"  # not all nodes could apply it
    BUG = "bug"


class Done(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="done"):
    """
    The command took effect.

    Attributes:
        number: Join: the incarnation. AddVoter, RemoveVoter: the voters' new revision.
        created, updated, unchanged, removed: How many resources. Publish: how many subscriptions matched (*created*),
            and whether its id was published before (*unchanged*). ReplayDeliveries, ForgetPublished: how many.
        missing: Remove-, Pause-, ResumeResources: the ids that were not there. SaveCheckpoints: those of others.
            TakePermits: those that were not granted.
        foreign: Add-, RemoveResources by a source: the ids that somebody else owns, which were left as they are.
    """

    number: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0
    missing: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()

    def parts(self) -> tuple[object, ...]:
        parts = ("done", self.number, self.created, self.updated, self.unchanged, self.removed, self.missing)
        return (*parts, self.foreign) if self.foreign else parts


class Refused(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="refused"):
    """The command changed nothing."""

    reason: Reason
    detail: str = ""

    def parts(self) -> tuple[object, ...]:
        return ("refused", self.reason.value, self.detail)


Answer = Done | Refused
