"""
Nodes that need what is not in the log any more, and voters that come and go: defects S2, S3, S6 and S8.

Each has a test of the test: with its guard out, the same schedule goes wrong.
"""

from __future__ import annotations

import pytest

from pydrm.engine import raft
from pydrm.engine.elections import Elections
from pydrm.engine.frames import SnapshotOffer
from pydrm.engine.journal import Journal
from pydrm.engine.raft import Raft
from tests.engine.raft_world import World


def led_by_a(names: str = "abc", voters: str = "") -> World:
    """Everybody is up and linked, and node a leads."""
    world = World(names, voters=voters)
    world.start()
    world.elect("a")
    world.calm(0.3)
    return world


def submit(world: World, count: int) -> list[bytes]:
    """Commands that everybody who is linked has applied."""
    commands = [world.submit("a") for _ in range(count)]
    world.calm(0.5)
    return commands


def applied(world: World, name: str) -> list[bytes]:
    return [command for _, command in world.members[name].applied]


# --- who lags gets a snapshot ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["c", "w"])
def test_who_was_away_while_the_log_was_cut_is_given_a_snapshot(name: str):
    """A voter as well as a worker; then it follows the log on."""
    world = led_by_a("abcw", voters="abc")
    world.isolate(name)
    missed = submit(world, 20)
    world.members["a"].take_snapshot(tail=0)

    for other in world.members:
        if other != name:
            world.link(name, other)
    world.calm(0.5)
    seen = submit(world, 3)

    assert applied(world, name)[-23:] == missed + seen
    assert world.members[name].journal.base[0] == world.members["a"].snapshots[-1].index
    world.verify()


def test_who_is_a_little_behind_needs_no_snapshot():
    """That is what the tail of the log is kept for."""
    world = led_by_a()
    world.isolate("c")
    missed = submit(world, 20)
    world.members["a"].take_snapshot(tail=30)

    world.link("a", "c")
    world.calm(0.5)

    assert applied(world, "c")[-20:] == missed
    assert world.members["c"].snapshots == []


def test_a_leader_whose_peers_are_fetching_snapshots_stays_leader():
    """They answer; so they count, although nothing is appended meanwhile."""
    world = led_by_a()
    world.isolate("b")
    world.isolate("c")
    a = world.members["a"].running
    for _ in range(10):
        world.clock.seconds += 0.3
        a.heard_from("b")
        world.members["a"].tick()

    assert a.is_leader


def test_who_led_and_does_not_any_more_is_linked_with_all_again():
    """Who waited for a snapshot of this node counts when it leads again."""
    world = led_by_a()
    world.isolate("c")
    submit(world, 5)
    world.members["a"].take_snapshot(tail=0)
    world.members["a"].running.connected("c")
    world.members["a"].running._group.send_from("c", 2)
    world.clock.seconds += 0.1
    world.members["a"].running.tick()
    assert world.members["a"].running.lagging == ["c"]

    world.isolate("b")
    for _ in range(3):
        world.clock.seconds += 0.5
        world.members["a"].running.tick()

    assert not world.members["a"].running.is_leader
    assert world.members["a"].running._group.is_connected("c")


def portions_of(world: World, missed: int) -> list[int]:
    """How many entries node c applies in each tick, once it is linked again, after it missed so many."""
    world.isolate("c")
    commands = [world.submit("a", b"command %d " % number + b"x" * 90) for number in range(missed)]
    world.calm(0.5)
    c = world.members["c"]
    world.link("a", "c")
    portions = []
    for _ in range(200):
        world.clock.seconds += 0.02
        world.members["a"].tick()
        world.members["a"].disk_catches_up()
        world.deliver("a", "c")
        before = len(c.applied)
        c.tick()
        c.disk_catches_up()
        world.deliver("c", "a")
        portions.append(len(c.applied) - before)
    assert applied(world, "c")[-missed:] == commands
    return portions


def test_who_has_much_to_apply_does_so_in_portions(monkeypatch: pytest.MonkeyPatch):
    """Between two of them the leader is heard and leases are looked after."""
    monkeypatch.setattr(raft, "_APPLY_BYTES_PER_TICK", 1000)
    world = led_by_a()

    portions = portions_of(world, missed=100)

    assert max(portions) < 15


def test_what_takes_long_to_apply_is_applied_one_by_one():
    """However short it is: an entry of 40 bytes may move 500 resources."""
    world = led_by_a()
    world.members["c"].apply_s = 0.02

    portions = portions_of(world, missed=100)

    assert max(portions) == 1


# --- S2 --------------------------------------------------------------------------------------------------------------


def offered_what_it_must_not_commit() -> World:
    """
    Node b has entries of its own that nobody acknowledged, and hears the new leader c offer a snapshot.
    """
    world = led_by_a()
    submit(world, 3)
    world.isolate("a")
    world.elect("b")
    world.isolate("b")
    for _ in range(5):
        world.submit("b")
    world.members["b"].tick()
    world.members["b"].disk_catches_up()
    world.link("a", "c")
    world.elect("c")
    for _ in range(2):
        world.submit("c")
    for _ in range(20):
        world.clock.seconds += 0.05
        for name in "ac":
            world.members[name].tick()
            world.members[name].disk_catches_up()
        world.deliver("a", "c")
        world.deliver("c", "a")
    world.members["c"].take_snapshot(tail=0)
    newest = world.members["c"].snapshots[-1]
    world.members["b"].running.heard_leader("c", world.members["c"].running.term)
    assert not world.members["b"].running.holds(newest.index, newest.term)
    world.members["b"].running.tick()
    return world


def test_an_offer_says_nothing_about_what_is_committed():
    """Entries that are in nobody else's log are not applied because a leader has a snapshot (S2)."""
    world = offered_what_it_must_not_commit()

    assert world.wrong == []


def test_without_the_guard_what_nobody_else_has_is_applied(monkeypatch: pytest.MonkeyPatch):
    """The test of the test: PySyncObj moves the commit index with each chunk."""

    def heard_leader(it: Raft, peer: str, term: int) -> bool:
        it._deliver(it._node(peer), type="append_entries", term=term, commit_index=10**9)
        return True

    monkeypatch.setattr(Raft, "heard_leader", heard_leader)

    world = offered_what_it_must_not_commit()

    assert world.wrong != []


# --- S3 --------------------------------------------------------------------------------------------------------------


def restarted_after_a_snapshot_in_the_middle_of_its_log() -> World:
    """The snapshot is on disk, and the log goes on after it: b has acknowledged all of that."""
    world = led_by_a()
    submit(world, 5)
    for name in "abc":
        world.members[name].take_snapshot(tail=0)
    submit(world, 5)
    for name in "abc":
        world.crash(name)
    for name in "bc":
        world.start(name)
    world.calm(3.0)
    return world


def test_what_the_log_has_after_a_snapshot_is_kept_at_boot():
    """It was acknowledged (S3)."""
    world = restarted_after_a_snapshot_in_the_middle_of_its_log()

    assert applied(world, "b") == [command for _, command in sorted(world.log.items())]


def test_without_the_guard_the_log_is_lost_at_boot(monkeypatch: pytest.MonkeyPatch):
    """The test of the test: PySyncObj clears the journal if it does not begin like the dump."""
    monkeypatch.setattr(Journal, "align", Journal.reset)

    world = restarted_after_a_snapshot_in_the_middle_of_its_log()

    assert applied(world, "b") != [command for _, command in sorted(world.log.items())]


# --- S6 --------------------------------------------------------------------------------------------------------------


def offered_what_its_log_goes_beyond() -> World:
    """Node b was restarted, so that it does not know what is committed; its log has more than the snapshot of a."""
    world = led_by_a()
    submit(world, 5)
    world.members["a"].take_snapshot(tail=0)
    submit(world, 5)
    snapshot = world.members["a"].snapshots[-1]
    world.crash("b")
    world.members["b"].start()
    b = world.members["b"].running
    b._core._SyncObj__raftCommitIndex = b._committed = 1
    term = world.members["a"].running.term
    world.members["b"].receive("a", SnapshotOffer(term, snapshot.index, snapshot.term, 0))
    return world


def test_a_log_that_goes_beyond_a_snapshot_is_kept():
    """What b has acknowledged may have been committed because of that (S6)."""
    world = offered_what_its_log_goes_beyond()

    assert world.members["b"].journal[-1] == world.members["a"].journal[-1]


def test_without_the_guard_a_longer_log_is_thrown_away(monkeypatch: pytest.MonkeyPatch):
    """The test of the test: PySyncObj installs whatever it is sent."""
    monkeypatch.setattr(Raft, "holds", lambda it, index, term: False)
    monkeypatch.setattr(Journal, "reset", lambda journal, index, term: journal._entries.replace(index, term))

    world = offered_what_its_log_goes_beyond()

    assert world.members["b"].journal[-1][1] < world.members["a"].journal[-1][1]


# --- S8 --------------------------------------------------------------------------------------------------------------


def grown_to_five_and_two_are_back() -> World:
    """Three voters became five, one by one; the power goes everywhere, and two of the first three come back."""
    world = led_by_a("abcde", voters="abc")
    for voter in "de":
        world.change_voters("a", voter)
        world.calm(1.0)
    assert world.members["a"].voters == list("abcde")
    for name in "abcde":
        world.crash(name)
    world.start("a", "b")
    return world


def ever_led(world: World) -> bool:
    """Whether anybody is elected within a while."""
    for _ in range(100):
        world.calm(0.05)
        if world.leaders:
            return True
    return False


def test_two_of_five_elect_nobody_however_they_were_restarted():
    """Who votes is known before anybody stands (S8)."""
    world = grown_to_five_and_two_are_back()

    assert not ever_led(world)

    world.start("c")
    world.calm(3.0)
    assert len(world.leaders) == 1


def test_without_the_guard_two_of_five_elect_a_leader(monkeypatch: pytest.MonkeyPatch):
    """The test of the test: members that the log added count only once they are known to be committed."""
    monkeypatch.setattr(Raft, "_proved_by_later_changes", lambda it: 0)
    monkeypatch.setattr(Journal, "getRaftCommitIndex", lambda journal: 1)

    assert ever_led(grown_to_five_and_two_are_back())


def alone_at_first_and_back_when_the_others_went_on() -> World:
    """One voter became three; it was away while the other two elected a leader; and it is back before it is linked."""
    world = led_by_a("abc", voters="a")
    for voter in "bc":
        world.change_voters("a", voter)
        world.calm(1.0)
    assert world.members["a"].voters == list("abc")
    world.crash("a")
    world.calm(3.0)
    world.submit(world.leaders[0])
    world.calm(0.5)
    world.members["a"].start()
    return world


def leads_unlinked(world: World) -> bool:
    """Whether node a believes for a moment that it leads, while it hears of nobody."""
    for _ in range(100):
        world.calm(0.02)
        if "a" in world.leaders:
            return True
    return False


def test_who_voted_alone_once_does_not_lead_alone_again():
    """Nobody has to be asked for a vote then; so it must not stand before it has applied what gave votes to others."""
    world = alone_at_first_and_back_when_the_others_went_on()

    assert not leads_unlinked(world)

    for other in "bc":
        world.link("a", other)
    world.calm(3.0)
    world.verify()


def test_without_the_guard_it_leads_alone(monkeypatch: pytest.MonkeyPatch):
    """The test of the test: PySyncObj stands, and commits all it has, before it applies any of that."""
    monkeypatch.setattr(Elections, "tick_without_standing", lambda it: it._core.doTick(0))

    assert leads_unlinked(alone_at_first_and_back_when_the_others_went_on())


def test_changes_are_made_one_at_a_time():
    """The second is dropped until the first is applied, and can be asked for again then."""
    world = led_by_a("abcde", voters="abc")
    world.change_voters("a", "d")
    world.change_voters("a", "e")

    world.calm(1.0)
    assert world.members["b"].voters == list("abcd")

    world.change_voters("a", "e")
    world.calm(1.0)
    assert world.members["b"].voters == list("abcde")


def test_a_leader_that_is_to_go_hands_over_first():
    """It drops the request; whoever leads next takes it."""
    world = led_by_a("abcd")
    world.change_voters("a", "a")
    world.calm(1.0)
    (leader,) = world.leaders
    assert leader != "a"

    world.change_voters(leader, "a")
    world.calm(1.0)

    assert world.members[leader].voters == list("bcd")
    assert not world.members["a"].running.votes
    assert applied(world, "a") == applied(world, leader)


def test_a_node_that_lags_does_not_get_a_vote_yet():
    """With it, a majority could need who has nothing of the log."""
    world = led_by_a("abcd", voters="abc")
    world.isolate("d")
    submit(world, 150)

    world.change_voters("a", "d")
    world.calm(1.0)
    assert world.members["a"].voters == list("abc")

    world.link("a", "d")
    world.calm(1.0)
    world.change_voters("a", "d")
    world.calm(1.0)
    assert world.members["a"].voters == list("abcd")


def test_who_does_not_know_yet_that_it_has_a_vote_gives_it():
    """It lags; and who leads next may need its vote to be able to tell it."""
    world = World("abc", voters="bc")
    world.start()
    world.elect("b")
    world.calm(0.3)
    world.isolate("a")
    world.change_voters("b", "a")
    world.calm(0.5)
    world.change_voters("b", "c")
    world.calm(0.5)
    assert world.members["b"].voters == ["a", "b"]
    assert world.members["a"].voters == ["b", "c"]
    world.crash("b")

    world.start("b")
    world.calm(3.0)

    assert world.leaders == ["b"]
    assert world.members["a"].voters == ["a", "b"]


def test_who_has_no_vote_never_stands():
    world = led_by_a("abcw", voters="abc")
    for name in "abc":
        world.isolate(name)
    world.link("a", "w")

    world.calm(5.0)

    assert world.leaders == []
    assert not world.members["w"].running.votes


def test_who_stood_in_vain_while_it_was_cut_off_is_followed_up_by_a_new_term():
    """It has a later term than the leader, of which nobody hears in any other way: or it would never follow again."""
    world = led_by_a()
    a, b, c = (world.members[name] for name in "abc")
    world.isolate("a")
    while c.running.term == a.running.term:
        world.clock.seconds += 0.01
        b.running._core._SyncObj__raftElectionDeadline = world.clock.seconds + 1  # it is more patient than c
        for member in (b, c):
            member.tick()
            member.disk_catches_up()
        world.deliver("c", "b", most=1)
        b.tick()
        b.disk_catches_up()
        world.deliver("b", "c", most=1)
    world.isolate("c")  # so what it asks is lost
    world.link("a", "b")
    world.calm(0.3)
    assert a.running.is_leader

    world.link("a", "c")
    world.link("b", "c")
    world.calm(3.0)
    command = world.submit(next(member.running.leader for member in (a, b, c) if member.running.leader))
    world.calm(0.5)

    assert applied(world, "c")[-1] == command
    world.verify()
