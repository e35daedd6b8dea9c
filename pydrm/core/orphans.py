"""
Orphans: what a source brought, once the source itself is gone.

They go by the ways of every removal, some at a time. Each is disowned first, so that it is looked at once. A source
that is added again meanwhile, under the same id, finds as its own what is left.
"""

from __future__ import annotations

from itertools import islice

from msgspec.structs import replace

from pydrm.core.changes import Cause, Change
from pydrm.core.draft import Draft
from pydrm.core.handoff import Event
from pydrm.core.state import State

__all__ = ["sweep"]


def sweep(state: State, limit: int) -> list[Change]:
    """Remove what sources that are gone have left, the oldest first; a stage as in `placement`."""
    if not state.brought.gone or (state.settings is not None and state.settings.recovering):
        return []
    draft = Draft(state)
    left = limit
    for source in sorted(state.brought.gone):
        for resource in list(islice(state.brought.by_source[source].oldest_first(), left)):
            left -= 1
            _remove(draft, resource, source)
        if left <= 0:
            break
    return draft.changes


def _remove(draft: Draft, resource: str, source: str) -> None:
    record = draft.record(resource)
    assert record is not None
    definition = replace(record.definition, source="") if record.definition.source == source else record.definition
    draft.define(replace(record, definition=definition, following=None))
    draft.happen((resource, 0), Event.REMOVED, Cause.REMOVED)
