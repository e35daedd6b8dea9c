"""
Deciding about checkpoints: how far a handler had got, for whoever holds its resource next.

Only who holds a resource may save, under the token it holds it by; so what a former holder says comes to nothing. With
overlap there are two for a moment: then the one with the newer token has the last word, for as long as it is there.

A node that acts for thousands of resources, each at its time, need not save each of them before: it raises its
watermark up to what is due. What it held when it died, or when that was taken from it by force, goes to the next holder
with the watermark beside the last checkpoint; so does what it released without a parting word.
"""

from __future__ import annotations

from pydrm.core.answers import Done, Reason, Refused
from pydrm.core.changes import WatermarkRaised
from pydrm.core.decision import Decision, current, refused
from pydrm.core.draft import Draft
from pydrm.core.handle_commands import RaiseWatermark, SaveCheckpoints
from pydrm.core.records import CHECKPOINT_BYTES_MAX, AssignmentKey, Checkpoint, Incarnation, Watermark
from pydrm.core.state import State

__all__ = ["decide_raise_watermark", "decide_save", "save_one"]


def decide_save(state: State, command: SaveCheckpoints) -> Decision:
    node = current(state, command.node, command.incarnation)
    if isinstance(node, Refused):
        return Decision(node)
    long = [save.resource for save in command.saves if len(save.value) > CHECKPOINT_BYTES_MAX]
    if long:
        return refused(Reason.INVALID, f"the checkpoint of {long[0]} is longer than {CHECKPOINT_BYTES_MAX} bytes")
    draft = Draft(state)
    missing = []
    for save in command.saves:
        if not save_one(draft, (node.name, node.incarnation), (save.resource, save.slot), save.token, save.value):
            missing.append(str(save.token))
    return Decision(Done(missing=tuple(missing)), tuple(draft.changes))


def save_one(draft: Draft, by: Incarnation, key: AssignmentKey, token: int, value: bytes) -> bool:
    """Note one checkpoint; False if it is not this one's to save."""
    claimed = draft.claimed(by, key, token)
    if claimed is None or len(value) > CHECKPOINT_BYTES_MAX:
        return False
    assignment, claim = claimed
    if claim in assignment.excluded:
        return False
    old = draft.checkpoint(key)
    if old is not None and old.token > token and assignment.claim(old.token) is not None:
        return False
    draft.save(Checkpoint(*key, token, value))
    return True


def decide_raise_watermark(state: State, command: RaiseWatermark) -> Decision:
    node = current(state, command.node, command.incarnation)
    if isinstance(node, Refused):
        return Decision(node)
    old = state.watermarks.get((node.name, node.incarnation))
    if old is not None and old.until_us >= command.until_us:
        return Decision(Done())
    return Decision(Done(), (WatermarkRaised(Watermark(node.name, node.incarnation, command.until_us)),))
