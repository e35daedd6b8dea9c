"""
What the cluster answers to a request: that it took effect, or why it changed nothing.

Answers are kept for as long as a client may ask again, so they are in the state and its digest.
"""

from __future__ import annotations

import enum

import msgspec

__all__ = ["Answer", "Done", "Reason", "Refused"]


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
        missing: Remove-, Pause-, ResumeResources: the ids that were not there. SaveCheckpoints: the tokens that are
            over. TakePermits: those that were not granted.
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
