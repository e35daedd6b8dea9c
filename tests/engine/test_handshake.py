"""
The handshake: who is wanted and what a cluster consists of, as functions of what nodes say of themselves.
"""

from __future__ import annotations

import msgspec
import pytest

from pydrm.engine.frames import Hello
from pydrm.engine.handshake import WIRE_FORMAT, Formation, common_format, formation, objection

VOTERS = ("a", "b", "c")
MEMBERS = (("a", "replica-a"), ("b", "replica-b"), ("c", "replica-c"))


def hello(node: str, **fields: object) -> Hello:
    """What a node of an unformed cluster says."""
    plain = Hello(
        version=WIRE_FORMAT,
        cluster="orders",
        node=node,
        role="voter",
        replica_id=f"replica-{node}",
        cluster_id="",
        boot=3,
        nonce=f"nonce-{node}",
        address=f"{node}.example:7000",
        voters=VOTERS,
    )
    return msgspec.structs.replace(plain, **fields)


def formed(node: str, **fields: object) -> Hello:
    """What a node of a formed cluster says."""
    return hello(node, **{"cluster_id": "orders-1", "members": MEMBERS, "members_revision": 1, **fields})


def worker(node: str, **fields: object) -> Hello:
    """What a worker says that has not met its cluster yet."""
    return hello(node, **{"role": "worker", **fields})


A, B, C = (hello(name) for name in VOTERS)


# --- who is wanted ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (A, B),
        (formed("a"), formed("b")),
        (formed("a"), B),
        (A, formed("b")),
        (formed("a"), hello("d", voters=("a", "b", "c", "d"))),
        (formed("a"), formed("d")),
        (formed("a"), worker("w")),
        (worker("w"), formed("a")),
        (A, worker("w")),
        (worker("w"), A),
        (formed("a"), formed("w", role="worker")),
    ],
)
def test_whoever_fits_is_wanted(mine: Hello, theirs: Hello):
    """Formed or not, voter or not; a formed cluster takes in whoever follows it."""
    assert objection(mine, theirs, None) == ""


@pytest.mark.parametrize(
    ("mine", "theirs", "reason"),
    [
        (A, hello("b", cluster="invoices"), "it belongs to cluster 'invoices', this node to 'orders'"),
        (A, hello("a"), "it calls itself 'a', like this node; every node needs a name of its own"),
        (A, hello("d"), "'d' is not among the peers of this node, a, b, c"),
        (
            formed("a"),
            formed("b", cluster_id="orders-2"),
            "it was formed as orders-2, this node as orders-1: another cluster of the same name",
        ),
        (A, hello("b", voters=("a", "b")), "it lists the peers a, b, this node a, b, c"),
    ],
)
def test_whoever_does_not_fit_is_told_why(mine: Hello, theirs: Hello, reason: str):
    """In words that say what to mend, and where."""
    assert objection(mine, theirs, None) == reason


@pytest.mark.parametrize("of_b", [hello("b", replica_id="new"), formed("b", replica_id="new")])
def test_a_voter_of_another_replica_is_not_wanted(of_b: Hello):
    """An empty directory under a voter's name may have forgotten votes; it is told so by the others."""
    reason = (
        "b's data directory is not the one that the cluster knows (replica new, known is replica-b); "
        "it may have forgotten votes. Restore it, or replace the voter: pydrm nodes replace b"
    )

    assert objection(formed("a"), of_b, None) == reason


def test_a_worker_that_takes_the_name_of_a_voter_is_not_wanted():
    assert "pydrm nodes replace b" in objection(formed("a"), worker("b", replica_id="new"), None)


def test_who_votes_is_what_the_newer_of_both_knows():
    """A node that has not heard of a replacement yet does not keep the new voter out, nor let the old one in."""
    replaced = (("a", "replica-a"), ("b", "new"), ("c", "replica-c"))
    new_b = formed("b", replica_id="new", members=replaced, members_revision=3)
    old_b = formed("b")

    assert objection(formed("a"), new_b, None) == ""
    assert objection(new_b, formed("a"), None) == ""
    assert "replica replica-b, known is new" in objection(
        formed("a", members=replaced, members_revision=3), old_b, None
    )


def test_whoever_forgot_does_not_want_those_who_know():
    """Both sides decide for themselves, and come to the same."""
    forgetful = hello("b", replica_id="new")

    assert objection(forgetful, formed("a"), None) == objection(formed("a"), forgetful, None)


@pytest.mark.parametrize(
    ("boot", "nonce", "wanted"),
    [
        (3, "nonce-b", True),  # the same process, on another connection
        (4, "another", True),  # it was restarted
        (3, "another", False),  # a copy of its directory
        (2, "another", False),  # what a slow network brings of a process that is gone
    ],
)
def test_of_two_processes_of_one_node_the_newer_is_wanted(boot: int, nonce: str, wanted: bool):
    """A connection of an old one must not push out that of its successor."""
    reason = objection(A, hello("b", boot=boot, nonce=nonce), (3, "nonce-b"))

    assert reason == ("" if wanted else f"it is an old incarnation of b (boot {boot}; boot 3 was here)")


# --- which wire format they use --------------------------------------------------------------------------------------


def speaks(node: str, oldest: int, newest: int) -> Hello:
    """A node that speaks these wire formats."""
    return hello(node, version=newest, oldest_version=oldest)


@pytest.mark.parametrize(
    ("one", "other", "used"),
    [
        (speaks("a", 1, 1), speaks("b", 1, 1), 1),
        (speaks("a", 1, 3), speaks("b", 2, 5), 3),
        (speaks("a", 1, 9), speaks("b", 4, 4), 4),
        (speaks("a", 1, 2), speaks("b", 2, 3), 2),
        (speaks("a", 1, 2), speaks("b", 3, 4), None),
        (speaks("a", 1, 2), hello("b", version=2), 2),
        (speaks("a", 1, 2), hello("b", version=3), None),
        (speaks("a", 1, 9), speaks("b", 7, 5), None),
    ],
)
def test_two_nodes_use_the_highest_wire_format_that_both_speak(one: Hello, other: Hello, used: int | None):
    """Who names no oldest speaks the newest only; who names a range that is none speaks nothing."""
    assert common_format(one, other) == common_format(other, one) == used
    assert (objection(one, other, None) == "") == (used is not None)


@pytest.mark.parametrize(
    ("older", "newer", "reason"),
    [
        (
            speaks("b", 1, 2),
            speaks("a", 3, 4),
            "b speaks wire formats 1 to 2 and a wire formats 3 to 4: start b with a pydrm that speaks wire format 3",
        ),
        (
            hello("b", version=1),
            hello("a", version=2),
            "b speaks wire format 1 and a wire format 2: start b with a pydrm that speaks wire format 2",
        ),
    ],
)
def test_nodes_without_a_wire_format_in_common_are_told_which_of_them_to_upgrade(
    older: Hello, newer: Hello, reason: str
):
    """In the same words on both sides, before anything else that does not fit."""
    assert objection(older, newer, None) == objection(newer, older, None) == reason
    assert objection(newer, msgspec.structs.replace(older, cluster="invoices"), None) == reason


# --- when a cluster is formed ----------------------------------------------------------------------------------------


def test_all_derive_the_same_cluster_from_the_same_replicas():
    """So nobody has to decide for the others; and the cluster's name is in its id, for people."""
    by_a = formation(A, {"b": B, "c": C})
    by_b = formation(B, {"c": C, "a": A})
    by_c = formation(C, {"a": A, "b": B})

    assert by_a == by_b == by_c
    assert by_a is not None
    assert by_a.members == dict(MEMBERS)
    assert by_a.cluster_id.startswith("orders-")


def test_other_replicas_are_another_cluster():
    """Of the same name and the same nodes."""
    one = formation(A, {"b": B, "c": C})
    other = formation(A, {"b": B, "c": hello("c", replica_id="new")})

    assert one is not None
    assert other is not None
    assert one.cluster_id != other.cluster_id


@pytest.mark.parametrize(
    "heard",
    [
        {},
        {"b": B},
        {"b": B, "c": hello("c", voters=("a", "b"))},
        {"b": B, "c": worker("c")},
        {"b": B, "c": formed("c", members=(("a", "another"), ("b", "replica-b"), ("c", "replica-c")))},
    ],
)
def test_nothing_is_formed_before_all_are_there_with_equal_lists(heard: dict[str, Hello]):
    """A majority is not enough: the rest could be a cluster already."""
    assert formation(A, heard) is None


def test_a_node_alone_is_a_cluster():
    """There is nobody to wait for."""
    alone = formation(hello("a", voters=("a",)), {})

    assert alone is not None
    assert alone.members == {"a": "replica-a"}


def test_whoever_was_only_slower_joins_what_was_formed_with_it():
    """Its own replica id is named there, and one member is enough to say so."""
    assert formation(A, {"b": formed("b")}) == Formation("orders-1", dict(MEMBERS))
    assert formation(A, {"b": B, "c": formed("c")}) == Formation("orders-1", dict(MEMBERS))


def test_whoever_forgot_does_not_join_what_was_formed_without_it():
    """Its name is known there under another replica id."""
    assert formation(hello("a", replica_id="new"), {"b": formed("b"), "c": formed("c")}) is None


def test_whoever_comes_later_follows_what_was_formed_without_it():
    """As a worker, or as a voter that is not one yet."""
    for newcomer in (worker("w"), hello("d", voters=("a", "b", "c", "d"))):
        assert formation(newcomer, {"b": formed("b")}) == Formation("orders-1", dict(MEMBERS))


def test_workers_form_nothing():
    assert formation(worker("w"), {"a": A, "b": B, "c": C}) is None
    assert formation(worker("w", voters=("w",)), {}) is None
