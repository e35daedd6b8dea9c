"""
Deciding about what all nodes must agree on: forming the cluster, who votes, and which protocol is in force.

Voters are changed one by one, by compare and set on their revision. That a change is safe, so that the majorities
before and after it meet, is the engine's business; here is only what everybody knows of it.
"""

from __future__ import annotations

import re

from msgspec.structs import replace

from pydrm.core.answers import Done, Reason, Refused
from pydrm.core.changes import Formed, ProtocolRaised, VotersChanged
from pydrm.core.commands import AddVoter, Form, RaiseProtocol, RemoveVoter
from pydrm.core.decision import Decision, refused
from pydrm.core.settings import Settings, Voter
from pydrm.core.state import State

__all__ = ["decide_add_voter", "decide_form", "decide_raise_protocol", "decide_remove_voter", "is_name"]

# Of ASCII alone: what else a pattern would match differs between versions of Python, and a decision must not.
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ADDRESS = re.compile(r"[!-~]{1,255}:[0-9]{1,5}")


def is_name(name: str) -> bool:
    """Whether a node, or the replica that its data directory is, can be called so."""
    return _NAME.fullmatch(name) is not None


def decide_form(state: State, command: Form) -> Decision:
    voters = tuple(sorted(command.voters, key=lambda voter: voter.name))
    settings = Settings(command.cluster_id, voters, command.lease_ttl_ms)
    if state.settings == settings:
        return Decision(Done())
    if state.settings is not None:
        return refused(Reason.ALREADY_FORMED, f"as {state.settings.cluster_id}")
    if not voters or command.lease_ttl_ms <= 0:
        return refused(Reason.INVALID, "a cluster needs voters and a lease_ttl above 0")
    if len({voter.name for voter in voters}) < len(voters) or len({voter.replica_id for voter in voters}) < len(voters):
        return refused(Reason.INVALID, "two voters have the same name or the same data directory")
    return Decision(Done(), (Formed(settings),))


def decide_add_voter(state: State, command: AddVoter) -> Decision:
    settings = _at_revision(state, command.revision)
    if isinstance(settings, Refused):
        return Decision(settings)
    if not is_name(command.name):
        return refused(Reason.INVALID, f'no node can be called "{command.name}"')
    if not is_name(command.replica_id):
        return refused(Reason.INVALID, f'no replica can have the id "{command.replica_id}"')
    if not _ADDRESS.fullmatch(command.address):
        return refused(Reason.INVALID, f'the address of {command.name} must be host:port, not "{command.address}"')
    for voter in settings.voters:
        if voter.name == command.name:
            return refused(Reason.INVALID, f"{voter.name} is a voter already, as replica {voter.replica_id}")
        if voter.replica_id == command.replica_id:
            return refused(Reason.INVALID, f"replica {voter.replica_id} is a voter already, as {voter.name}")
    added = Voter(command.name, command.replica_id, command.address)
    return _change_voters(settings, (*settings.voters, added))


def decide_remove_voter(state: State, command: RemoveVoter) -> Decision:
    settings = _at_revision(state, command.revision)
    if isinstance(settings, Refused):
        return Decision(settings)
    voter = settings.voter(command.name)
    if voter is None:
        return refused(Reason.NOT_FOUND, f"{command.name} is not a voter; {_named(settings)}")
    if voter.replica_id != command.replica_id:
        return refused(Reason.NOT_FOUND, f"{voter.name} is replica {voter.replica_id}, not {command.replica_id}")
    if len(settings.voters) == 1:
        return refused(Reason.INVALID, f"{voter.name} is the last voter")
    return _change_voters(settings, tuple(other for other in settings.voters if other is not voter))


def decide_raise_protocol(state: State, command: RaiseProtocol) -> Decision:
    settings = state.settings
    if settings is None:
        return refused(Reason.NOT_FORMED)
    if command.to <= settings.protocol:
        return refused(Reason.STALE, f"protocol {settings.protocol} is in force already")
    # A voter that is down has votes, and will come back; a worker that is down has nothing, and must join first.
    behind = [
        f"{name} speaks protocol {node.protocol}"
        for name, node in sorted(state.nodes.items())
        if node.protocol < command.to and (node.lives or settings.voter(name) is not None)
    ]
    # A voter that never joined follows the log as well, and nobody knows what it can apply.
    absent = [voter.name for voter in settings.voters if voter.name not in state.nodes]
    ways_out = [f"{', '.join(behind)}: install a newer pydrm there and start it first"] if behind else []
    ways_out += [f"{name} has a vote and never joined: start it, or pydrm nodes remove {name}" for name in absent]
    if ways_out:
        return refused(Reason.UNSUPPORTED, "; ".join(ways_out))
    raised = replace(settings, protocol=command.to)
    return Decision(Done(), (ProtocolRaised(raised),))


def _at_revision(state: State, revision: int) -> Settings | Refused:
    settings = state.settings
    if settings is None:
        return Refused(Reason.NOT_FORMED)
    if revision != settings.voters_revision:
        return Refused(Reason.STALE, _named(settings))
    return settings


def _named(settings: Settings) -> str:
    names = ", ".join(voter.name for voter in settings.voters)
    return f"the voters are {names}, at revision {settings.voters_revision}"


def _change_voters(settings: Settings, voters: tuple[Voter, ...]) -> Decision:
    voters = tuple(sorted(voters, key=lambda voter: voter.name))
    changed = replace(settings, voters=voters, voters_revision=settings.voters_revision + 1)
    return Decision(Done(number=changed.voters_revision), (VotersChanged(changed),))
