"""
`Raft`: PySyncObj's core behind the guards, in schedules that are known to go wrong without them.
"""

from __future__ import annotations

import pickle
import random
import sys
from itertools import pairwise

import attrs
import pysyncobj.syncobj
import pytest
from pysyncobj import SyncObj

from pydrm.engine import guards, raft, syncobj
from pydrm.engine.frames import (
    Append,
    Forward,
    NextIndex,
    Ping,
    decode_frame,
)
from pydrm.engine.journal import FIRST_INDEX, Journal
from pydrm.engine.syncobj import Stagger
from tests.engine.raft_world import World

OTHER_KINDS = [b"\x02a change of members", b"\x03a change of versions", b"\x7f", b""]


def led_by_a(names: str = "abc") -> World:
    """Everybody is up and linked, and node a leads."""
    world = World(names)
    world.start()
    world.elect("a")
    world.calm(0.3)
    return world


def tick(world: World, name: str, *, after_s: float = 0.0) -> None:
    """One tick, and the disk catches up with it; nothing is delivered."""
    world.clock.seconds += after_s
    world.members[name].tick()
    world.members[name].disk_catches_up()


def deliver(world: World, here: str, there: str, most: int = 1_000_000) -> int:
    """Messages arrive, and the disk catches up with what they bring."""
    arrived = world.deliver(here, there, most)
    tick(world, there)
    return arrived


def last_index(world: World, name: str) -> int:
    return world.members[name].journal[-1][1]


def applied(world: World, name: str) -> list[bytes]:
    return [command for _, command in world.members[name].applied]


def entries_under_way(world: World, here: str, there: str) -> list[int]:
    frames = [decode_frame(data) for data in world.under_way[here, there]]
    return [index for frame in frames if isinstance(frame, Append) for _, index, _ in frame.entries]


# --- S1 --------------------------------------------------------------------------------------------------------------


def resent_in_part() -> tuple[World, list[bytes]]:
    """
    Node a sends its entries to b twice, has all of them acknowledged, and dies when b has only some of them again.

    Node c got nothing. How it comes to that: the entries are lost with a link, and two heartbeats on the new one make
    b ask for them twice.
    """
    world = led_by_a()
    world.cut("a", "c")
    commands = [world.submit("a", b"command %d " % number + b"x" * 250) for number in range(6)]
    tick(world, "a")
    world.cut("a", "b")
    world.link("a", "b")
    for _ in range(2):
        tick(world, "a", after_s=0.1)
    assert deliver(world, "a", "b") == 2
    assert deliver(world, "b", "a", 1) == 1
    tick(world, "a", after_s=0.1)
    assert entries_under_way(world, "a", "b") == list(range(last_index(world, "a") - 5, last_index(world, "a") + 1))
    world.deliver("a", "b")
    # The entries are in b's log; its second request is what a hears of first, and so it sends all of them again.
    assert deliver(world, "b", "a", 1) == 1
    tick(world, "a", after_s=0.1)
    world.members["b"].disk_catches_up()
    tick(world, "b")
    deliver(world, "b", "a")
    assert applied(world, "a")[-6:] == commands
    deliver(world, "a", "b", 1)
    world.crash("a")
    return world, commands


@pytest.fixture
def _small_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raft, "_TIMING", attrs.evolve(raft._TIMING, message_bytes=400))


@pytest.mark.usefixtures("_small_messages")
def test_what_was_acknowledged_survives_a_leader_that_dies_while_it_sends_again():
    """A follower keeps what it has when it gets the beginning of it once more (S1)."""
    world, commands = resent_in_part()

    world.calm(3.0)
    world.start("a")
    world.calm(3.0)

    assert applied(world, "b")[-6:] == applied(world, "c")[-6:] == commands
    world.verify()


@pytest.mark.usefixtures("_small_messages")
def test_without_the_guard_the_same_schedule_loses_what_was_acknowledged(monkeypatch: pytest.MonkeyPatch):
    """The test of the test: PySyncObj alone cuts its log at each message."""
    monkeypatch.setattr(guards, "only_news", lambda log, message, commit_index: (message, None))
    world, commands = resent_in_part()

    world.calm(3.0)

    assert applied(world, "b")[-6:] != commands
    assert commands[-1] not in applied(world, "b") + applied(world, "c")


def test_a_follower_acknowledges_no_more_than_a_message_has_proved():
    """What is behind it in its log may be a former leader's; a heartbeat in the middle says nothing about that (S1)."""
    world = led_by_a()
    for _ in range(5):
        world.submit("a")
    world.calm(0.5)
    tick(world, "b")
    b = world.members["b"].running
    log = world.members["b"].journal[:]
    _, index, term = log[2]

    b.receive("a", Append(b.term, index, index, term, ()))

    assert b.outbox == [("a", NextIndex(b.term, index + 1, reset=False, success=True))]
    assert world.members["b"].journal[:] == log


# --- S4 --------------------------------------------------------------------------------------------------------------


def after_a_long_separation() -> World:
    """
    Node a led, and goes on writing alone; the others go on without it, and have to elect another leader at the end.

    That one begins behind the end of its own log, where a's is another; and what is between takes many messages.
    """
    world = led_by_a()
    world.isolate("a")
    for _ in range(50):
        world.submit("a", b"never committed %d " % world.submitted + b"x" * 200)
    tick(world, "a")
    world.elect("c")
    for _ in range(100):
        world.submit("c", b"committed %d " % world.submitted + b"x" * 200)
    world.calm(1.0)
    world.crash("c")
    world.members["c"].start()
    world.link("b", "c")
    world.elect("b")
    world.link("a", "b")
    world.link("a", "c")
    world.calm(2.0)
    return world


@pytest.mark.usefixtures("_small_messages")
def test_a_log_that_has_diverged_by_many_messages_is_mended():
    """Its node asks for all behind what it knows to be committed, and once is enough (S4)."""
    world = after_a_long_separation()

    assert len(applied(world, "a")) == 100
    world.verify()


@pytest.mark.usefixtures("_small_messages")
def test_without_the_guard_it_is_set_back_and_forth_for_ever(monkeypatch: pytest.MonkeyPatch):
    """The test of the test: PySyncObj asks for one entry less, and for one more at the next message."""
    monkeypatch.setattr(guards, "back_to_commit", lambda answer, commit_index, last_index: answer)
    world = after_a_long_separation()

    assert applied(world, "a") == []


# --- S5 --------------------------------------------------------------------------------------------------------------


def answered_by_the_past() -> World:
    """
    Node a has an entry that nobody else has, and hears an acknowledgement that b gave to a leader of an earlier term.

    In that term b had as many entries; they were cut off since.
    """
    world = led_by_a()
    world.isolate("a")
    world.link("a", "b")
    world.submit("a", b"only a has it")
    tick(world, "a")
    late = NextIndex(world.members["a"].running.term - 1, last_index(world, "a") + 1, reset=False, success=True)
    world.members["a"].receive("b", late)
    tick(world, "a")
    return world


def test_an_acknowledgement_of_an_earlier_term_does_not_commit():
    """It speaks of entries that may be others by now (S5)."""
    world = answered_by_the_past()

    assert b"only a has it" not in applied(world, "a")


def test_without_the_guard_the_same_acknowledgement_commits_what_one_node_has(monkeypatch: pytest.MonkeyPatch):
    """The test of the test: applied on a, and lost when a dies."""
    monkeypatch.setattr(guards, "of_this_term", lambda answer, term: True)
    world = answered_by_the_past()
    world.crash("a")
    world.link("b", "c")
    world.calm(3.0)

    assert world.log[max(world.log)] == b"only a has it"
    assert b"only a has it" not in applied(world, "b") + applied(world, "c")


# --- what is refused and what never leaves ---------------------------------------------------------------------------


@pytest.mark.parametrize("command", OTHER_KINDS)
def test_an_entry_of_another_kind_is_refused_whole(command: bytes):
    """PySyncObj would unpickle it. Nothing of the message is taken, not even its term."""
    world = led_by_a()
    before, term = world.members["b"].journal[:], world.members["b"].running.term
    end, end_term = before[-1][1:]
    fine = (b"\x00fine", end + 1, term)

    message = Append(term + 1, end, end, end_term, (fine, (command, end + 2, term)))
    with pytest.raises(ValueError, match="an entry of kind"):
        world.members["b"].running.receive("a", message)

    assert world.members["b"].journal[:] == before
    assert world.members["b"].running.term == term


@pytest.mark.parametrize("command", OTHER_KINDS)
def test_a_command_of_another_kind_is_not_taken_from_a_follower(command: bytes):
    """Once it is in the log, every replica would have to live with it."""
    world = led_by_a()

    with pytest.raises(ValueError, match="an entry of kind"):
        world.members["a"].running.receive("b", Forward(command))
    world.calm(0.5)

    assert command not in [entry for entry, _, _ in world.members["a"].journal[:]]


def test_a_frame_that_is_no_message_of_the_consensus_is_refused():
    """It would have been handled before."""
    world = led_by_a()

    with pytest.raises(ValueError, match="Ping is not a message of the consensus"):
        world.members["a"].running.receive("b", Ping())


def test_a_snapshot_never_leaves():
    """Who asks for the entry that every log begins with gets what follows it, and no snapshot (S2, S3, S6)."""
    world = led_by_a()
    asked = NextIndex(world.members["a"].running.term, 1, reset=True, success=False)
    world.members["a"].receive("b", asked)

    tick(world, "a", after_s=0.1)

    sent = [decode_frame(data) for data in world.under_way["a", "b"]]
    assert {type(frame) for frame in sent} == {Append}
    assert sent[0].previous_index == FIRST_INDEX


def test_a_command_without_a_leader_is_dropped():
    """It is proposed again by its caller while somebody waits for it, and never applied minutes later."""
    world = World("abc")
    world.start()
    world.isolate("a")
    world.submit("a", b"into the void")
    tick(world, "a")
    world.link("a", "b")
    world.link("a", "c")

    world.calm(3.0)
    command = world.submit("a")
    world.calm(1.0)

    assert applied(world, "a") == applied(world, "b") == [command]


def test_a_command_of_a_follower_is_forwarded_to_the_leader():
    """And applied everywhere."""
    world = led_by_a()

    command = world.submit("b")
    world.calm(0.5)

    assert [applied(world, name) for name in "abc"] == [[command]] * 3


def test_who_was_restarted_applies_what_it_knew_to_be_committed_without_its_peers():
    """The journal has a hint of how far that is; it may be late, and is never wrong."""
    world = led_by_a()
    commands = [world.submit("a") for _ in range(3)]
    world.calm(0.5)
    world.submit("a")
    world.calm(0.5)
    world.crash("b")
    world.members["b"].start()

    tick(world, "b")

    assert applied(world, "b")[:3] == commands


def test_an_app_that_uses_pysyncobj_itself_is_not_touched():
    """Its clock, its dice, its journal and its pickle are its own."""
    before = dict(vars(pysyncobj.syncobj))

    led_by_a()

    assert dict(vars(pysyncobj.syncobj)) == before


def test_its_core_has_nothing_to_unpickle_with():
    """Whatever reaches it: what would run when it is unpickled stays bytes."""
    core = led_by_a().members["a"].running._core
    loads = vars(sys.modules[SyncObj.__module__])["pickle"].loads
    mine = type(core).doTick.__globals__["pickle"].loads
    trap = pickle.dumps(Trap())

    assert mine(trap) == (0, (trap,))
    assert Trap.sprung == 0
    loads(trap)
    assert Trap.sprung == 1, "the test of the test: PySyncObj as it is would have run it"


class Trap:
    sprung = 0

    def __reduce__(self) -> tuple[object, tuple[()]]:
        return spring, ()


def spring() -> None:
    Trap.sprung += 1


def test_two_members_in_one_process_do_not_share_their_journal_or_clock():
    """Each has a private copy of the module that looks them up."""
    worlds = [World("a"), World("a")]
    for world in worlds:
        world.start()
        world.calm(0.5)
    worlds[0].submit("a")

    worlds[0].calm(0.5)
    worlds[1].clock.seconds += 1e6

    assert [len(world.members["a"].applied) for world in worlds] == [1, 0]
    assert worlds[0].members["a"].journal[:] != worlds[1].members["a"].journal[:]


# --- pysyncobj of another version ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", syncobj._NEEDED)
def test_a_pysyncobj_without_what_is_needed_is_refused_with_the_version_to_install(
    name: str, monkeypatch: pytest.MonkeyPatch
):
    """A name that is set and that nobody looks up would be a clock or a disk that is not ours."""
    monkeypatch.setattr(syncobj, "_NEEDED", (name + "_of_another_version",))

    with pytest.raises(ImportError, match=rf"has no {name}_of_another_version any more; install 0\.3\.17"):
        raft.Raft(
            "a",
            ["a"],
            Journal(),
            lambda entry, index: None,
            applied=1,
            clock=World("a").clock,
            random=random.Random(0),
        )


# --- elections -------------------------------------------------------------------------------------------------------


class Dice:
    """They fall as the test says."""

    def __init__(self, value: float) -> None:
        self._value = value

    def random(self) -> float:
        return self._value


def stagger(rank: int, voters: int, dice: Dice, term: int) -> Stagger:
    names = [str(number) for number in range(voters)]
    return Stagger(names[rank], names, dice, term)


@pytest.mark.parametrize("voters", [1, 2, 3, 5, 7])
def test_two_voters_never_stand_in_the_same_part_of_a_term(voters: int):
    """However the dice fall, half a stratum is between any two of them."""
    for term in range(2 * voters):
        spans = sorted(
            tuple(stagger(rank, voters, Dice(value), term).random() for value in (0.0, 1.0)) for rank in range(voters)
        )

        assert all(0.0 <= earliest < latest <= 1.0 for earliest, latest in spans)
        for (_, latest), (earliest, _) in pairwise(spans):
            assert earliest - latest == pytest.approx(0.5 / voters)


@pytest.mark.parametrize("voters", [1, 2, 3, 5, 7])
def test_every_voter_comes_first_in_some_term(voters: int):
    """One whose log is too short to win must not stand before the others for ever."""
    first = {
        min(range(voters), key=lambda rank: stagger(rank, voters, Dice(0.5), term).random()) for term in range(voters)
    }

    assert first == set(range(voters))


@pytest.mark.parametrize("names", ["abc", "abcde"])
@pytest.mark.parametrize("seed", range(10))
def test_one_election_is_enough(names: str, seed: int):
    """Voters who lose their leader have another after one term: no vote is split while messages are quick."""
    world = World(names, seed=seed)
    world.start()
    world.calm(2.0)
    (leader,) = world.leaders
    term = world.members[leader].running.term
    world.crash(leader)

    world.calm(1.0)

    (new,) = world.leaders
    assert world.members[new].running.term == term + 1


# --- replication -----------------------------------------------------------------------------------------------------


def test_an_acknowledgement_does_not_have_sent_again_what_is_under_way():
    """PySyncObj goes back to what is acknowledged; on a link that loses nothing each entry crosses once."""
    world = led_by_a()
    first = last_index(world, "a") + 1
    crossed = []
    for _ in range(10):
        world.submit("a")
        tick(world, "a")
    for _ in range(10):
        crossed += entries_under_way(world, "a", "b")[:1]
        deliver(world, "a", "b", 1)
        deliver(world, "b", "a")
        tick(world, "a", after_s=0.1)
    crossed += entries_under_way(world, "a", "b")

    assert crossed == list(range(first, first + 10))


def test_what_a_broken_link_lost_is_sent_again():
    """The follower asks for it with a reset."""
    world = led_by_a()
    commands = [world.submit("a") for _ in range(5)]
    tick(world, "a")
    world.cut("a", "b")
    world.link("a", "b")

    world.calm(1.0)

    assert applied(world, "b") == commands
    world.verify()


def test_a_leader_without_a_majority_steps_down():
    """It would believe in itself for ever otherwise."""
    world = led_by_a()
    world.isolate("a")

    for _ in range(60):
        tick(world, "a", after_s=0.02)

    assert not world.members["a"].running.is_leader
    assert world.members["a"].running.leader is None


def test_a_leader_is_to_be_heard_a_voter_may_have_to_stand_and_who_is_alone_has_nothing_to_do():
    """Also by who has no vote: it follows the only voter."""
    world = led_by_a()
    now = world.clock.now()
    heard, stands = world.members["a"].running.next_at, world.members["b"].running.next_at
    alone = World("a")
    alone.start()
    for _ in range(3):
        tick(alone, "a", after_s=0.1)
    lone = alone.members["a"].running
    nothing = lone.next_at
    lone.connected("w")
    followed = lone.next_at
    lone.disconnected("w")

    assert now < heard + raft.HEARTBEAT_S <= now + 2 * raft.HEARTBEAT_S
    assert now < stands <= now + raft.ELECTION_TIMEOUT_MAX_S
    assert lone.is_leader
    assert nothing == float("inf")
    assert followed <= alone.clock.now() + raft.HEARTBEAT_S
    assert lone.next_at == float("inf")


# --- handing over ----------------------------------------------------------------------------------------------------


def told_to_lead_while_it_has_much_to_apply(monkeypatch: pytest.MonkeyPatch) -> World:
    """Node b has all of a's log and knows that it is committed, but has applied none of it, when a hands over to it."""
    monkeypatch.setattr(raft, "_APPLY_BYTES_PER_TICK", 1)
    world = led_by_a()
    for _ in range(5):
        world.submit("a")
    b = world.members["b"].running
    for _ in range(4):
        tick(world, "a", after_s=0.1)
        world.deliver("a", "b")
        world.members["b"].tick()
        world.members["b"].disk_catches_up()
        world.deliver("b", "a")
    assert b.applied < b.commit_index
    world.members["a"].running.transfer_leadership(["b"])
    tick(world, "a")
    world.deliver("a", "b")
    return world


def test_who_is_told_to_lead_does_so_as_soon_as_it_has_applied_what_is_committed(monkeypatch: pytest.MonkeyPatch):
    """The leader adds nothing to its log meanwhile, and would wait for nothing if the order were dropped."""
    world = told_to_lead_while_it_has_much_to_apply(monkeypatch)
    b = world.members["b"]

    for _ in range(10):
        tick(world, "b")
        for other in "ac":
            deliver(world, "b", other)
            world.deliver(other, "b")

    assert b.running.is_leader
    assert applied(world, "b")[:5] == applied(world, "a")[:5]


def test_an_order_to_lead_is_over_once_the_leader_goes_on(monkeypatch: pytest.MonkeyPatch):
    """With less in its log than the leader has it would not be elected, and nobody would lead for a while."""
    world = told_to_lead_while_it_has_much_to_apply(monkeypatch)
    world.submit("a")
    tick(world, "a")
    world.deliver("a", "b")

    for _ in range(10):
        tick(world, "b")

    assert world.members["b"].running.term == world.members["a"].running.term
