"""
Deciding about nodes: joining, leases, draining, leaving.
"""

from __future__ import annotations

from msgspec.structs import replace

from pydrm.core.answers import Done, Reason, Refused
from pydrm.core.changes import Change, LeaseEnded, NodeChanged, SessionEnded, WatermarkDropped
from pydrm.core.commands import Drain, Expire, Join, Renew, Resign
from pydrm.core.decide_settings import is_name
from pydrm.core.decision import Decision, current, refused
from pydrm.core.records import Node, NodeState, Role
from pydrm.core.settings import Settings
from pydrm.core.state import State

__all__ = ["decide_drain", "decide_expire", "decide_join", "decide_renew", "decide_resign", "end_lease"]


def decide_join(state: State, command: Join) -> Decision:
    settings = state.settings
    if settings is None:
        return refused(Reason.NOT_FORMED)
    unfit = _unfit(settings, command)
    if unfit is not None:
        return Decision(unfit)
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
        protocol=command.protocol,
        role=command.role,
    )
    changes.append(NodeChanged(joined))
    former = sorted(by for by in state.watermarks if by[0] == command.node and by not in state.index.claims)
    changes += [WatermarkDropped(*by) for by in former]
    return Decision(Done(number=joined.incarnation), tuple(changes))


def _unfit(settings: Settings, command: Join) -> Refused | None:
    """Why no process that is set up like this one can join."""
    # One that is set up as a voter and has no vote yet holds resources meanwhile.
    if command.role is Role.WORKER and settings.voter(command.node) is not None:
        return Refused(Reason.INVALID, f"{command.node} is a voter of {settings.cluster_id} and cannot be a worker")
    if not is_name(command.node):
        return Refused(Reason.INVALID, f'no node can be called "{command.node}"')
    if command.protocol < settings.protocol:
        return Refused(
            Reason.TOO_OLD,
            f"{command.node} speaks protocol {command.protocol} and the cluster {settings.protocol}; "
            f"install a newer pydrm on {command.node}",
        )
    if command.lease_ttl_ms != settings.lease_ttl_ms:
        return Refused(
            Reason.SETTINGS_DIFFER,
            f"lease_ttl is {settings.lease_ttl_ms / 1000} s in this cluster, not {command.lease_ttl_ms / 1000} s",
        )
    return None


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
