"""
What can be asked of the cluster; `answers` has what it answers.

Commands are imperatives and plain values; the log carries them. A command that comes with a
`RequestId` takes effect once however often it is delivered; Form, Join, Renew, Expire, Place, EndQuarantine,
EndHoldback, EndHour and those about voters, protocol and recovery need none, because each names what it saw and is
refused when that is no longer so.

Many are made, and most live for as long as a request is under way; so Python's collector does not see them
(`gc=False`). That is sound because they hold no cycle: they are frozen, and are made of what was there before.
"""

from __future__ import annotations

import msgspec

from pydrm.core.budget_commands import EndHoldback, EndHour, HoldBack, ReturnPermits, SetBudget, TakePermits
from pydrm.core.handle_commands import GiveUp, Handle, RaiseWatermark, Release, Report, SaveCheckpoints
from pydrm.core.ledger_commands import (
    ClaimDeliveries,
    ForgetPublished,
    Publish,
    ReplayDeliveries,
    SettleDeliveries,
)
from pydrm.core.records import Definition, Role
from pydrm.core.settings import Voter

__all__ = [
    "AddResources",
    "AddVoter",
    "Command",
    "Drain",
    "EndQuarantine",
    "EndRecovery",
    "Expire",
    "ForceRelease",
    "Form",
    "Join",
    "PauseResources",
    "Place",
    "RaiseProtocol",
    "RemoveResources",
    "RemoveVoter",
    "Renew",
    "Request",
    "RequestId",
    "Resign",
    "ResumeResources",
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
    | RaiseWatermark
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
