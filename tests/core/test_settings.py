"""AddVoter, RemoveVoter and RaiseProtocol: accepted, refused, repeated."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from pydrm.core.answers import Done, Reason, Refused
from pydrm.core.changes import ProtocolRaised, VotersChanged
from pydrm.core.commands import AddVoter, Command, RaiseProtocol, RemoveVoter, RequestId
from pydrm.core.machine import Outcome
from pydrm.core.protocol import PROTOCOL, raisable
from pydrm.core.records import Role
from pydrm.core.settings import Settings, Voter
from pydrm.core.state import State
from tests.core.build import VOTERS, Cluster, add, cluster, join, numbered, refused, through_bytes

ADD = AddVoter("g", "replica-g", "g.example:7000", revision=1)
REMOVE = RemoveVoter("f", "replica-f", revision=1)


def settings(house: Cluster) -> Settings:
    assert house.state.settings is not None
    return house.state.settings


# --- AddVoter and RemoveVoter ----------------------------------------------------------------------------------------


def test_a_voter_is_added_and_the_revision_grows():
    """With the address at which the others find it."""
    house = cluster("a")
    expected = replace(settings(house), voters=(*VOTERS, Voter("g", "replica-g", "g.example:7000")), voters_revision=2)

    outcome = house.apply(ADD)

    assert outcome == Outcome(Done(number=2), (VotersChanged(expected),))
    assert settings(house) == expected
    assert isinstance(house.do(join("g")), Done)


def test_a_voter_is_removed_and_the_revision_grows():
    """Its lease is not touched: it has lost its vote, not what it holds."""
    house = cluster("a", "f", resources=["r1", "r2"])

    outcome = house.apply(REMOVE)

    assert outcome.answer == Done(number=2)
    assert settings(house).voters == VOTERS[:-1]
    assert house.held() == {"r1": "a", "r2": "f"}
    assert isinstance(house.renew("f").answer, Done)
    house.expire("f")


def test_a_voter_that_lost_its_directory_is_removed_and_added_again():
    """Under the same name and another replica id: the one that may have forgotten a vote is not in the group."""
    house = cluster("a")

    house.apply(REMOVE)
    house.apply(AddVoter("f", "replica-f2", "f.example:7000", revision=2))

    assert settings(house).voter("f") == Voter("f", "replica-f2", "f.example:7000")
    assert settings(house).voters_revision == 3


def test_voters_are_kept_by_name():
    """Two states with the same voters are equal, however they came to them."""
    one, other = cluster("a"), cluster("a")

    one.apply(replace(ADD, name="b2"))
    one.apply(replace(REMOVE, revision=2))
    other.apply(REMOVE)
    other.apply(replace(ADD, name="b2", revision=2))

    assert [voter.name for voter in settings(one).voters] == ["a", "b", "b2", "c", "d", "e"]
    assert one.digest == other.digest


@pytest.mark.parametrize("command", [ADD, REMOVE])
def test_a_change_of_voters_that_arrives_twice_takes_effect_once(command: Command):
    """By the revision, if it comes without a request id."""
    house = cluster("a")
    house.apply(command)
    before = house.digest

    again = house.apply(command)

    assert refused(again) is Reason.STALE
    assert again.answer.detail.startswith("the voters are a, b, c, d, e")
    assert again.answer.detail.endswith(", at revision 2")
    assert house.digest == before


def test_a_change_of_voters_with_a_request_id_is_answered_alike_twice():
    """Whoever asked learns that it was done."""
    house = cluster("a")
    id = RequestId("a", 1, sequence=1, floor=1)

    assert house.do(ADD, id) == house.do(ADD, id) == Done(number=2)


@pytest.mark.parametrize("revision", [0, 2])
def test_of_two_that_change_the_voters_at_once_one_is_stale(revision: int):
    """Each changes what it has seen, one by one."""
    house = cluster("a")

    assert refused(house.apply(replace(ADD, revision=revision))) is Reason.STALE
    assert refused(house.apply(replace(REMOVE, revision=revision))) is Reason.STALE


@pytest.mark.parametrize(
    ("command", "reason", "words"),
    [
        (replace(ADD, name="a"), Reason.INVALID, "a is a voter already, as replica replica-a"),
        (replace(ADD, replica_id="replica-a"), Reason.INVALID, "replica replica-a is a voter already, as a"),
        (replace(ADD, name=""), Reason.INVALID, 'no node can be called ""'),
        (replace(ADD, name="a b"), Reason.INVALID, 'no node can be called "a b"'),
        (replace(ADD, name="ä"), Reason.INVALID, "no node can be called"),
        (replace(ADD, name="g" * 65), Reason.INVALID, "no node can be called"),
        (replace(ADD, name="g\n"), Reason.INVALID, "no node can be called"),
        (replace(ADD, replica_id="../x"), Reason.INVALID, 'no replica can have the id "../x"'),
        (replace(ADD, address=""), Reason.INVALID, 'the address of g must be host:port, not ""'),
        (replace(ADD, address="g.example"), Reason.INVALID, "must be host:port"),
        (replace(ADD, address="g example:1"), Reason.INVALID, "must be host:port"),
        (replace(REMOVE, name="z"), Reason.NOT_FOUND, "z is not a voter; the voters are a, b, c, d, e, f"),
        (replace(REMOVE, replica_id="x"), Reason.NOT_FOUND, "f is replica replica-f, not x"),
    ],
)
def test_a_change_of_voters_that_makes_no_sense_is_refused(command: Command, reason: Reason, words: str):
    """And says what there is instead."""
    house = cluster("a")
    before = house.digest

    outcome = house.apply(command)

    assert refused(outcome) is reason
    assert words in outcome.answer.detail
    assert house.digest == before


def test_the_last_voter_cannot_be_removed():
    """Nobody could ever decide anything again."""
    house = cluster("a")
    for revision, voter in enumerate(VOTERS[1:], start=1):
        house.apply(RemoveVoter(voter.name, voter.replica_id, revision))

    outcome = house.apply(RemoveVoter("a", "replica-a", revision=6))

    assert refused(outcome) is Reason.INVALID
    assert outcome.answer.detail == "a is the last voter"


@pytest.mark.parametrize("command", [ADD, REMOVE, RaiseProtocol(2)])
def test_an_unformed_cluster_has_no_settings_to_change(command: Command):
    """Forming is what binds the first voters."""
    assert refused(Cluster().apply(command)) is Reason.NOT_FORMED


# --- RaiseProtocol ---------------------------------------------------------------------------------------------------


def joined(**protocols: int) -> Cluster:
    house = cluster()
    for name, protocol in protocols.items():
        house.apply(replace(join(name, nonce=name), protocol=protocol))
    return house


def all_joined(protocol: int, **others: int) -> Cluster:
    """Every voter has, at *protocol*, but for *others*."""
    return joined(**{voter.name: protocol for voter in VOTERS} | others)


def test_the_protocol_is_raised_once_all_can_apply_it():
    """From then on it may be used, and for ever."""
    house = all_joined(2, b=3)
    expected = replace(settings(house), protocol=2)

    outcome = house.apply(RaiseProtocol(2))

    assert outcome == Outcome(Done(), (ProtocolRaised(expected),))
    assert settings(house) == expected


def test_it_is_raised_by_more_than_one_at_once_if_all_can():
    """Whoever skips a version need not go through each protocol between."""
    assert isinstance(all_joined(5, b=4).do(RaiseProtocol(4)), Done)


@pytest.mark.parametrize("to", [0, 1, 2])
def test_it_is_never_lowered_and_a_raise_that_comes_again_is_stale(to: int):
    """What the log may hold it may hold for ever."""
    house = all_joined(2)
    house.apply(RaiseProtocol(2))

    outcome = house.apply(RaiseProtocol(to))

    assert refused(outcome) is Reason.STALE
    assert outcome.answer.detail == "protocol 2 is in force already"


def test_it_is_not_raised_while_somebody_could_not_apply_it_and_they_are_named():
    """A living node of either role, and a voter that is down: it votes when it comes back."""
    house = all_joined(2, b=1, c=1)
    house.expire("c")
    house.apply(replace(join("w1"), role=Role.WORKER))
    house.apply(replace(join("w2"), role=Role.WORKER))
    house.expire("w2")

    outcome = house.apply(RaiseProtocol(2))

    assert refused(outcome) is Reason.UNSUPPORTED
    assert outcome.answer.detail == (
        "b speaks protocol 1, c speaks protocol 1, w1 speaks protocol 1: install a newer pydrm there and start it first"
    )


def test_it_is_not_raised_while_a_voter_never_joined_and_the_ways_out_are_named():
    """Nobody knows what it can apply, and it follows the log already."""
    house = joined(**dict.fromkeys("abcd", 2))

    outcome = house.apply(RaiseProtocol(2))

    assert refused(outcome) is Reason.UNSUPPORTED
    assert outcome.answer.detail == (
        "e has a vote and never joined: start it, or pydrm nodes remove e; "
        "f has a vote and never joined: start it, or pydrm nodes remove f"
    )
    for name in "ef":
        house.apply(replace(join(name), protocol=2))
    assert house.do(RaiseProtocol(2)) == Done()


def test_those_that_are_behind_and_those_that_never_joined_are_told_apart():
    """One is to be upgraded, the other to be started or removed."""
    house = joined(**dict.fromkeys("abcd", 2), e=1)

    assert house.do(RaiseProtocol(2)) == Refused(
        Reason.UNSUPPORTED,
        "e speaks protocol 1: install a newer pydrm there and start it first; "
        "f has a vote and never joined: start it, or pydrm nodes remove f",
    )


@pytest.mark.parametrize("f", [{}, {"f": 1}])
def test_a_voter_that_was_removed_need_not_be_waited_for(f: dict[str, int]):
    """That is what to do with one that never comes back, or never came."""
    house = joined(**dict.fromkeys("abcde", 2), **f)
    if f:
        house.expire("f")
    house.apply(REMOVE)

    assert isinstance(house.do(RaiseProtocol(2)), Done)


def test_a_voter_that_is_down_counts_as_what_it_joined_as():
    """It need not run for a raise; it comes back as what it was, or as something newer."""
    house = all_joined(2)
    house.expire("f")

    assert isinstance(house.do(RaiseProtocol(2)), Done)


def test_a_node_that_is_behind_cannot_join_any_more_and_is_told_what_to_do():
    """It would meet an entry that it cannot read."""
    house = all_joined(2)
    house.expire("b")
    house.apply(RaiseProtocol(2))

    outcome = house.apply(join("b"))

    assert refused(outcome) is Reason.TOO_OLD
    assert outcome.answer.detail == "b speaks protocol 1 and the cluster 2; install a newer pydrm on b"


# --- when it is raised -----------------------------------------------------------------------------------------------


@pytest.fixture
def _two(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this version could apply protocol 2."""
    monkeypatch.setattr("pydrm.core.protocol.PROTOCOL", 2)


@pytest.mark.usefixtures("_two")
def test_it_can_be_raised_when_every_voter_and_every_living_node_can_apply_more():
    """To what this version knows, whatever newer ones could do; and then no more."""
    house = all_joined(2, c=3)

    assert raisable(house.state) == 2
    house.apply(RaiseProtocol(2))
    assert raisable(house.state) is None


@pytest.mark.usefixtures("_two")
def test_it_cannot_be_raised_while_a_voter_is_behind_or_was_never_there():
    """One that is down comes back with its vote; of one that never joined nobody knows what it can apply."""
    behind = all_joined(2, f=1)
    behind.expire("f")

    assert raisable(behind.state) is None
    assert raisable(joined(**dict.fromkeys("abcde", 2)).state) is None
    assert raisable(State()) is None


@pytest.mark.usefixtures("_two")
def test_a_worker_that_is_behind_counts_for_as_long_as_it_lives():
    """It has no vote and holds nothing when it is down; it must join anew, and is refused then."""
    house = all_joined(2)
    house.apply(replace(join("w1"), role=Role.WORKER))

    assert raisable(house.state) is None
    house.expire("w1")
    assert raisable(house.state) == 2


def test_this_version_raises_nothing_that_it_cannot_apply_itself():
    """However new the others are."""
    assert raisable(all_joined(PROTOCOL + 1).state) is None


def test_settings_are_in_a_picture():
    """With voters, addresses and all."""
    house = all_joined(2)
    house.apply(RaiseProtocol(2))
    house.apply(ADD)

    restored = through_bytes(house.state)

    assert restored.settings == settings(house)
    assert restored.nodes["a"].protocol == 2


# --- workers ---------------------------------------------------------------------------------------------------------


def test_a_worker_joins_without_being_a_voter_and_holds_like_one():
    """It has no vote; a lease it has."""
    house = cluster("a")

    house.apply(replace(join("w1"), role=Role.WORKER))
    house.apply(add(*numbered(4)))

    assert house.state.nodes["w1"].role is Role.WORKER
    assert house.counts() == [2, 2]


def test_a_voter_cannot_join_as_a_worker():
    """Its configuration contradicts the cluster's."""
    outcome = cluster("a").apply(replace(join("b"), role=Role.WORKER))

    assert refused(outcome) is Reason.INVALID
    assert outcome.answer.detail == "b is a voter of orders and cannot be a worker"


def test_a_worker_has_a_name_that_a_node_can_have():
    """A voter's name was checked when it became one."""
    assert refused(cluster("a").apply(replace(join("no name"), role=Role.WORKER))) is Reason.INVALID
