"""
Who may talk to whom, and when a cluster is formed: pure decisions about `Hello` frames.

    Rule 1.  Both sides say Hello first, and each decides for itself whether it wants the other.
    Rule 2.  A node speaks the wire formats from `WIRE_FORMAT_OLDEST` to `WIRE_FORMAT`; two nodes use the highest that
             both speak. What the state holds has a version of its own, see `core.protocol`.
    Rule 3.  Cluster and replica ids must fit; a voter that lost its memory is not wanted. Who votes is what the newer
             of the two sides knows of it.
    Rule 4.  A cluster is formed when all listed voters are there, unformed, with equal lists. All of them
             derive the same cluster id from the same replica ids, so nobody has to decide for the others.
    Rule 5.  Who is unformed and meets a formed cluster belongs to it: as a voter, if it is named with its own replica
             id, because then it was only slower, and has never voted, so it has forgotten nothing; else as a node
             that follows, until it is made a voter by command.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

import attrs

from pydrm.engine.frames import Hello

__all__ = ["WIRE_FORMAT", "WIRE_FORMAT_OLDEST", "Formation", "common_format", "formation", "objection"]

WIRE_FORMAT = 1
WIRE_FORMAT_OLDEST = 1


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
    if common_format(mine, theirs) is None:
        return _no_common_format(mine, theirs)
    if theirs.cluster != mine.cluster:
        return f"it belongs to cluster {theirs.cluster!r}, this node to {mine.cluster!r}"
    if theirs.node == mine.node:
        return f"it calls itself {theirs.node!r}, like this node; every node needs a name of its own"
    if theirs.cluster_id and mine.cluster_id and theirs.cluster_id != mine.cluster_id:
        return f"it was formed as {theirs.cluster_id}, this node as {mine.cluster_id}: another cluster of the same name"
    return (
        _unformed_objection(mine, theirs)
        or _amnesia(mine, theirs)
        or (_old_incarnation(theirs, newest_boot) if newest_boot is not None else "")
    )


def common_format(one: Hello, other: Hello) -> int | None:
    """The wire format that the two use with each other; None if they have none in common."""
    highest = min(one.version, other.version)
    return highest if highest >= max(_oldest(one), _oldest(other)) else None


def _no_common_format(mine: Hello, theirs: Hello) -> str:
    # Both sides say the same, so that whoever reads only one log knows which node to see to.
    older, newer = sorted((mine, theirs), key=lambda hello: (hello.version, hello.node))
    return (
        f"{older.node} speaks {_formats(older)} and {newer.node} {_formats(newer)}: start {older.node} with a pydrm "
        f"that speaks wire format {_oldest(newer)}"
    )


def _oldest(hello: Hello) -> int:
    return hello.oldest_version or hello.version


def _formats(hello: Hello) -> str:
    oldest = _oldest(hello)
    return f"wire format {oldest}" if oldest == hello.version else f"wire formats {oldest} to {hello.version}"


def _unformed_objection(mine: Hello, theirs: Hello) -> str:
    if mine.cluster_id or theirs.cluster_id or "worker" in (mine.role, theirs.role):
        return ""
    if theirs.node not in mine.voters:
        return f"{theirs.node!r} is not among the peers of this node, {', '.join(mine.voters)}"
    if theirs.voters != mine.voters:
        return f"it lists the peers {', '.join(theirs.voters)}, this node {', '.join(mine.voters)}"
    return ""


def _amnesia(mine: Hello, theirs: Hello) -> str:
    newer = max((mine, theirs), key=lambda hello: (bool(hello.cluster_id), hello.members_revision))
    bound = dict(newer.members)
    for hello in (mine, theirs):
        if hello.node in bound and bound[hello.node] != hello.replica_id:
            return (
                f"{hello.node}'s data directory is not the one that the cluster knows (replica {hello.replica_id}, "
                f"known is {bound[hello.node]}); it may have forgotten votes. Restore it, or replace the voter: "
                f"pydrm nodes replace {hello.node}"
            )
    return ""


def _old_incarnation(theirs: Hello, newest_boot: tuple[int, str]) -> str:
    if (theirs.boot, theirs.nonce) != newest_boot and theirs.boot <= newest_boot[0]:
        return f"it is an old incarnation of {theirs.node} (boot {theirs.boot}; boot {newest_boot[0]} was here)"
    return ""


def formation(mine: Hello, heard: Mapping[str, Hello]) -> Formation | None:
    """The cluster that this unformed node belongs to by what it has *heard* from the linked peers, if any yet."""
    formed = [hello for hello in heard.values() if hello.cluster_id]
    if formed:
        newest = max(formed, key=lambda hello: (hello.members_revision, hello.node))
        members = dict(newest.members)
        if members.get(mine.node, mine.replica_id) != mine.replica_id:
            return None  # a voter that has forgotten what it voted
        return Formation(newest.cluster_id, members)
    if mine.role == "worker":
        return None
    others = [name for name in mine.voters if name != mine.node]
    if any(name not in heard or heard[name].role == "worker" or heard[name].voters != mine.voters for name in others):
        return None
    members = {name: heard[name].replica_id for name in others} | {mine.node: mine.replica_id}
    members = dict(sorted(members.items()))
    bound = repr((mine.cluster, sorted(members.items()))).encode()
    return Formation(f"{mine.cluster}-{blake2b(bound, digest_size=8).hexdigest()}", members)
