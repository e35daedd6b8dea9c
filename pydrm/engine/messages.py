"""
What PySyncObj's core sends and takes, dicts with a type, and what that is on the wire: a translation, and nothing else.

What must be mended on the way in or out is in `guards`, and `raft` applies it to frames.
"""

from __future__ import annotations

from typing import Any

from pydrm.engine.frames import (
    Append,
    Forward,
    NextIndex,
    RequestVote,
    TimeoutNow,
    Vote,
)

__all__ = ["Message", "from_core", "to_core", "wants_snapshot"]

Message = dict[str, Any]


def to_core(frame: Append | NextIndex | RequestVote | Vote | TimeoutNow) -> Message:
    """*frame* as the core takes it."""
    match frame:
        case Append():
            return {
                "type": "append_entries",
                "term": frame.term,
                "commit_index": frame.commit_index,
                "entries": frame.entries,
                "prevLogIdx": frame.previous_index,
                "prevLogTerm": frame.previous_term,
            }
        case NextIndex():
            return {
                "type": "next_node_idx",
                "next_node_idx": frame.next_index,
                "reset": frame.reset,
                "success": frame.success,
            }
        case RequestVote():
            return {
                "type": "request_vote",
                "term": frame.term,
                "last_log_index": frame.last_index,
                "last_log_term": frame.last_term,
            }
        case Vote():
            return {"type": "response_vote", "term": frame.term}
        case TimeoutNow():
            return {"type": "timeout_now", "term": frame.term}


def wants_snapshot(message: Message) -> bool:
    """Whether the core would send a snapshot, of which it has none; it would ask for it without end."""
    return bool(message["type"] == "append_entries" and "prevLogIdx" not in message)


def from_core(message: Message, term: int) -> Append | NextIndex | RequestVote | Vote | TimeoutNow | Forward:
    """What the core sends in *term*, which it does not always say; not for what `wants_snapshot`."""
    match message["type"]:
        case "append_entries":
            return Append(
                term=message["term"],
                commit_index=message["commit_index"],
                previous_index=message["prevLogIdx"],
                previous_term=message["prevLogTerm"],
                entries=tuple(message["entries"]),
            )
        case "next_node_idx":
            return NextIndex(term, message["next_node_idx"], message["reset"], message["success"])
        case "apply_command":
            return Forward(message["command"])
        case "request_vote":
            return RequestVote(message["term"], message["last_log_index"], message["last_log_term"])
        case "response_vote":
            return Vote(message["term"])
        case "timeout_now":
            return TimeoutNow(message["term"])
        case unknown:
            raise AssertionError(f"PySyncObj sends {unknown}")
