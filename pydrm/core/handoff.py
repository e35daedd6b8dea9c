"""
The handoff table: what becomes of an assignment in each phase when something happens to it.

    Rule 1.  A resource leaves a node in three ways only: the node says that its handle is gone (RELEASED),
             the node's incarnation is dead (HOLDER_DIES), or somebody asked for force by name (FORCED).
    Rule 2.  A release is never cancelled: no cell leads from RELEASING or REMOVING back to HELD by the
             same token.
    Rule 3.  Where a resource goes next is not decided here but when it is WAITING, by placement. So the
             target is chosen when the old holder has let go, among those that are alive by then.
    Rule 4.  A handle is opened for one revision of a definition. A target whose revision is old when its
             turn comes is released in its turn.

Each cell is a pure function of the assignment and of what it needs to know besides. It returns what the
assignment becomes, or None for "gone, and its record with it". `IGNORED` cells are those in which the event
says nothing new.

    event          HELD         OPENING        RELEASING          REMOVING           WAITING    PARKED
    RELEASED       WAITING      HELD by target WAITING or target  gone or target     -          -
    TARGET_RELEASED -           HELD           no target          no target          -          -
    OPENED         -            RELEASING      -                  -                  -          -
    HOLDER_DIES    WAITING      HELD by target WAITING or target  gone or target     -          -
    TARGET_DIES    -            HELD           no target          no target          -          -
    MOVED          RELEASING*   -              -                  -                  -          -
    UPDATED        RELEASING*   RELEASING      -                  - (following)      WAITING    WAITING
    REMOVED        REMOVING     REMOVING       REMOVING           - (no following)   gone       gone
    FORCED         WAITING      HELD by target WAITING or target  gone or target     -          -
    GIVEN_UP       RELEASING    -              -                  -                  -          -
    PARKED         RELEASING    RELEASING      -                  -                  PARKED     -
    RESUMED        -            -              -                  -                  -          WAITING

    * OPENING if the definition asks for overlap and there is a node to open it on.

    Where it says WAITING it is PARKED while the record is parked, and a target is then released in its turn.

    "Gone" waits for those it was taken from by force: REMOVING, until the last of them has let go; unless the
    removal itself is forced. HELD is released
    only by a node that was asked to earlier, under the same token, when it was a target; it will not open it again.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

import attrs
from msgspec.structs import replace

from pydrm.core.records import Assignment, Holder, Phase

__all__ = ["IGNORED", "TABLE", "Event", "Given", "after"]


class Event(enum.Enum):
    RELEASED = "released"
    TARGET_RELEASED = "target-released"
    OPENED = "opened"
    HOLDER_DIES = "holder-dies"
    TARGET_DIES = "target-dies"
    MOVED = "moved"
    UPDATED = "updated"
    REMOVED = "removed"
    FORCED = "forced"
    GIVEN_UP = "given-up"
    PARKED = "parked"
    RESUMED = "resumed"


@attrs.frozen
class Given:
    """
    What a cell may need to know.

    Attributes:
        weight, revision, group: Of the resource's definition as it is now.
        ticket: A fresh one, should the assignment have to wait.
        following: Whether a definition waits for a removed resource to be gone.
        parked: Whether nobody is to hold the resource.
        target: OPENING: who is to open it, under a fresh token; None: nobody, or overlap is not wanted.
    """

    weight: int
    revision: int
    ticket: int
    following: bool = False
    parked: bool = False
    target: Holder | None = None
    group: str = ""


Cell = Callable[[Assignment, Given], Assignment | None]


def after(assignment: Assignment, event: Event, given: Given) -> Assignment | None:
    """What *assignment* becomes by *event*; the very same object if the event says nothing new."""
    return TABLE[assignment.phase, event](assignment, given)


def _ignored(assignment: Assignment, given: Given) -> Assignment:
    return assignment


def _wait(assignment: Assignment, given: Given) -> Assignment:
    return replace(
        assignment,
        phase=Phase.PARKED if given.parked else Phase.WAITING,
        weight=given.weight,
        group=given.group,
        holder=None,
        target=None,
        ticket=0 if given.parked else given.ticket,
        previous=assignment.holder.node if assignment.holder and not given.parked else "",
    )


def _start_moving(assignment: Assignment, given: Given) -> Assignment:
    if given.target is not None:
        # Its weight counts where the target is, so a new definition's counts from here. So does its group.
        return replace(assignment, phase=Phase.OPENING, weight=given.weight, group=given.group, target=given.target)
    return replace(assignment, phase=Phase.RELEASING)


def _release(assignment: Assignment, given: Given) -> Assignment:
    return replace(assignment, phase=Phase.RELEASING)


def _give_up(assignment: Assignment, given: Given) -> Assignment:
    assert assignment.holder is not None
    mine = (assignment.holder.node, assignment.holder.incarnation)
    others = tuple([incarnation for incarnation in assignment.failed if incarnation != mine])
    return replace(assignment, phase=Phase.RELEASING, failed=(*others, mine))


def _remove(assignment: Assignment, given: Given) -> Assignment:
    return replace(assignment, phase=Phase.REMOVING)


def _gone(assignment: Assignment, given: Given) -> Assignment | None:
    """Gone, unless somebody it was taken from by force may still have a handle: then that one is waited for."""
    if not assignment.excluded:
        return None
    holder, *excluded = assignment.excluded
    return replace(assignment, phase=Phase.REMOVING, holder=holder, target=None, excluded=tuple(excluded))


def _keep_holder(assignment: Assignment, given: Given) -> Assignment:
    """The target is gone. What the holder has is released too if it is of an old revision (rule 4)."""
    assert assignment.holder is not None
    return replace(assignment, phase=_held_or_releasing(assignment.holder, given), target=None)


def _without_target(assignment: Assignment, given: Given) -> Assignment:
    return replace(assignment, target=None)


def _next_holder(assignment: Assignment, given: Given) -> Assignment:
    """RELEASING or OPENING, and the holder has let go."""
    target = assignment.target
    if target is None:
        return _wait(assignment, given)
    return replace(assignment, phase=_held_or_releasing(target, given), holder=target, target=None)


def _held_or_releasing(holder: Holder, given: Given) -> Phase:
    return Phase.HELD if holder.revision == given.revision and not given.parked else Phase.RELEASING


def _next_to_remove(assignment: Assignment, given: Given) -> Assignment | None:
    """REMOVING, and the holder has let go."""
    if assignment.target is not None:
        return replace(assignment, holder=assignment.target, target=None)
    return _wait(assignment, given) if given.following else _gone(assignment, given)


def _gone_by_force(assignment: Assignment, given: Given) -> Assignment | None:
    """REMOVING, and whoever asks for force does not want to wait for anybody."""
    return _next_to_remove(assignment, given) if assignment.target or given.following else None


def _forced(cell: Cell) -> Cell:
    """*cell*, but the holder stays excluded until its handle is known to be gone."""

    def forced(assignment: Assignment, given: Given) -> Assignment | None:
        assert assignment.holder is not None
        excluded = (*assignment.excluded, assignment.holder)
        return cell(replace(assignment, excluded=excluded), given)

    return forced


def _update_waiting(assignment: Assignment, given: Given) -> Assignment:
    return replace(assignment, weight=given.weight, group=given.group)


IGNORED: Cell = _ignored

TABLE: dict[tuple[Phase, Event], Cell] = {
    (Phase.HELD, Event.RELEASED): _wait,
    (Phase.HELD, Event.TARGET_RELEASED): IGNORED,
    (Phase.HELD, Event.OPENED): IGNORED,
    (Phase.HELD, Event.HOLDER_DIES): _wait,
    (Phase.HELD, Event.TARGET_DIES): IGNORED,
    (Phase.HELD, Event.MOVED): _start_moving,
    (Phase.HELD, Event.UPDATED): _start_moving,
    (Phase.HELD, Event.REMOVED): _remove,
    (Phase.HELD, Event.FORCED): _forced(_wait),
    (Phase.HELD, Event.GIVEN_UP): _give_up,
    (Phase.HELD, Event.PARKED): _release,
    (Phase.HELD, Event.RESUMED): IGNORED,
    (Phase.OPENING, Event.RELEASED): _next_holder,
    (Phase.OPENING, Event.TARGET_RELEASED): _keep_holder,
    (Phase.OPENING, Event.OPENED): _release,
    (Phase.OPENING, Event.HOLDER_DIES): _next_holder,
    (Phase.OPENING, Event.TARGET_DIES): _keep_holder,
    (Phase.OPENING, Event.MOVED): IGNORED,
    (Phase.OPENING, Event.UPDATED): _release,
    (Phase.OPENING, Event.REMOVED): _remove,
    (Phase.OPENING, Event.FORCED): _forced(_next_holder),
    (Phase.OPENING, Event.GIVEN_UP): IGNORED,
    (Phase.OPENING, Event.PARKED): _release,
    (Phase.OPENING, Event.RESUMED): IGNORED,
    (Phase.RELEASING, Event.RELEASED): _next_holder,
    (Phase.RELEASING, Event.TARGET_RELEASED): _without_target,
    (Phase.RELEASING, Event.OPENED): IGNORED,
    (Phase.RELEASING, Event.HOLDER_DIES): _next_holder,
    (Phase.RELEASING, Event.TARGET_DIES): _without_target,
    (Phase.RELEASING, Event.MOVED): IGNORED,
    (Phase.RELEASING, Event.UPDATED): IGNORED,
    (Phase.RELEASING, Event.REMOVED): _remove,
    (Phase.RELEASING, Event.FORCED): _forced(_next_holder),
    (Phase.RELEASING, Event.GIVEN_UP): IGNORED,
    (Phase.RELEASING, Event.PARKED): IGNORED,
    (Phase.RELEASING, Event.RESUMED): IGNORED,
    (Phase.REMOVING, Event.RELEASED): _next_to_remove,
    (Phase.REMOVING, Event.TARGET_RELEASED): _without_target,
    (Phase.REMOVING, Event.OPENED): IGNORED,
    (Phase.REMOVING, Event.HOLDER_DIES): _next_to_remove,
    (Phase.REMOVING, Event.TARGET_DIES): _without_target,
    (Phase.REMOVING, Event.MOVED): IGNORED,
    (Phase.REMOVING, Event.UPDATED): IGNORED,
    (Phase.REMOVING, Event.REMOVED): IGNORED,
    (Phase.REMOVING, Event.FORCED): _forced(_gone_by_force),
    (Phase.REMOVING, Event.GIVEN_UP): IGNORED,
    (Phase.REMOVING, Event.PARKED): IGNORED,
    (Phase.REMOVING, Event.RESUMED): IGNORED,
    (Phase.WAITING, Event.RELEASED): IGNORED,
    (Phase.WAITING, Event.TARGET_RELEASED): IGNORED,
    (Phase.WAITING, Event.OPENED): IGNORED,
    (Phase.WAITING, Event.HOLDER_DIES): IGNORED,
    (Phase.WAITING, Event.TARGET_DIES): IGNORED,
    (Phase.WAITING, Event.MOVED): IGNORED,
    (Phase.WAITING, Event.UPDATED): _update_waiting,
    (Phase.WAITING, Event.REMOVED): _gone,
    (Phase.WAITING, Event.FORCED): IGNORED,
    (Phase.WAITING, Event.GIVEN_UP): IGNORED,
    (Phase.WAITING, Event.PARKED): _wait,
    (Phase.WAITING, Event.RESUMED): IGNORED,
    (Phase.PARKED, Event.RELEASED): IGNORED,
    (Phase.PARKED, Event.TARGET_RELEASED): IGNORED,
    (Phase.PARKED, Event.OPENED): IGNORED,
    (Phase.PARKED, Event.HOLDER_DIES): IGNORED,
    (Phase.PARKED, Event.TARGET_DIES): IGNORED,
    (Phase.PARKED, Event.MOVED): IGNORED,
    (Phase.PARKED, Event.UPDATED): _wait,
    (Phase.PARKED, Event.REMOVED): _gone,
    (Phase.PARKED, Event.FORCED): IGNORED,
    (Phase.PARKED, Event.GIVEN_UP): IGNORED,
    (Phase.PARKED, Event.PARKED): IGNORED,
    (Phase.PARKED, Event.RESUMED): _wait,
}
