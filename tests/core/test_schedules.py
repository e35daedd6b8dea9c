"""
Schedules with a name: orders of events that broke other systems, or would break this one's promises.

Each is told from the log's point of view: what was proposed when does not matter, what is applied when does.
"""

from __future__ import annotations

from pydrm.core.answers import Done, Reason
from pydrm.core.commands import Expire, RequestId
from pydrm.core.handle_commands import Handle, Release
from pydrm.core.records import Phase
from tests.core.build import Cluster, add, cluster, define, join, numbered, refused, remove, renew


def release_of(house: Cluster, resource: str) -> Release:
    """The Release that its holder would propose now; it can be kept and delivered late, twice or never."""
    claim = house.claim(resource)
    return Release(claim.node, claim.incarnation, (Handle(resource, 0, claim.token),))


def test_a_release_overtaken_by_the_death_of_the_node_it_was_meant_for():
    """Nobody was promised anything: the next holder is chosen when the release applies, among the living."""
    house = cluster("a", "b", resources=numbered(6))
    house.join("c")
    moving = [name for name in numbered(6) if house.phase(name) is Phase.RELEASING]
    assert len(moving) == 2
    releases = [release_of(house, name) for name in moving]

    house.expire("c")
    for released in releases:
        house.apply(released)

    assert all(house.phase(name) is Phase.HELD for name in numbered(6))
    assert house.settle() == []
    assert house.counts() == [3, 3]


def test_with_overlap_a_release_overtaken_by_the_death_of_the_target():
    """The target had it open and died before the holder let go: it waits for the holder, then for placement."""
    house = cluster("a", resources=["r1", "r2"], overlap=True)
    house.join("b")
    house.open_target("r2")
    released = release_of(house, "r2")

    house.expire("b")
    assert house.phase("r2") is Phase.RELEASING
    assert house.assignment("r2").target is None
    former = house.token("r2")
    house.apply(released)

    assert house.holder("r2") == "a"
    assert house.token("r2") > former


def test_with_overlap_the_target_dies_before_it_has_opened():
    """The holder was never asked to close, so it just keeps it, under its old token."""
    house = cluster("a", resources=["r1", "r2"], overlap=True)
    held = house.claim("r2")
    house.join("b")
    assert house.phase("r2") is Phase.OPENING

    house.expire("b")

    assert (house.phase("r2"), house.claim("r2")) == (Phase.HELD, held)


def test_with_overlap_the_holder_dies_before_the_target_has_opened():
    """The target is the holder then; no third token is needed."""
    house = cluster("a", resources=["r1", "r2"], overlap=True)
    house.join("b")
    target = house.target("r2")

    house.expire("a")

    assert (house.phase("r2"), house.claim("r2")) == (Phase.HELD, target)


def test_with_overlap_holder_and_target_die_in_either_order():
    """Whoever is left gets it, with a token above both."""
    for first, second in (("a", "b"), ("b", "a")):
        house = cluster("a", resources=["r1", "r2"], overlap=True)
        house.join("b")
        former = house.target("r2").token
        house.expire(first)
        house.expire(second)
        house.join("c")

        assert house.holder("r2") == "c"
        assert house.token("r2") > former


def test_remove_then_add_while_the_old_holder_lags():
    """The old holder has heard of neither; the new definition is opened only after its release."""
    house = cluster("a", "b", resources=["r1", "r2"], url="ws://old")
    old = house.claim("r1")

    house.apply(remove("r1"))
    house.apply(add("r1", url="ws://new"))
    assert house.phase("r1") is Phase.REMOVING
    assert [claim.token for claim in house.assignment("r1").claims()] == [old.token]
    house.apply(Release("a", 1, (Handle("r1", 0, old.token),)))

    assert house.record("r1").definition == define("r1", "ws://new")
    assert house.token("r1") > old.token
    assert house.claim("r1").revision == house.record("r1").revision


def test_remove_then_add_while_the_old_holder_lags_until_its_lease_is_over():
    """Behind a partition it never says anything; the end of its lease does."""
    house = cluster("a", "b", resources=["r1", "r2"], url="ws://old")
    house.apply(remove("r1"))
    house.apply(add("r1", url="ws://new"))

    house.expire("a")

    assert house.holder("r1") == "b"
    assert house.record("r1").definition == define("r1", "ws://new")


def test_a_release_from_before_the_removal_arrives_after_the_new_definition_is_held():
    """It names a token that nobody has any more, and takes nothing from anybody."""
    house = cluster("a", "b", resources=["r1"], url="ws://old")
    late = release_of(house, "r1")
    house.apply(remove("r1"))
    house.apply(add("r1", url="ws://new"))
    house.apply(late)
    held = house.assignment("r1")

    house.apply(late)
    house.apply(remove("r1"))
    house.apply(late)

    assert house.claim("r1") == held.holder
    assert house.phase("r1") is Phase.REMOVING


def test_a_removed_that_was_added_again_under_the_same_name_has_nothing_of_the_old_one():
    """The record went and came: tokens go on, nothing else does."""
    house = cluster("a", resources=["r1"])
    late = release_of(house, "r1")
    token = house.token("r1")
    house.apply(remove("r1"))
    house.apply(late)
    house.apply(add("r1"))
    assert house.token("r1") > token

    house.apply(remove("r1"))
    house.apply(late)

    assert house.phase("r1") is Phase.REMOVING


def test_a_released_that_was_lost_is_repeated_until_the_state_shows_it():
    """The proposal died with a leader; the state still says RELEASING, so the node proposes it again."""
    house = cluster("a", resources=["r1", "r2"])
    house.join("b")
    lost = release_of(house, "r2")
    house.renew("a")
    house.renew("b")
    assert (house.phase("r2"), house.holder("r2")) == (Phase.RELEASING, "a")

    house.apply(lost)

    assert (house.phase("r2"), house.holder("r2")) == (Phase.HELD, "b")


def test_a_released_that_was_thought_lost_arrives_after_its_repetition_under_another_request_id():
    """Both are in the log; the second finds another token and passes over it."""
    house = cluster("a", resources=["r1", "r2"])
    house.join("b")
    released = release_of(house, "r2")
    house.apply(released, RequestId("a", 1, sequence=2, floor=2))
    before = house.assignment("r2")

    late = house.apply(released, RequestId("a", 1, sequence=3, floor=2))

    assert late.answer == Done()
    assert house.assignment("r2") == before


def test_a_renew_that_was_delayed_in_a_queue_does_not_extend_the_lease():
    """Its count is older than what the voters time, so the lease still ends by the newest."""
    house = cluster("a", "b", resources=["r1"])
    house.apply(renew("a", count=7))

    assert refused(house.apply(renew("a", count=6))) is Reason.STALE
    assert house.do(Expire("a", 1, 7)) == Done()


def test_a_renew_that_overtakes_the_expiry_saves_the_lease():
    """The voter waited for renewal 3; by the time its Expire applies, 4 is the newest, and the node lives."""
    house = cluster("a", "b", resources=["r1"])
    house.apply(renew("a", count=3))
    expiry = Expire("a", 1, 3)

    house.apply(renew("a", count=4))

    assert refused(house.apply(expiry)) is Reason.STALE
    assert house.holder("r1") == "a"


def test_a_renew_that_comes_after_the_expiry_does_not_bring_the_lease_back():
    """The resources are with others already; the process must join as a new one."""
    house = cluster("a", "b", resources=["r1"])
    house.expire("a")

    assert refused(house.apply(renew("a", count=9))) is Reason.EXPIRED
    assert house.holder("r1") == "b"


def test_a_renew_of_a_former_process_does_not_count_for_its_successor():
    """A high count from before the restart says nothing of the process that runs now."""
    house = cluster("a", "b", resources=["r1"])
    house.restart("a")

    assert refused(house.apply(renew("a", incarnation=1, count=100))) is Reason.SUPERSEDED
    assert house.state.nodes["a"].count == 0


def test_two_processes_start_at_once_under_one_name():
    """Both saw the same former incarnation; the first in the log gets it and the second is told."""
    house = cluster("a", "b")
    house.expire("b")

    first = house.do(join("b", nonce="one", replaces=2))
    second = house.apply(join("b", nonce="two", replaces=2))

    assert first == Done(number=3)
    assert refused(second) is Reason.STALE


def test_a_join_that_was_delayed_does_not_replace_the_process_that_came_later():
    """It names an incarnation that is no longer the newest."""
    house = cluster("a", "b")
    house.expire("b")
    late = join("b", nonce="late", replaces=2, directory="disk-b")
    house.apply(join("b", nonce="newer", replaces=2, directory="disk-b"))

    assert refused(house.apply(late)) is Reason.STALE
    assert house.state.nodes["b"].nonce == "newer"


def test_a_node_dies_in_the_middle_of_giving_away():
    """What it had released is with others; what it had not goes to others by its death, all of it once."""
    house = cluster("a", "b", "c", resources=numbered(9))
    house.drain("a")
    mine = [name for name, node in house.held().items() if node == "a"]
    house.release(mine[0])

    house.expire("a")

    assert sorted(house.held()) == numbered(9)
    assert house.settle() == []
    assert house.counts() == [5, 4]


def test_the_receiver_of_a_drain_dies_and_the_draining_node_is_all_that_is_left():
    """Nothing is given back to a node that is leaving; it waits for one that is not."""
    house = cluster("a", "b", resources=["r1", "r2"])
    house.drain("a")
    house.release("r1")
    assert house.holder("r1") == "b"

    house.expire("b")
    assert {house.phase("r1"), house.phase("r2")} == {Phase.WAITING}
    house.join("c")

    assert house.held() == {"r1": "c", "r2": "c"}


def test_a_node_restarts_while_its_resources_are_on_their_way_to_it():
    """The old holders were asked to close for a process that is gone; its successor gets them all the same."""
    house = cluster("a", "b", resources=numbered(6))
    house.join("c")
    house.expire("c")
    house.join("c")

    moved = house.settle()

    assert len(moved) == 2
    assert house.counts() == [2, 2, 2]
