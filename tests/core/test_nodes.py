"""Form, Join, Renew, Expire, Drain and Resign: accepted, refused, repeated."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from pydrm.core.answers import Done, Reason
from pydrm.core.changes import LeaseEnded, NodeChanged, SessionEnded
from pydrm.core.commands import Drain, Expire, Form, RequestId, Resign
from pydrm.core.machine import Outcome
from pydrm.core.records import Node, NodeState, Phase, Role
from pydrm.core.settings import Settings
from tests.core.build import LEASE_TTL_MS, VOTERS, Cluster, add, cluster, join, refused, renew

FORM = Form("orders", VOTERS, LEASE_TTL_MS)


# --- Form ------------------------------------------------------------------------------------------------------------


def test_a_cluster_is_formed_once_with_its_voters_and_settings():
    """Forming binds the voters to their replica ids and fixes the lease's time to live."""
    new = Cluster()

    answer = new.do(FORM)

    assert answer == Done()
    assert new.state.settings == Settings("orders", VOTERS, LEASE_TTL_MS)


def test_forming_again_with_the_same_values_is_done_and_changes_nothing():
    """Every voter may propose it; the first one counts and the others agree."""
    formed = cluster("a")
    before = formed.digest

    outcome = formed.apply(FORM)

    assert outcome == Outcome(Done(), ())
    assert formed.digest == before


@pytest.mark.parametrize(
    "other",
    [
        replace(FORM, cluster_id="others"),
        replace(FORM, voters=VOTERS[:2]),
        replace(FORM, lease_ttl_ms=5000),
    ],
    ids=["another-id", "other-voters", "another-ttl"],
)
def test_a_formed_cluster_cannot_be_formed_differently(other: Form):
    """An empty voter that comes back cannot make a second cluster out of the first."""
    formed = cluster("a")
    before = formed.digest

    assert refused(formed.apply(other)) is Reason.ALREADY_FORMED
    assert formed.digest == before


@pytest.mark.parametrize(
    "bad",
    [replace(FORM, voters=()), replace(FORM, lease_ttl_ms=0), replace(FORM, lease_ttl_ms=-1)],
    ids=["no-voters", "no-ttl", "negative-ttl"],
)
def test_a_cluster_without_voters_or_a_lease_is_not_formed(bad: Form):
    """What cannot work is refused before it is written."""
    new = Cluster()

    assert refused(new.apply(bad)) is Reason.INVALID
    assert new.state.settings is None


# --- Join ------------------------------------------------------------------------------------------------------------


def test_a_join_assigns_the_next_incarnation_and_begins_a_lease_with_renewal_0():
    """The cluster, not the node, numbers incarnations."""
    house = cluster("a")

    outcome = house.apply(join("b", nonce="n", directory="disk"))

    node = Node("b", 2, "n", NodeState.ALIVE, 0, LEASE_TTL_MS, "disk", "b.example:7000")
    assert outcome == Outcome(Done(number=2), (NodeChanged(node),))
    assert house.state.nodes["b"] == node


def test_nobody_joins_a_cluster_that_is_not_formed():
    """There are no settings to agree on yet."""
    assert refused(Cluster().apply(join("a"))) is Reason.NOT_FORMED


def test_a_node_without_a_vote_joins_like_any_other():
    """Set up as a worker, or as a voter that has no vote yet: who may speak to the cluster is for the links to say."""
    house = cluster("a")

    for role in Role:
        joined = replace(join(f"new-{role.value}"), role=role)
        assert refused(house.apply(joined)) is None

    assert house.state.nodes["new-worker"].role is Role.WORKER


def test_a_node_with_another_lease_ttl_does_not_join_and_is_told_both():
    """Both sides of a lease must count the same time."""
    outcome = cluster("a").apply(join("b", lease_ttl_ms=5000))

    assert refused(outcome) is Reason.SETTINGS_DIFFER
    assert outcome.answer.detail == "lease_ttl is 2.0 s in this cluster, not 5.0 s"


def test_a_join_that_is_repeated_gets_the_same_incarnation():
    """The nonce names the process; a Join that was lost and proposed again is the same one."""
    house = cluster("a")
    house.apply(join("b", nonce="n"))
    before = house.digest

    outcome = house.apply(join("b", nonce="n"))

    assert outcome == Outcome(Done(number=2), ())
    assert house.digest == before


def test_a_join_that_arrives_again_after_its_lease_ended_is_stale():
    """A process that was expired must come back as a new one, under a new nonce."""
    house = cluster("a")
    house.apply(join("b", nonce="n"))
    house.expire("b")

    assert refused(house.apply(join("b", nonce="n", replaces=2))) is Reason.STALE


@pytest.mark.parametrize("replaces", [0, 1, 3])
def test_a_join_that_saw_another_incarnation_is_stale(replaces: int):
    """Two processes that start at once under one name: the second to be applied names what is no longer so."""
    house = cluster("a", "b")
    house.expire("b")

    assert refused(house.apply(join("b", replaces=replaces))) is Reason.STALE


def test_the_first_join_of_a_name_replaces_nothing():
    """0 says that there was no incarnation before; any other number is out of date."""
    assert refused(cluster("a").apply(join("b", replaces=1))) is Reason.STALE


@pytest.mark.parametrize("directory", ["", "disk-elsewhere"])
def test_while_a_lease_runs_a_process_on_another_directory_waits(directory: str):
    """The former process may be alive behind a partition; only its lease's end proves otherwise."""
    house = cluster("a", "b", resources=["r1", "r2"])

    outcome = house.apply(join("a", nonce="new", replaces=1, directory=directory))

    assert refused(outcome) is Reason.LEASE_RUNNING
    assert house.held() == {"r1": "a", "r2": "b"}


def test_a_node_that_names_no_directory_is_not_taken_over_by_one_that_names_none():
    """Two empty names are not the same directory: nothing proves that the former process is gone."""
    house = cluster("a")
    house.join("b")

    assert refused(house.apply(join("b", nonce="new", replaces=2, directory=""))) is Reason.LEASE_RUNNING


def test_a_process_on_the_same_locked_directory_takes_over_at_once_under_new_tokens():
    """The lock proves that the former process is gone, so nothing has to wait for its lease."""
    house = cluster("a", "b", resources=["r1", "r2", "r3", "r4"])
    former = {name: house.token(name) for name in ("r1", "r3")}
    counter = house.state.next_number

    outcome = house.restart("a")

    assert outcome.answer == Done(number=3)
    assert house.held() == {"r1": "a", "r2": "b", "r3": "a", "r4": "b"}
    assert {house.claim(name).incarnation for name in former} == {3}
    assert all(house.token(name) >= counter > token for name, token in former.items())


def test_a_takeover_ends_the_former_lease_before_the_new_one_begins():
    """Whoever reads the changes in order sees the old incarnation die first."""
    house = cluster("a", "b", resources=["r1", "r2"])

    changes = house.restart("a").changes

    left, session, joined = changes[:3]
    assert left == LeaseEnded(replace(left.node, name="a", incarnation=1, state=NodeState.LEFT))
    assert session == SessionEnded("a", 1)
    assert joined == NodeChanged(house.state.nodes["a"])


def test_incarnations_are_never_used_twice_by_any_node():
    """One counter for all nodes, and it does not go back when a node leaves."""
    house = cluster("a", "b")

    seen = []
    for name in ("b", "a", "b"):
        house.expire(name)
        house.join(name)
        seen.append(house.incarnation(name))

    assert seen == [3, 4, 5]


# --- Renew -----------------------------------------------------------------------------------------------------------


def test_a_renewal_is_remembered_with_its_own_time_to_live():
    """Both sides use the ttl of that renewal, so it travels in it."""
    house = cluster("a", resources=["r1"])
    node = house.state.nodes["a"]

    outcome = house.apply(renew("a", count=4, ttl_ms=3000))

    renewed = replace(node, count=4, ttl_ms=3000)
    assert outcome == Outcome(Done(), (NodeChanged(renewed),))
    assert house.state.nodes["a"] == renewed


@pytest.mark.parametrize("count", [0, 1, 4, 5])
def test_a_renewal_with_an_older_count_or_the_same_is_stale_and_changes_nothing(count: int):
    """A Renew that was delayed in a queue cannot replace a newer one, nor count twice."""
    house = cluster("a")
    house.apply(renew("a", count=5))
    before = house.digest

    assert refused(house.apply(renew("a", count=count))) is Reason.STALE
    assert house.digest == before


def test_a_renewal_under_an_old_incarnation_is_refused_and_changes_nothing():
    """A process that was replaced cannot extend the lease of its successor."""
    house = cluster("a", "b", "c", resources=["r1"])
    house.restart("a")
    before = house.digest

    assert refused(house.apply(renew("a", incarnation=1))) is Reason.SUPERSEDED
    assert house.digest == before


def test_an_expired_lease_cannot_be_renewed():
    """Dead for ever: its resources are with others by now."""
    house = cluster("a", "b", resources=["r1"])
    house.expire("a")
    before = house.digest

    assert refused(house.apply(renew("a", count=9))) is Reason.EXPIRED
    assert house.digest == before


def test_a_node_that_never_joined_cannot_renew():
    """There is nothing to renew, and the answer is the one that makes a process stop."""
    assert refused(cluster("a").apply(renew("b", incarnation=0))) is Reason.SUPERSEDED


def test_a_draining_node_still_renews_its_lease():
    """It holds its resources until they are handed over, and stays draining."""
    house = cluster("a", "b", resources=["r1"])
    house.drain("a")

    assert house.renew("a").answer == Done()
    assert house.state.nodes["a"].state is NodeState.DRAINING


# --- Expire ----------------------------------------------------------------------------------------------------------


def test_expiring_the_newest_renewal_ends_the_lease_and_gives_all_away_in_the_same_step():
    """Nobody waits for a second command to be held again."""
    house = cluster("a", "b", "c", resources=["r1", "r2", "r3", "r4", "r5", "r6"])
    house.renew("a")
    counter = house.state.next_number

    answer = house.do(Expire("a", 1, 1))

    assert answer == Done()
    assert house.state.nodes["a"].state is NodeState.LEFT
    assert house.held() == {"r1": "b", "r2": "b", "r3": "c", "r4": "c", "r5": "b", "r6": "c"}
    assert min(house.token("r1"), house.token("r4")) >= counter


@pytest.mark.parametrize("count", [0, 1, 3])
def test_expiring_another_renewal_than_the_newest_is_stale_and_changes_nothing(count: int):
    """Compare and set: if the lease was renewed first, the log's order saves it, and no clock is asked."""
    house = cluster("a", "b", resources=["r1", "r2"])
    house.apply(renew("a", count=2))
    before = house.digest

    assert refused(house.apply(Expire("a", 1, count))) is Reason.STALE
    assert house.digest == before


def test_a_second_expiry_of_the_same_lease_is_refused():
    """Several voters may propose it; one of them does it."""
    house = cluster("a", "b", resources=["r1"])
    house.expire("a")
    before = house.digest

    assert refused(house.apply(Expire("a", 1, 0))) is Reason.EXPIRED
    assert house.digest == before


def test_an_expiry_of_a_former_incarnation_does_not_touch_its_successor():
    """A late Expire names an incarnation that is over anyway."""
    house = cluster("a", "b", resources=["r1"])
    house.restart("a")
    before = house.digest

    assert refused(house.apply(Expire("a", 1, 0))) is Reason.SUPERSEDED
    assert house.digest == before


def test_when_the_last_node_expires_everything_waits_and_the_next_to_join_gets_it():
    """Nothing is lost with the last holder."""
    house = cluster("a", resources=["r1", "r2"])
    house.expire("a")
    assert {house.phase("r1"), house.phase("r2")} == {Phase.WAITING}

    house.join("b")

    assert house.held() == {"r1": "b", "r2": "b"}


# --- Drain -----------------------------------------------------------------------------------------------------------


def test_a_draining_node_is_asked_to_close_everything_and_gets_nothing_new():
    """What it holds stays with it until it says that it is closed."""
    house = cluster("a", "b", resources=["r1", "r2", "r3", "r4"])

    answer = house.drain("a").answer
    house.apply(add("r5", "r6", "r7"))

    assert answer == Done()
    assert (house.phase("r1"), house.phase("r3")) == (Phase.RELEASING, Phase.RELEASING)
    assert {name: house.holder(name) for name in ("r1", "r3", "r5", "r6", "r7")} == {
        "r1": "a",
        "r3": "a",
        "r5": "b",
        "r6": "b",
        "r7": "b",
    }


def test_draining_twice_is_done_and_changes_nothing():
    """A second SIGTERM is not a second handover."""
    house = cluster("a", "b", resources=["r1", "r2"])
    house.drain("a")
    before = house.digest

    assert house.drain("a") == Outcome(Done(), ())
    assert house.digest == before


def test_only_the_current_and_living_incarnation_is_drained():
    """A late Drain does not drain the process that came after."""
    house = cluster("a", "b", resources=["r1", "r2"])
    house.restart("a")
    house.expire("b")

    assert refused(house.apply(Drain("a", 1))) is Reason.SUPERSEDED
    assert refused(house.apply(Drain("b", 2))) is Reason.EXPIRED
    assert refused(house.apply(Drain("c", 0))) is Reason.SUPERSEDED


# --- Resign ----------------------------------------------------------------------------------------------------------


def test_a_node_that_resigns_ends_its_own_lease_at_once():
    """A clean stop needs no expiry; whatever it still had goes to others in the same step."""
    house = cluster("a", "b", resources=["r1", "r2"])

    answer = house.resign("a").answer

    assert answer == Done()
    assert house.state.nodes["a"].state is NodeState.LEFT
    assert house.held() == {"r1": "b", "r2": "b"}


def test_resigning_twice_is_refused_and_changes_nothing():
    """The incarnation is dead; its second word does not count."""
    house = cluster("a", "b", resources=["r1"])
    house.resign("a")
    before = house.digest

    assert refused(house.resign("a")) is Reason.EXPIRED
    assert house.digest == before


def test_a_former_process_cannot_resign_its_successors_lease():
    """A Resign that was delayed names an incarnation that is over."""
    house = cluster("a", "b", resources=["r1"])
    house.restart("a")

    assert refused(house.apply(Resign("a", 1))) is Reason.SUPERSEDED


def test_a_resign_leaves_no_session_behind():
    """The answers of a dead incarnation are of no use to anybody."""
    house = cluster("a", "b")
    house.do(add("r1"), RequestId("a", 1, sequence=1, floor=1))

    outcome = house.apply(Resign("a", 1), RequestId("a", 1, sequence=2, floor=1))

    assert outcome.answer == Done()
    assert house.state.sessions.clients() == []
    assert len(house.state.sessions) == 0
