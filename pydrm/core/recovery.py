"""
Recovery: what becomes of the state of one replica when a majority is lost for good; `engine.recovery` carries it out.

What that replica has may be less than what was acknowledged, or more. So its log is not gone on with: another cluster
begins with what it led to, under these rules.

    Rule 1.  It is another cluster, with an id of its own, so who is still of the old one is refused; and it has one
             voter.
    Rule 2.  Its numbers begin far above those of the old one: whatever the lost part of the log gave away as a token
             or as an incarnation does not come again.
    Rule 3.  Nothing is given a holder, and nothing is moved, until one lease_ttl has passed in the new cluster. The
             lost part may have given a resource to a node that nobody here knows of; its lease is over by then.
             Whom the state calls a holder is one until its lease is ended, as always.
"""

from __future__ import annotations

from msgspec.structs import replace

from pydrm.core.answers import Done, Reason
from pydrm.core.changes import RecoveryBegun, RecoveryEnded
from pydrm.core.commands import EndRecovery
from pydrm.core.decision import Decision, refused
from pydrm.core.state import State

__all__ = ["SKIPPED_NUMBERS", "decide_begin_recovery", "decide_end_recovery"]

# More than any log hands out that can be lost between two replicas; and room for as many recoveries again.
SKIPPED_NUMBERS = 2**32


def decide_begin_recovery(state: State, *, node: str, replica_id: str, cluster_id: str) -> Decision:
    """Make a cluster of its own of what this replica has. No command of the log: nobody else is asked."""
    settings = state.settings
    if settings is None:
        return refused(Reason.NOT_FORMED, f"the log of {node} does not say what the cluster consists of")
    voter = settings.voter(node)
    if voter is None or voter.replica_id != replica_id:
        names = ", ".join(voter.name for voter in settings.voters)
        return refused(Reason.NOT_FOUND, f"{node} has no vote as replica {replica_id}; the voters are {names}")
    recovering = replace(
        settings,
        cluster_id=cluster_id,
        voters=(voter,),
        voters_revision=settings.voters_revision + 1,
        recovering=True,
    )
    begun = RecoveryBegun(recovering, state.next_number + SKIPPED_NUMBERS, state.next_incarnation + SKIPPED_NUMBERS)
    return Decision(Done(), (begun,))


def decide_end_recovery(state: State, command: EndRecovery) -> Decision:
    settings = state.settings
    if settings is None:
        return refused(Reason.NOT_FORMED)
    if command.cluster_id != settings.cluster_id:
        return refused(Reason.STALE, f"this is cluster {settings.cluster_id}")
    if not settings.recovering:
        return refused(Reason.STALE, "it does not recover")
    return Decision(Done(), (RecoveryEnded(replace(settings, recovering=False)),))
