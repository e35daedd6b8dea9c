"""
Who may talk to whom, and when a cluster is formed: pure decisions about `Hello` frames.

    Rule 1.  Both sides say Hello first, and each decides for itself whether it wants the other.
    Rule 2.  Cluster, voters and replica ids must fit; a replica that lost its memory is not wanted.
    Rule 3.  A cluster is formed when all listed voters are there, unformed, with equal lists. All of them
             derive the same cluster id from the same replica ids, so nobody has to decide for the others.
    Rule 4.  Who is unformed and is named, with its own replica id, by a formed member, was only slower, and
             belongs to that cluster. It has never voted, so it has forgotten nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

import attrs

from pydrm.engine.codec import Hello

__all__ = ["PROTOCOL", "Formation", "formation", "objection"]

PROTOCOL = 1


@attrs.frozen
class Formation:
    """What a formed cluster consists of."""

    cluster_id: str
    members: dict[str, str]


def objection(mine: Hello, theirs: Hello, newest_boot: tuple[int, str] | None) -> str:
    """
    Why *theirs* is not wanted, in words for people; "" if it is.

    *newest_boot* is the newest (boot, nonce) that was seen of that replica, if any: an emptied directory is another
    replica and begins at boot 1.
    """
    if theirs.version != PROTOCOL:
        return f"it speaks protocol {theirs.version}, this node {mine.version}"
    if theirs.cluster != mine.cluster:
        return f"it belongs to cluster {theirs.cluster!r}, this node to {mine.cluster!r}"
    if theirs.node == mine.node:
        return f"it calls itself {theirs.node!r}, like this node; every node needs a name of its own"
    if theirs.node not in mine.voters:
        return f"{theirs.node!r} is not among the peers of this node, {', '.join(mine.voters)}"
    if theirs.cluster_id and mine.cluster_id and theirs.cluster_id != mine.cluster_id:
        return f"it was formed as {theirs.cluster_id}, this node as {mine.cluster_id}: another cluster of the same name"
    if not (theirs.cluster_id and mine.cluster_id) and theirs.voters != mine.voters:
        return f"it lists the peers {', '.join(theirs.voters)}, this node {', '.join(mine.voters)}"
    for formed, other in ((mine, theirs), (theirs, mine)):
        bound = dict(formed.members)
        if formed.cluster_id and bound.get(other.node) != other.replica_id:
            return (
                f"{other.node}'s data directory is not the one that the cluster was formed with (replica "
                f"{other.replica_id}, known is {bound.get(other.node)}); it may have forgotten votes. "
                "Restore it, or replace the node as a voter"
            )
    if newest_boot is not None and (theirs.boot, theirs.nonce) != newest_boot and theirs.boot <= newest_boot[0]:
        return f"it is an old incarnation of {theirs.node} (boot {theirs.boot}; boot {newest_boot[0]} was here)"
    return ""


def formation(mine: Hello, heard: Mapping[str, Hello]) -> Formation | None:
    """The cluster that this unformed node belongs to by what it has *heard* from the linked peers, if any yet."""
    for hello in heard.values():
        members = dict(hello.members)
        if hello.cluster_id and members.get(mine.node) == mine.replica_id:
            return Formation(hello.cluster_id, members)
    others = [name for name in mine.voters if name != mine.node]
    if any(name not in heard or heard[name].cluster_id or heard[name].voters != mine.voters for name in others):
        return None
    members = {name: heard[name].replica_id for name in others} | {mine.node: mine.replica_id}
    members = dict(sorted(members.items()))
    bound = repr((mine.cluster, sorted(members.items()))).encode()
    return Formation(f"{mine.cluster}-{blake2b(bound, digest_size=8).hexdigest()}", members)
