"""
What a node says of its handles: that they are gone, how they are, how far they have got, and that another should try.
"""

from __future__ import annotations

import msgspec

from pydrm.core.records import Condition

__all__ = [
    "Failure",
    "GiveUp",
    "Handle",
    "HandleReport",
    "RaiseWatermark",
    "Release",
    "Report",
    "Save",
    "SaveCheckpoints",
]


class Handle(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """
    Names one handle: an assignment and the token it was opened under.

    Attributes:
        checkpoint: Of a Release: the last one that the handler made, if it is not saved yet.
        parting: Of a Release: whether that is what the handler said when it was told to end, so that there is no more
            to know of how far it had got.
    """

    resource: str
    slot: int
    token: int
    checkpoint: bytes = b""
    parting: bool = False


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
    """How far the node's handlers have got. Tokens that are over are named in `Done.missing`."""

    node: str
    incarnation: int
    saves: tuple[Save, ...]


class RaiseWatermark(msgspec.Struct, frozen=True, gc=False):
    """The node is about to act for whatever it holds, as far as it is due by *until_us*; see `records.Watermark`."""

    node: str
    incarnation: int
    until_us: int
