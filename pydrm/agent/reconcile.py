"""
What the agent has to do about one assignment: pure, and level-triggered.

It is told what the state says now and what this node has now, never what changed; so an event that
was lost, repeated or late does no harm, and whoever is in doubt just looks again.

    Rule 1.  A handle belongs to a token. Under `overlap` a node may have two for one assignment.
    Rule 2.  A claim counts only if it is of this very incarnation. A handle without one is cut at once:
             whatever it was for is somebody else's by now.
    Rule 3.  Who has let go of a token (proposed its release) never opens under it again.
    Rule 4.  A release is proposed for as long as the state says that this node should let go and it has no
             handle, whether it ever had one or not.
    Rule 5.  Only the newest revision of a definition is opened; what is open under an older one stays open until
             the state says otherwise.
    Rule 6.  Nothing is opened for an assignment while a handle without a claim is not gone: it may be of this node's
             former incarnation, and then the two would hold the same thing.

                 no handle    live     closing    gone
    OPEN         open         -        -          -
    KEEP         -            -        -          -
    LET_GO       release      close    -          release
    CUT          release      cut      cut        release
    no claim     -            cut      cut        forget
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping

import attrs

from pydrm.core.records import Assignment, Holder, Incarnation, Phase, Record

__all__ = ["Action", "Deed", "Stage", "Wish", "reconcile", "wishes"]


class Wish(enum.Enum):
    """What the state wants of one of this node's claims."""

    OPEN = "open"
    KEEP = "keep"  # if there is a handle, it stays; none is opened
    LET_GO = "let-go"
    CUT = "cut"  # taken by force: somebody else may have it open already


class Stage(enum.Enum):
    """How far this node is with a token that it has had to do with."""

    LIVE = "live"  # open, opening, or waiting for the next try
    CLOSING = "closing"
    GONE = "gone"  # its release was proposed: no handle, and none ever again


class Deed(enum.Enum):
    OPEN = "open"
    CLOSE = "close"
    CUT = "cut"  # close without politeness
    RELEASE = "release"  # tell the cluster that there is no handle
    FORGET = "forget"  # the cluster knows


@attrs.frozen
class Action:
    deed: Deed
    token: int


def wishes(assignment: Assignment | None, record: Record | None, me: Incarnation) -> dict[int, Wish]:
    """What the state wants of *me* for one assignment, by token."""
    if assignment is None or record is None:
        return {}
    mine: dict[int, Wish] = {}
    for claim in assignment.claims():
        if (claim.node, claim.incarnation) == me:
            mine[claim.token] = _wish(assignment, claim, record)
    return mine


def _wish(assignment: Assignment, claim: Holder, record: Record) -> Wish:
    if claim in assignment.excluded:
        return Wish.CUT
    phase = assignment.phase
    if phase is Phase.REMOVING or (phase is Phase.RELEASING and claim is assignment.holder):
        return Wish.LET_GO
    return Wish.OPEN if claim.revision == record.revision else Wish.KEEP


def reconcile(wanted: Mapping[int, Wish], had: Mapping[int, Stage]) -> Iterator[Action]:
    """What to do for one assignment, oldest token first."""
    haunted = any(stage is not Stage.GONE and token not in wanted for token, stage in had.items())
    for token in sorted({*wanted, *had}):
        deed = _TABLE[wanted.get(token), had.get(token)]
        if deed is not None and not (deed is Deed.OPEN and haunted):
            yield Action(deed, token)


_TABLE: dict[tuple[Wish | None, Stage | None], Deed | None] = {
    (Wish.OPEN, None): Deed.OPEN,
    (Wish.OPEN, Stage.LIVE): None,
    (Wish.OPEN, Stage.CLOSING): None,
    (Wish.OPEN, Stage.GONE): None,
    (Wish.KEEP, None): None,
    (Wish.KEEP, Stage.LIVE): None,
    (Wish.KEEP, Stage.CLOSING): None,
    (Wish.KEEP, Stage.GONE): None,
    (Wish.LET_GO, None): Deed.RELEASE,
    (Wish.LET_GO, Stage.LIVE): Deed.CLOSE,
    (Wish.LET_GO, Stage.CLOSING): None,
    (Wish.LET_GO, Stage.GONE): Deed.RELEASE,
    (Wish.CUT, None): Deed.RELEASE,
    (Wish.CUT, Stage.LIVE): Deed.CUT,
    (Wish.CUT, Stage.CLOSING): Deed.CUT,
    (Wish.CUT, Stage.GONE): Deed.RELEASE,
    (None, Stage.LIVE): Deed.CUT,
    (None, Stage.CLOSING): Deed.CUT,
    (None, Stage.GONE): Deed.FORGET,
}
