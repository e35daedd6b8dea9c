"""
The lease rule, cell by cell, and then as a whole. Times are in virtual seconds; the lease is 2 s, its margin 0.3 s.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from itertools import count

import pytest

from pydrm.agent import lease as lease_rule
from pydrm.agent.lease import Lease, LeaseKeeper, Step, margin_s
from pydrm.agent.watch import LeaseWatch
from pydrm.core.answers import Done, Reason, Refused
from pydrm.core.changes import LeaseEnded
from pydrm.core.commands import Command, Expire, Form, Join, Renew, Request, Resign
from pydrm.core.machine import Outcome, apply
from pydrm.core.state import State
from pydrm.errors import ClusterRefused, ConfigurationError, Outdated, Superseded
from tests.core.build import LEASE_TTL_MS, VOTERS, Cluster, cluster, join

TTL_S = LEASE_TTL_MS / 1000


class Holder:
    """Node a: its keeper and its lease, before a cluster in which nobody has joined."""

    def __init__(self, built: Cluster | None = None, *, ttl_s: float = TTL_S) -> None:
        self.cluster = built or cluster()
        self.lease = Lease()
        numbers = count(1)
        self.keeper = LeaseKeeper(self.lease, "a", ttl_s, address="a:7000", new_nonce=lambda: f"nonce-{next(numbers)}")

    def due(self, now: float, *, up_to_date_at: float | None = None, app_answers: bool = True) -> Command | None:
        heard = now if up_to_date_at is None else up_to_date_at
        return self.keeper.due(now, self.cluster.state, up_to_date_at=heard, app_answers=app_answers)

    def apply(self, command: Command, now: float) -> list[Step]:
        """The command is applied on this node at *now*; what it meant for its lease."""
        return steps(self.keeper, command, self.cluster.apply(command), now)


def steps(keeper: LeaseKeeper, command: Command, outcome: Outcome, now: float) -> list[Step]:
    """Whatever the keeper has to be told of it, in the order in which `Warden` tells it."""
    told = []
    if isinstance(command, Join):
        told.append(keeper.applied_join(command, outcome.answer, now))
    for change in outcome.changes:
        if isinstance(change, LeaseEnded):
            told.append(keeper.lease_ended(change.node.name, change.node.incarnation, now))
    if isinstance(command, Renew):
        told.append(keeper.applied_renew(command, outcome.answer))
    return [step for step in told if step is not Step.NOTHING]


def joined(now: float = 100.0) -> Holder:
    """Joined by a Join that was made, and applied, at *now*."""
    holder = Holder()
    command = holder.due(now)
    assert command is not None
    assert holder.apply(command, now) == [Step.JOINED]
    return holder


def renewal(holder: Holder, now: float) -> Renew:
    command = holder.due(now)
    assert isinstance(command, Renew)
    return command


# --- how long --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ttl_s", "margin"), [(0.5, 0.3), (1.0, 0.3), (2.0, 0.3), (4.0, 0.6), (10.0, 1.5)])
def test_the_margin_covers_clock_rates_and_the_time_to_cut_everything(ttl_s: float, margin: float):
    """More than 1 % of the lease, and at least 0.3 s."""
    assert margin_s(ttl_s) == pytest.approx(margin)
    assert margin_s(ttl_s) > 0.02 * ttl_s


def test_a_lease_is_valid_before_its_deadline_and_not_at_it():
    """It is read where it is used (rule 3)."""
    lease = Lease()
    never = lease.valid(0.0)
    lease.deadline = 101.7

    assert not never
    assert [lease.valid(now) for now in (101.6, 101.7, 101.8)] == [True, False, False]


# --- rule 1: the time is recorded before any queue -------------------------------------------------------------------


def test_a_lease_runs_from_when_its_renewal_was_made_not_from_when_it_was_applied():
    """Whoever watches counts from the apply, which is later."""
    holder = joined()
    command = renewal(holder, 100.4)

    holder.apply(command, 101.6)

    assert holder.lease.deadline == pytest.approx(100.4 + 2.0 - 0.3)


def test_a_join_is_renewal_0_under_the_same_rule():
    """A node whose Join was long under way may find its lease over when it is applied."""
    holder = Holder()
    command = holder.due(100.0)
    holder.apply(command, 105.0)

    assert command == Join("a", "nonce-1", 0, LEASE_TTL_MS, "", "a:7000")
    assert holder.lease.incarnation == 1
    assert holder.lease.deadline == pytest.approx(101.7)
    assert holder.keeper.over(105.0)


def test_each_try_to_join_has_a_nonce_and_a_time_of_its_own():
    """The first that is applied counts, with its own time; the cluster refuses the others."""
    holder = Holder()
    tries = [holder.due(now) for now in (100.0, 100.1, 100.2, 100.4)]
    first, second, third = (command for command in tries if command is not None)

    told = [holder.apply(second, 101.0), holder.apply(first, 101.1), holder.apply(third, 101.2)]

    assert tries[1] is None
    assert [command.nonce for command in (first, second, third)] == ["nonce-1", "nonce-2", "nonce-3"]
    assert told == [[Step.JOINED], [], []]
    assert holder.lease.deadline == pytest.approx(100.2 + 1.7)


def test_renewals_are_made_five_times_in_a_lease_each_with_a_count_of_its_own():
    """None is ever made again, so it is known when each was recorded."""
    holder = joined()
    made = [(now, holder.due(now)) for now in (100 + tick / 64 for tick in range(131))]

    assert [(now, command) for now, command in made if command is not None] == [
        (100.40625, Renew("a", 1, 1, LEASE_TTL_MS)),
        (100.8125, Renew("a", 1, 2, LEASE_TTL_MS)),
        (101.21875, Renew("a", 1, 3, LEASE_TTL_MS)),
        (101.625, Renew("a", 1, 4, LEASE_TTL_MS)),
        (102.03125, Renew("a", 1, 5, LEASE_TTL_MS)),
    ]


def test_a_renewal_that_comes_late_does_not_shorten_the_lease():
    """A newer one came first in the log, so the cluster refuses it."""
    holder = joined()
    older, newer = renewal(holder, 100.5), renewal(holder, 101.0)

    told = [holder.apply(newer, 101.2), holder.apply(older, 101.3)]

    assert told == [[Step.RENEWED], []]
    assert holder.lease.deadline == pytest.approx(101.0 + 1.7)


def test_only_renewals_that_this_process_made_count():
    """One under its name that it does not know says nothing about when it was made."""
    holder = joined()

    told = holder.apply(Renew("a", 1, 77, LEASE_TTL_MS), 101.0)

    assert told == []
    assert holder.lease.deadline == pytest.approx(101.7)


def test_renewals_of_others_are_others():
    """Though they have the same count."""
    holder = joined()
    holder.cluster.join("b")
    renewal(holder, 100.4)

    assert holder.apply(Renew("b", 2, 1, LEASE_TTL_MS), 100.5) == []
    assert holder.lease.deadline == pytest.approx(101.7)


# --- rule 2: only the well renew -------------------------------------------------------------------------------------


@pytest.mark.parametrize("holder", [Holder, joined], ids=["join", "renew"])
def test_a_node_that_does_not_know_what_is_so_neither_joins_nor_renews(holder: Callable[[], Holder]):
    """It has not heard the leader, or not applied what it heard of, for more than half a lease."""
    assert holder().due(101.0, up_to_date_at=99.9) is None
    assert holder().due(101.0, up_to_date_at=100.0) is not None


@pytest.mark.parametrize("holder", [Holder, joined], ids=["join", "renew"])
def test_a_node_whose_app_does_not_answer_neither_joins_nor_renews(holder: Callable[[], Holder]):
    """It could not be told to close anything."""
    assert holder().due(101.0, app_answers=False) is None


@pytest.mark.parametrize("holder", [Holder, joined], ids=["join", "renew"])
def test_a_node_that_resigned_neither_joins_nor_renews(holder: Callable[[], Holder]):
    """It is on its way out."""
    resigned = holder()
    resigned.keeper.resign()

    assert resigned.due(101.0) is None


def test_before_the_cluster_is_formed_nobody_joins():
    """Nobody knows yet how long a lease is."""
    assert Holder(Cluster()).due(100.0) is None


# --- rule 4: a lease that ended is fenced ----------------------------------------------------------------------------


def test_the_end_of_a_lease_is_told_once():
    """At its deadline, and not again while it lasts."""
    holder = joined()

    assert [holder.keeper.over(now) for now in (101.6, 101.7, 101.8, 105.0)] == [False, True, False, False]
    assert holder.keeper.fenced_at == 101.7


def test_without_a_lease_there_is_no_end():
    """Nothing can be held before the node has joined."""
    assert not Holder().keeper.over(1e9)


def test_a_renewal_that_was_made_before_the_fence_does_not_undo_it():
    """Everything was cut; only a newer one shows that the lease goes on."""
    holder = joined()
    early = renewal(holder, 101.6)
    holder.keeper.over(101.7)

    told = holder.apply(early, 101.8)

    assert told == []
    assert not holder.lease.valid(101.8)


def test_a_renewal_that_was_made_after_the_fence_restores_the_lease():
    """The incarnation is the same; and the next end is told again."""
    holder = joined()
    holder.keeper.over(101.7)
    late = renewal(holder, 101.8)

    told = holder.apply(late, 102.0)

    assert told == [Step.RESTORED]
    assert (holder.lease.incarnation, holder.keeper.fenced_at) == (1, None)
    assert holder.lease.deadline == pytest.approx(101.8 + 1.7)
    assert holder.keeper.over(103.5)


def test_an_incarnation_that_was_expired_is_over_for_ever():
    """What it still had under way does nothing; the node joins anew, in its place."""
    holder = joined()
    under_way = renewal(holder, 100.4)

    told = holder.apply(Expire("a", 1, 0), 103.0), holder.apply(under_way, 103.1)

    assert told == ([Step.ENDED], [])
    assert (holder.lease.incarnation, holder.lease.deadline) == (0, float("-inf"))
    again = holder.due(103.2)
    assert again == Join("a", "nonce-2", 1, LEASE_TTL_MS, "", "a:7000")
    assert holder.apply(again, 103.3) == [Step.JOINED]
    assert (holder.lease.incarnation, holder.keeper.fenced_at) == (2, None)
    assert renewal(holder, 103.7) == Renew("a", 2, 1, LEASE_TTL_MS)


def test_a_resignation_ends_the_lease_when_it_is_applied():
    """Not when it is asked for."""
    holder = joined()
    holder.keeper.resign()
    before = holder.lease.valid(101.0)

    assert before
    assert holder.apply(Resign("a", 1), 101.0) == [Step.ENDED]
    assert not holder.lease.valid(101.0)


def test_the_end_of_anothers_lease_is_not_this_ones():
    """Another node's, or another incarnation's."""
    holder = joined()
    holder.cluster.join("b")

    assert holder.apply(Expire("b", 2, 0), 101.0) == []
    assert holder.keeper.lease_ended("a", 7, 101.0) is Step.NOTHING
    assert holder.lease.valid(101.0)


# --- joining ---------------------------------------------------------------------------------------------------------


def test_joins_of_others_and_of_the_past_mean_nothing():
    """The log is replayed when a process starts; its former Joins are in it."""
    holder = Holder()

    assert holder.apply(join("b", nonce="b"), 100.0) == []
    assert holder.apply(join("a", nonce="of a former process"), 100.0) == []
    assert holder.lease.incarnation == 0
    assert holder.due(100.1) == Join("a", "nonce-1", 2, LEASE_TTL_MS, "", "a:7000")


def test_a_node_waits_for_the_lease_of_its_former_process():
    """It says so, and asks again until that is over."""
    built = cluster("a")
    holder = Holder(built)

    told = holder.apply(holder.due(100.0), 100.1)
    waits_for = holder.keeper.waits_for
    built.expire("a")
    rejoined = holder.apply(holder.due(100.2), 100.3)

    assert (told, rejoined) == ([], [Step.JOINED])
    assert waits_for == "the lease of a's former process has not ended"
    assert holder.keeper.waits_for == ""


def test_a_process_on_the_same_locked_directory_need_not_wait():
    """Its lock proves that the former one is gone."""
    holder = Holder(cluster("a"))
    holder.keeper.directory = "disk-a"

    assert holder.apply(holder.due(100.0), 100.1) == [Step.JOINED]
    assert holder.lease.incarnation == 2


def test_a_process_that_is_replaced_cannot_go_on():
    """Another one was started under its name and has joined."""
    holder = joined()
    holder.cluster.expire("a")

    told = holder.apply(join("a", nonce="of another process", replaces=1), 101.0)

    assert told == [Step.FAILED]
    assert isinstance(holder.keeper.failure, Superseded)
    assert holder.due(102.0) is None


def test_a_process_that_tries_to_replace_this_one_and_is_refused_changes_nothing():
    """This one's lease runs."""
    holder = joined()

    assert holder.apply(join("a", nonce="of another process", replaces=1), 101.0) == []
    assert holder.keeper.failure is None


def test_a_lease_time_other_than_the_clusters_is_a_slip_in_the_configuration():
    """It would be wrong to go on with either of them; the setting is named."""
    holder = Holder(ttl_s=3.0)

    told = holder.apply(holder.due(100.0), 100.1)

    assert told == [Step.FAILED]
    assert isinstance(holder.keeper.failure, ConfigurationError)
    assert holder.keeper.failure.field == "lease_ttl"
    assert holder.due(101.0) is None


def test_a_node_that_the_cluster_does_not_know_cannot_join():
    """The reason is the cluster's."""
    holder = Holder()
    command = holder.due(100.0)

    step = holder.keeper.applied_join(command, Refused(Reason.NOT_FOUND, "a is not a member"), 100.1)

    assert step is Step.FAILED
    assert isinstance(holder.keeper.failure, ClusterRefused)
    assert holder.keeper.failure.reason == "not-found"


def test_a_node_that_is_too_old_for_the_cluster_is_told_so():
    """By an error of its own, so that whoever runs it can start a newer one."""
    holder = Holder()
    command = holder.due(100.0)

    step = holder.keeper.applied_join(command, Refused(Reason.TOO_OLD, "install a newer pydrm on a"), 100.1)

    assert step is Step.FAILED
    assert isinstance(holder.keeper.failure, Outdated)
    assert str(holder.keeper.failure) == "cannot join: install a newer pydrm on a"


@pytest.mark.parametrize("reason", [Reason.STALE, Reason.NOT_FORMED])
def test_a_join_that_came_at_the_wrong_moment_is_made_anew(reason: Reason):
    """What it saw was no longer so."""
    holder = Holder()
    command = holder.due(100.0)

    assert holder.keeper.applied_join(command, Refused(reason), 100.1) is Step.NOTHING
    assert isinstance(holder.due(100.2), Join)


# --- the whole rule --------------------------------------------------------------------------------------------------


class Replica:
    """One node's copy of the state, which comes to it later than the log goes on; and its clock."""

    def __init__(self, life: Life, applied: Callable[[Command, Outcome], None]) -> None:
        self.rate = 1 + life.dice.choice((-0.005, 0.005, life.dice.uniform(-0.005, 0.005)))
        self.start = life.dice.uniform(0, 1e6)
        self.state = State()
        self.inbox: deque[Command] = deque()
        self.paused_until = 0.0
        self._life = life
        self._applied = applied

    def clock(self, true_time: float) -> float:
        return self.start + self.rate * true_time

    def catch_up(self) -> None:
        if self._life.now < self.paused_until:
            self._life.at(self.paused_until, self.catch_up)
            return
        while self.inbox:
            command = self.inbox.popleft()
            self._applied(command, apply(self.state, Request(command)))


class Life:
    """
    One holder, two voters and a log, in true time; whatever is on its way takes its time.

    Attributes:
        ended: When the Expire of each of the holder's incarnations was accepted, in true time.
        overlaps: By how many seconds the holder's lease outlived that, where it did.
    """

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.now = 0.0
        self.ended: dict[int, float] = {}
        self.overlaps: list[float] = []
        self.renewed = self.restored = self.stale = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._log = State()
        self._slowness = self.dice.choice((0.001, 0.01, 0.3))
        self.lease = Lease()
        self.keeper = LeaseKeeper(self.lease, "a", TTL_S, address="", new_nonce=lambda: f"{next(self._numbers)}")
        self.holder = Replica(self, self._holder_applied)
        self._watches = [LeaseWatch(), LeaseWatch()]
        self._voters = [Replica(self, lambda command, outcome, n=n: self._voter_applied(n, outcome)) for n in (0, 1)]
        self._leads_since: list[float | None] = [0.0, None]

    def run(self, seconds: float) -> None:
        self.commit(Form("orders", VOTERS, LEASE_TTL_MS))
        self.holder_ticks()
        for number in (0, 1):
            self.voter_ticks(number)
        while self._events and self.now < seconds:
            self.now, _, event = heapq.heappop(self._events)
            event()

    def at(self, true_time: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (true_time, next(self._numbers), event))

    def later(self, event: Callable[[], None]) -> None:
        """A queue: mostly short, now and then long."""
        mean = self.dice.choice((self._slowness, self._slowness, self._slowness, 1.0))
        self.at(self.now + self.dice.expovariate(1 / mean), event)

    def commit(self, command: Command) -> None:
        """The next entry of the log. What it does is decided here, whenever the nodes learn of it."""
        outcome = apply(self._log, Request(command))
        if isinstance(command, Expire):
            if isinstance(outcome.answer, Done):
                self.ended[command.incarnation] = self.now
            else:
                self.stale += 1
        for replica in (self.holder, *self._voters):
            replica.inbox.append(command)
            self.later(replica.catch_up)
        self.judge()

    def judge(self) -> None:
        """The holder's lease must have been over, by its own clock, when its end was accepted."""
        ended_at = self.ended.get(self.lease.incarnation)
        if ended_at is not None and self.lease.deadline > self.holder.clock(ended_at):
            self.overlaps.append(self.lease.deadline - self.holder.clock(ended_at))

    def holder_ticks(self) -> None:
        if self.now >= self.holder.paused_until:
            now = self.holder.clock(self.now)
            self.keeper.over(now)
            heard = now - self.dice.choice((0.0, 0.0, 0.5, 1.5))
            command = self.keeper.due(now, self.holder.state, up_to_date_at=heard, app_answers=True)
            if command is not None and self.dice.random() < 0.9:
                self.later(lambda: self.commit(command))
            if self.dice.random() < 0.01:
                self.holder.paused_until = self.now + self.dice.uniform(0, 5)
        self.at(self.now + self.dice.uniform(0.01, 0.05), self.holder_ticks)

    def voter_ticks(self, number: int) -> None:
        voter = self._voters[number]
        now = voter.clock(self.now)
        if self.dice.random() < 0.01:
            # Both may believe that they lead.
            self._leads_since[number] = self.dice.choice((None, now))
        for expire in self._watches[number].due(now, self._leads_since[number]):
            self.later(lambda expire=expire: self.commit(expire))
        self.at(self.now + self.dice.uniform(0.001, 0.03), lambda: self.voter_ticks(number))

    def _holder_applied(self, command: Command, outcome: Outcome) -> None:
        told = steps(self.keeper, command, outcome, self.holder.clock(self.now))
        self.renewed += told.count(Step.RENEWED)
        self.restored += told.count(Step.RESTORED)
        self.judge()

    def _voter_applied(self, number: int, outcome: Outcome) -> None:
        for change in outcome.changes:
            self._watches[number].note(change, self._voters[number].clock(self.now))


def life(seed: int) -> Life:
    lived = Life(seed)
    lived.run(60.0)
    return lived


@pytest.mark.parametrize("seed", range(200))
def test_no_lease_outlives_its_accepted_end(seed: int):
    """Whatever takes how long, whoever stands still, and though the clocks' rates differ by up to 1 %."""
    assert life(seed).overlaps == []


def test_these_lives_have_everything_in_them():
    """The test of the test: leases that are renewed, end, are restored, and ends that come too late."""
    lives = [life(seed) for seed in range(20)]

    assert min(lived.renewed for lived in lives) > 0
    assert sum(len(lived.ended) for lived in lives) > 50
    assert sum(lived.restored for lived in lives) > 10
    assert sum(lived.stale for lived in lives) > 10


def test_these_lives_would_find_a_margin_that_is_less_than_what_the_clocks_differ(monkeypatch: pytest.MonkeyPatch):
    """The test of the test: without a margin a slow clock's lease outlives its end, by milliseconds."""
    monkeypatch.setattr(lease_rule, "margin_s", lambda ttl_s: 0.0)

    overlaps = [overlap for seed in range(60) for overlap in life(seed).overlaps]

    assert 0 < max(overlaps, default=0) < 0.05


def test_these_lives_would_find_a_lease_that_is_counted_from_the_apply(monkeypatch: pytest.MonkeyPatch):
    """The test of the test: what the holder applies late would then extend its lease beyond what the voters know of."""
    applied_renew = LeaseKeeper.applied_renew

    def counts_from_the_apply(keeper: LeaseKeeper, command: Renew, answer: Done | Refused) -> Step:
        step = applied_renew(keeper, command, answer)
        if step is Step.RENEWED:
            keeper._lease.deadline = clock() + TTL_S - margin_s(TTL_S)
        return step

    monkeypatch.setattr(LeaseKeeper, "applied_renew", counts_from_the_apply)
    overlaps = []
    for seed in range(20):
        lived = Life(seed)

        def clock(lived: Life = lived) -> float:
            return lived.holder.clock(lived.now)

        lived.run(60.0)
        overlaps += lived.overlaps

    assert overlaps != []


# --- when to look again ----------------------------------------------------------------------------------------------


def test_the_next_time_to_look_is_the_next_renewals_or_the_end_of_the_lease():
    """A node that looked later would hold on for longer than the lease allows."""
    holder = joined(100.0)
    at_first = holder.keeper.next_at
    command = renewal(holder, 100.4)
    holder.apply(command, 100.5)
    renewed = holder.keeper.next_at
    holder.keeper.resign()
    resigned = holder.keeper.next_at
    holder.keeper.over(103.0)

    assert (at_first, renewed) == (pytest.approx(100.4), pytest.approx(100.8))
    assert resigned == holder.lease.deadline == pytest.approx(102.1)
    assert holder.keeper.next_at == float("inf")
