"""
`compare`: what has to change for the cluster to agree with a list. Pure.

    Rule 1.  Only what the source owns, or nobody has, is touched.
    Rule 2.  What the list does not name any more is removed, unless `on_missing` says "keep".
    Rule 3.  An empty list, and one that would take away more than `max_shrink` of what the source owns, changes
             nothing at all: it is more often a mistake at the other end than meant, and every connection hangs on it.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from pydrm.core.records import Definition, Phase
from pydrm.core.state import State
from pydrm.sources.entries import Entries
from pydrm.sources.options import Options

__all__ = ["Doubtful", "Plan", "compare"]


class Doubtful(Exception):
    """A list that should not be believed; the message says why, and what would allow it."""


@attrs.frozen
class Plan:
    """
    Attributes:
        put: What is new or differs.
        remove: The ids of what is to go.
        foreign: The ids that somebody else owns.
        owned: How many the source owns when all this is done, if nobody else does anything meanwhile.
    """

    put: Sequence[Definition]
    remove: Sequence[str]
    foreign: Sequence[str]
    owned: int


def compare(source: str, entries: Entries, options: Options, state: State) -> Plan:
    """
    Reads single records, so from any thread; what changes meanwhile the cluster decides.

    Raises:
        Doubtful: By rule 3.
    """
    owned = state.brought.owned_by(source)
    gone = [id for id in owned if id not in entries.definitions and id not in entries.spared]
    if options.on_missing == "keep" or entries.nameless:
        gone = []
    if gone and not entries.definitions and not entries.spared and not options.allow_empty:
        raise Doubtful(f"the list is empty, and {len(owned)} resources came from it; allow_empty would allow it")
    if len(gone) > options.max_shrink * len(owned) and (entries.definitions or entries.spared):
        raise Doubtful(
            f"the list would take away {len(gone)} of {len(owned)} resources; "
            f"max_shrink allows {options.max_shrink:.0%}"
        )
    put, foreign = [], []
    for definition in entries.definitions.values():
        kept = _kept(state, definition.id)
        if kept is not None and kept.source != source:
            foreign.append(definition.id)
        elif kept != definition:
            put.append(definition)
    return Plan(put, gone, foreign, len({*owned, *entries.definitions}.difference(gone, foreign)))


def _kept(state: State, id: str) -> Definition | None:
    """What is under management, or will be once it is gone that is being removed."""
    record, assignment = state.records.get(id), state.assignments.get((id, 0))
    if record is None:
        return None
    if record.following is not None:
        return record.following
    return None if assignment is None or assignment.phase is Phase.REMOVING else record.definition
