"""
Deciding about the cluster and its nodes: forming, joining, leases, draining, leaving.
"""

from __future__ import annotations

from msgspec.structs import replace

from pydrm.core.changes import Change, Formed, LeaseEnded, NodeChanged, SessionEnded
from pydrm.core.commands import Done, Drain, Expire, Form, Join, Reason, Refused, Renew, Resign
from pydrm.core.decision import Decision, current, refused
from pydrm.core.records import Node, NodeState, Settings
from pydrm.core.state import State

__all__ = ["decide_drain", "decide_expire", "decide_form", "decide_join", "decide_renew", "decide_resign", "end_lease"]


def decide_form(state: State, command: Form) -> Decision:
    settings = Settings(command.cluster_id, command.members, command.lease_ttl_ms)
    if state.settings == settings:
        return Decision(Done())
    if state.settings is not None:
        return refused(Reason.ALREADY_FORMED, f"as {state.settings.cluster_id}")
    if not command.members or command.lease_ttl_ms <= 0:
        return refused(Reason.INVALID, "a cluster needs members and a lease_ttl above 0")
    return Decision(Done(), (Formed(settings),))


def decide_join(state: State, command: Join) -> Decision:
    settings = state.settings
    if settings is None:
        return refused(Reason.NOT_FORMED)
    if command.node not in dict(settings.members):
        return refused(Reason.NOT_FOUND, f"{command.node} is not a member of {settings.cluster_id}")
    if command.lease_ttl_ms != settings.lease_ttl_ms:
        return refused(
            Reason.SETTINGS_DIFFER,
            f"lease_ttl is {settings.lease_ttl_ms / 1000} s in this cluster, not {command.lease_ttl_ms / 1000} s",
        )
    old = state.nodes.get(command.node)
    if old is not None and old.nonce == command.nonce:
        return Decision(Done(number=old.incarnation)) if old.lives else refused(Reason.STALE, "it joined before")
    if command.replaces != (old.incarnation if old else 0):
        return refused(Reason.STALE, f"{command.node} is at incarnation {old.incarnation if old else 0}")
    changes: list[Change] = []
    if old is not None and old.lives:
        if not command.directory or command.directory != old.directory:
            return refused(Reason.LEASE_RUNNING, f"the lease of {command.node}'s former process has not ended")
        changes += end_lease(old)
    joined = Node(
        name=command.node,
        incarnation=state.next_incarnation,
        nonce=command.nonce,
        state=NodeState.ALIVE,
        count=0,
        ttl_ms=settings.lease_ttl_ms,
        directory=command.directory,
        address=command.address,
    )
    changes.append(NodeChanged(joined))
    return Decision(Done(number=joined.incarnation), tuple(changes))


def decide_renew(state: State, command: Renew) -> Decision:
    node = current(state, command.node, command.incarnation)
    if isinstance(node, Refused):
        return Decision(node)
    if command.count <= node.count:
        return refused(Reason.STALE, f"renewal {node.count} came first")
    return Decision(Done(), (NodeChanged(replace(node, count=command.count, ttl_ms=command.ttl_ms)),))


def decide_expire(state: State, command: Expire) -> Decision:
    node = current(state, command.node, command.incarnation)
    if isinstance(node, Refused):
        return Decision(node)
    if command.count != node.count:
        return refused(Reason.STALE, f"renewal {node.count} came first")
    return Decision(Done(), end_lease(node))


def decide_drain(state: State, command: Drain) -> Decision:
    node = current(state, command.node, command.incarnation)
    if isinstance(node, Refused):
        return Decision(node)
    if node.state is NodeState.DRAINING:
        return Decision(Done())
    return Decision(Done(), (NodeChanged(replace(node, state=NodeState.DRAINING)),))


def decide_resign(state: State, command: Resign) -> Decision:
    node = current(state, command.node, command.incarnation)
    if isinstance(node, Refused):
        return Decision(node)
    return Decision(Done(), end_lease(node))


def end_lease(node: Node) -> tuple[Change, ...]:
    return (
        LeaseEnded(replace(node, state=NodeState.LEFT)),
        SessionEnded(node.name, node.incarnation),
    )
