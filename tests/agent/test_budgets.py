"""
Budgets on the nodes of a cluster: what they do together, as the third party counts it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import attrs
import pytest

from pydrm.agent.budget_watch import BudgetWatch
from pydrm.agent.hold import Hold
from pydrm.core.answers import Done
from pydrm.core.budget_commands import EndHour, HoldBack, ReturnPermits, TakePermits
from pydrm.core.budget_records import Budget
from pydrm.core.changes import BudgetChanged
from pydrm.core.commands import Command
from pydrm.core.records import Condition
from pydrm.errors import Fenced, Permanent, Temporary
from tests.agent.stage import Actor, Company, NodeOnStage, play, until
from tests.core.build import cluster

API = "api.example.com"
ROUNDING = 1e-6


@attrs.define
class Visit:
    """One connection, from when it is begun until it is closed."""

    node: str
    resource: str
    begun: float
    ended: float = float("inf")


class ThirdParty:
    """
    Counts who is connected, whichever node it is from.

    Attributes:
        opening_takes_s, closing_takes_s: How long a connection takes to be open, and to be closed politely.
        lingers_s: How long one that was cut off is there still.
        answer: What becomes of one that is open; by default it stays.
    """

    def __init__(self, company: Company) -> None:
        self.visits: list[Visit] = []
        self.requests: list[float] = []
        self.holds: dict[str, Hold] = {}
        self.opening_takes_s = 0.002
        self.closing_takes_s = 0.01
        self.lingers_s = 0.0
        self.answer: Callable[[Hold], Awaitable[None]] | None = None
        self._company = company

    def node(self, name: str, **options: float) -> NodeOnStage:
        actor = Actor()
        actor.script = self._visit
        return self._company.add_node(name, actor, **options)

    async def _visit(self, hold: Hold) -> None:
        loop = asyncio.get_running_loop()
        visit = Visit(hold.node, hold.resource.id, loop.time())
        self.visits.append(visit)
        self.holds[hold.resource.id] = hold
        try:
            await asyncio.sleep(self.opening_takes_s)
            if self.answer is not None:
                await self.answer(hold)
            hold.ready()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(self.closing_takes_s if hold.valid else self.lingers_s)
            raise
        finally:
            visit.ended = loop.time()

    async def keep_asking(self, hold: Hold) -> None:
        hold.ready()
        while True:
            await hold.may_request()
            self.requests.append(asyncio.get_running_loop().time())

    def most_at_once(self) -> int:
        """How many were connected at the busiest instant."""
        steps = sorted([(visit.begun, 1) for visit in self.visits] + [(visit.ended, -1) for visit in self.visits])
        most = now = 0
        for _, step in steps:
            now += step
            most = max(most, now)
        return most

    def connected(self) -> int:
        return sum(visit.ended == float("inf") for visit in self.visits)


def most_over(times: list[float], rate_per_s: float) -> float:
    """The most by which there were more than the rate allows, in any span from one of *times* to another."""
    # With d(i) = i - rate * t(i), the span from i to j is over by d(j) - d(i) + 1.
    most, lowest = 0.0, float("inf")
    for number, time in enumerate(sorted(times)):
        over = number - rate_per_s * time
        lowest = min(lowest, over)
        most = max(most, over - lowest + 1)
    return most


def ids(count: int) -> list[str]:
    return [f"r{number:03}" for number in range(count)]


async def once_more(hold: Hold) -> None:
    raise Temporary("come again", delay=0.0)


# --- rates ------------------------------------------------------------------------------------------------------------


def test_three_nodes_together_connect_at_the_rate_and_no_more() -> None:
    """In any span at most one more for each node; and when all have work they use nearly all of it."""

    async def scene() -> None:
        company = Company()
        third = ThirdParty(company)
        third.answer = once_more
        company.limit(API, connects_per_s=10.0)
        for name in "abc":
            third.node(name)
        company.add(*ids(30), group=API)
        await asyncio.sleep(120)

        times = [visit.begun for visit in third.visits]
        assert most_over(times, 10.0) <= 3 + ROUNDING
        assert len(times) >= 0.8 * 10 * 120

    play(scene)


def test_a_failover_does_not_break_the_rate() -> None:
    """All that the dead one had is opened by the others, at the rate, and not at the same instant."""

    async def scene() -> None:
        company = Company()
        third = ThirdParty(company)
        company.limit(API, connects_per_s=20.0)
        for name in "abc":
            third.node(name)
        company.add(*ids(60), group=API)
        await until(lambda: company.is_open(*ids(60)))
        company.nodes["c"].expire()
        before = len(third.visits)
        begun = asyncio.get_running_loop().time()
        await until(lambda: company.is_open(*ids(60)))

        assert len(third.visits) == before + 20
        assert most_over([visit.begun for visit in third.visits], 20.0) <= 3 + ROUNDING
        # Two shares of a third for one lease_ttl, and all of it from then on.
        assert asyncio.get_running_loop().time() - begun < 20 / (20 * 2 / 3) / 0.8

    play(scene)


def test_requests_of_all_nodes_keep_the_rate() -> None:
    """Each node has the part of it that it has of the resources."""

    async def scene() -> None:
        company = Company()
        third = ThirdParty(company)
        third.answer = third.keep_asking
        company.limit(API, requests_per_s=50.0)
        for name in "abc":
            third.node(name)
        company.add(*ids(10), group=API)
        await asyncio.sleep(30)
        company.nodes["b"].expire()
        await asyncio.sleep(30)

        assert most_over(third.requests, 50.0) <= 3 + ROUNDING
        assert len(third.requests) >= 0.8 * 50 * 60

    play(scene)


def test_those_of_higher_priority_are_opened_first() -> None:
    """On each node; whoever has waited longest is the first of equals."""

    async def scene() -> None:
        company = Company()
        third = ThirdParty(company)
        third.node("a")
        company.limit(API, connects_per_s=5.0)
        company.add("low", group=API, priority=-1)
        company.add("one", "two", group=API)
        company.add("high", group=API, priority=7)
        await until(lambda: company.is_open("low", "one", "two", "high"))

        assert [visit.resource for visit in third.visits] == ["high", "one", "two", "low"]

    play(scene)


def test_what_has_no_budget_waits_for_nothing() -> None:
    """Not for others that do either, however many; and it costs no command."""

    async def scene() -> None:
        company = Company()
        third = ThirdParty(company)
        third.node("a", open_concurrency=4)
        company.limit(API, connects_per_s=0.1)
        company.add(*ids(50), group=API)
        await asyncio.sleep(0.5)
        begun = asyncio.get_running_loop().time()
        company.add("free", "of-no-limit", group="")
        company.add("of-another-group", group="other.example.com")
        await until(lambda: company.is_open("free", "of-no-limit", "of-another-group"))

        assert asyncio.get_running_loop().time() - begun < 0.1
        assert not [command for command in company.commands if isinstance(command, TakePermits)]
        await third.holds["free"].may_request()

    play(scene)


def test_while_it_waits_it_says_so() -> None:
    """As opening, with the group that it waits for; and no more once it is open."""

    async def scene() -> None:
        company = Company()
        third = ThirdParty(company)
        third.node("a")
        company.limit(API, connects_per_s=0.5)
        company.add("r", "s", group=API)
        await until(lambda: company.claim("s").detail == f"waits for the budget of {API}")
        assert company.condition("s") is Condition.OPENING

        await until(lambda: company.is_open("r", "s"))
        assert company.claim("s").detail == ""

    play(scene)


def test_what_waits_for_its_budget_is_let_go_at_once() -> None:
    """Nothing is open."""

    async def scene() -> None:
        company = Company()
        third = ThirdParty(company)
        third.node("a")
        company.limit(API, connections=1)
        company.add("r", "s", group=API)
        await until(lambda: third.connected() == 1)
        waiting = "s" if company.is_open("r") else "r"
        begun = asyncio.get_running_loop().time()
        company.remove(waiting)
        await until(lambda: (waiting, 0) not in company.state.assignments)

        assert asyncio.get_running_loop().time() - begun < 0.1

    play(scene)


def test_a_budget_that_is_taken_away_lets_all_go_on() -> None:
    """Those that wait, too."""

    async def scene() -> None:
        company = Company()
        third = ThirdParty(company)
        third.node("a")
        company.limit(API, connections=1, connects_per_s=0.1)
        company.add(*ids(200), group=API)
        await asyncio.sleep(3)
        company.limit(API)
        await until(lambda: company.is_open(*ids(200)), timeout_s=3)

    play(scene)


# --- connections ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_no_more_are_connected_than_the_limit_whatever_happens(seed: int) -> None:
    """Kills, drains, partitions, restarts, updates, forced releases of what waits; judged by the third party."""

    async def scene() -> None:
        dice = random.Random(seed)
        company = Company()
        third = ThirdParty(company)

        async def moody(hold: Hold) -> None:
            if dice.random() < 0.2:
                raise Temporary("not now", delay=dice.choice([0.1, 3.0]))

        third.answer = moody
        company.limit(API, connections=7)
        for name in "abc":
            third.node(name)
        company.add(*ids(20), group=API)
        for _ in range(60):
            await asyncio.sleep(dice.random() * 3)
            await happen(company, dice)
        await until(lambda: third.connected() == 7)

        assert third.most_at_once() == 7
        assert company.state.index.permits[API] == 7

    play(scene)


async def happen(company: Company, dice: random.Random) -> None:
    node = company.nodes[dice.choice("abc")]
    id = dice.choice(ids(20))
    match dice.choice(["kill", "drain", "partition", "update", "remove", "unreachable"]):
        case "kill":
            node.expire()
            await asyncio.sleep(dice.random() * 4)
            node.join()
        case "drain":
            company.drain(node.name)
            await asyncio.sleep(1)
            node.expire()
            node.join()
        case "partition":
            node.lose_lease()
            await asyncio.sleep(dice.random())
            node.regain_lease()
        case "update":
            company.add(id, group=API, version=dice.random())
        case "remove":
            company.remove(id)
            await asyncio.sleep(0.5)
            company.add(id, group=API)
        case "unreachable":
            node.reachable = False
            await asyncio.sleep(dice.random() * 8)
            node.reachable = True


def test_a_handle_that_was_taken_by_force_is_counted_until_it_is_gone() -> None:
    """The one exception from "one holder" is none from the budget."""

    async def scene() -> None:
        company = Company()
        third = ThirdParty(company)
        third.lingers_s = 1.0
        company.limit(API, connections=2)
        for name in "abc":
            third.node(name)
        company.add(*ids(4), group=API)
        for _ in range(5):
            await asyncio.sleep(3)
            company.force(next(id for id in ids(4) if company.is_open(id)))
        await asyncio.sleep(3)

        assert third.most_at_once() == 2
        assert third.connected() == 2

    play(scene)


def test_a_permit_is_kept_over_a_short_wait_and_given_back_before_a_long_one() -> None:
    """Others can connect while a third party is away for one."""

    async def scene() -> None:
        company = Company()
        third = ThirdParty(company)
        third.node("a")
        delays = {"r": 0.5}

        async def fail(hold: Hold) -> None:
            if hold.resource.id == "r":
                raise Temporary("not now", delay=delays["r"])

        third.answer = fail
        company.limit(API, connections=1)
        company.add("r", group=API, priority=1)
        await until(lambda: len(third.visits) >= 5)
        company.add("s", group=API)
        await asyncio.sleep(5)
        assert {visit.resource for visit in third.visits} == {"r"}
        assert not [command for command in company.commands if isinstance(command, ReturnPermits)]

        delays["r"] = 20.0
        await until(lambda: company.is_open("s"))
        assert company.condition("r") is Condition.RETRYING

    play(scene)


def test_one_that_has_failed_for_good_gives_its_permit_back() -> None:
    """It will not connect any more."""

    async def scene() -> None:
        company = Company()
        third = ThirdParty(company)
        third.node("a")

        async def fail(hold: Hold) -> None:
            if hold.resource.id == "r":
                raise Permanent("no such feed")

        third.answer = fail
        company.limit(API, connections=1)
        company.add("r", group=API, priority=1)
        company.add("s", group=API)
        await until(lambda: company.is_open("s"))

        assert company.condition("r") is Condition.FAILED

    play(scene)


def test_a_handle_that_was_cut_off_gives_its_permit_back() -> None:
    """Its lease may go on, and then it asks again; meanwhile others can connect."""

    async def scene() -> None:
        company = Company()
        third = ThirdParty(company)
        a, _ = third.node("a"), third.node("b")
        company.limit(API, connections=1)
        company.add("r", group=API)
        await until(lambda: company.is_open("r", by="a"))
        company.add("s", group=API)
        await asyncio.sleep(1)
        assert third.connected() == 1

        a.lose_lease()
        await until(lambda: company.is_open("s", by="b"))
        a.regain_lease()
        await asyncio.sleep(5)
        assert third.connected() == third.most_at_once() == 1

        company.remove("s")
        await until(lambda: company.is_open("r", by="a"))

    play(scene)


def test_a_permit_that_is_granted_when_its_handle_is_gone_is_given_back() -> None:
    """The grant was under way when the handle was cut."""

    async def scene() -> None:
        company = Company()
        third = ThirdParty(company)
        a, _ = third.node("a"), third.node("b")

        def cut_before_the_grant(command: Command) -> bool:
            if isinstance(command, TakePermits) and command.node == "a":
                a.lose_lease()
            return False

        company.refuse = cut_before_the_grant
        company.limit(API, connections=1)
        company.add("r", group=API)
        await until(lambda: any(isinstance(command, TakePermits) for command in company.commands))
        company.add("s", group=API)
        await until(lambda: company.is_open("s", by="b"))

        assert [visit.node for visit in third.visits] == ["b"]

    play(scene)


def test_what_is_open_when_a_limit_is_set_stays_open_and_is_counted() -> None:
    """And nothing more is opened until there is room."""

    async def scene() -> None:
        company = Company()
        third = ThirdParty(company)
        for name in "ab":
            third.node(name)
        company.add(*ids(4), group=API)
        await until(lambda: company.is_open(*ids(4)))
        company.limit(API, connections=3)
        await until(lambda: company.state.index.permits.get(API) == 4)
        company.add("more", group=API, priority=5)
        await asyncio.sleep(5)
        assert third.connected() == 4

        company.remove("r000")
        await asyncio.sleep(5)
        assert third.connected() == 3
        company.remove("r001")
        await until(lambda: company.is_open("more"))

    play(scene)


def test_sessions_are_counted_for_a_day() -> None:
    """A resource that loses its connection every second does not use up more than there is."""

    async def scene() -> None:
        company = Company()
        third = ThirdParty(company)
        leading = company.lead(every_s=60)
        for name in "abc":
            third.node(name)

        async def lose(hold: Hold) -> None:
            await asyncio.sleep(1)
            raise Temporary("connection lost", delay=0.0)

        third.answer = lose
        company.limit(API, sessions_per_day=40)
        company.add(*ids(6), group=API)
        await asyncio.sleep(23 * 3600)
        assert len(third.visits) == 40

        await asyncio.sleep(3 * 3600)
        assert len(third.visits) == 80
        assert third.visits[40].begun - third.visits[0].begun >= 24 * 3600
        leading.cancel()

    play(scene)


# --- holdbacks --------------------------------------------------------------------------------------------------------


def test_one_nodes_429_stops_all() -> None:
    """Nobody connects or requests until the time is over, and then not all at the same instant."""

    async def scene() -> None:
        company = Company()
        third = ThirdParty(company)
        third.answer = third.keep_asking
        leading = company.lead()
        company.limit(API, requests_per_s=100.0)
        for name in "abc":
            third.node(name)
        company.add(*ids(9), group=API)
        await asyncio.sleep(10)
        third.holds["r000"].hold_back(30.0, "429 Too Many Requests")
        begun = asyncio.get_running_loop().time()
        company.add("late", group=API)
        await asyncio.sleep(60)

        after = [time for time in third.requests if time > begun + 0.01]
        assert begun + 30 <= min(after) < begun + 31
        assert next(visit for visit in third.visits if visit.resource == "late").begun >= begun + 30
        assert company.is_open("late")
        leading.cancel()

    play(scene)


def test_a_group_without_a_limit_is_held_back_too() -> None:
    """Who opens nothing meanwhile opens it afterwards."""

    async def scene() -> None:
        company = Company()
        third = ThirdParty(company)
        leading = company.lead()
        for name in "ab":
            third.node(name)
        company.add("r", group=API)
        await until(lambda: company.is_open("r"))
        third.holds["r"].hold_back(10)
        await asyncio.sleep(0.1)
        company.add(*ids(300), group=API)
        await asyncio.sleep(9)
        assert len(third.visits) == 1

        await until(lambda: company.is_open(*ids(300)), timeout_s=6)
        assert dict(company.state.budgets) == {}
        leading.cancel()

    play(scene)


def test_what_waits_because_its_group_is_held_back_says_that() -> None:
    """For its budget it would wait in vain."""

    async def scene() -> None:
        company = Company()
        third = ThirdParty(company)
        third.node("a")
        company.add("r", group=API)
        await until(lambda: company.is_open("r"))
        third.holds["r"].hold_back(60.0)

        company.add("s", group=API)

        await until(lambda: company.claim("s").detail == f"waits because {API} is held back")

    play(scene)


def test_a_node_that_nobody_hears_holds_itself_back_and_says_so_again() -> None:
    """For what is left of the time."""

    async def scene() -> None:
        company = Company()
        third = ThirdParty(company)
        a = third.node("a")
        company.add("r", group=API)
        await until(lambda: company.is_open("r"))
        a.reachable = False
        third.holds["r"].hold_back(60.0)
        asked = asyncio.create_task(third.holds["r"].may_request())
        await asyncio.sleep(20)
        a.reachable = True
        await asyncio.sleep(10)

        (said,) = [command for command in company.commands if isinstance(command, HoldBack)]
        assert 29_000 <= said.duration_ms <= 41_000
        assert not asked.done()
        asked.cancel()

    play(scene)


def test_a_holdback_is_at_most_a_day_and_nothing_is_none() -> None:
    """Third parties have been seen to say both."""

    async def scene() -> None:
        company = Company()
        third = ThirdParty(company)
        third.node("a")
        company.add("r", group=API)
        company.add("of-no-group")
        await until(lambda: company.is_open("r", "of-no-group"))
        for seconds in (0.0, -5.0, float("nan")):
            third.holds["r"].hold_back(seconds)
        third.holds["of-no-group"].hold_back(10.0)
        await third.holds["r"].may_request()
        third.holds["r"].hold_back(1e12)
        await asyncio.sleep(1)

        (said,) = [command for command in company.commands if isinstance(command, HoldBack)]
        assert (said.group, said.duration_ms) == (API, 24 * 3600 * 1000)

    play(scene)


def test_who_waits_for_a_request_when_the_hold_ends_is_told() -> None:
    """It must not send it any more."""

    async def scene() -> None:
        company = Company()
        third = ThirdParty(company)
        leading = company.lead()
        a = third.node("a")
        company.add("r", group=API)
        await until(lambda: company.is_open("r"))
        hold = third.holds["r"]
        hold.hold_back(1.0)
        asked = asyncio.create_task(hold.may_request())
        a.lose_lease()

        with pytest.raises(Fenced):
            await asked
        leading.cancel()

    play(scene)


# --- the leader's part ------------------------------------------------------------------------------------------------


def test_who_leads_ends_an_hour_once_it_has_passed_here() -> None:
    """Counted from when its first session was applied; only if there was any, and by the leader alone."""
    watch = BudgetWatch()
    watch.note(BudgetChanged(Budget(API, sessions_per_day=5, sessions=(0,), hour=7)), 50.0)
    assert watch.due(10_000.0, 0.0) == []

    watch.note(BudgetChanged(Budget(API, sessions_per_day=5, sessions=(1,), hour=7)), 10_000.0)
    watch.note(BudgetChanged(Budget(API, sessions_per_day=5, sessions=(2,), hour=7)), 12_000.0)
    assert watch.due(13_599.0, 0.0) == []
    assert watch.due(13_600.0, None) == []
    assert watch.due(13_600.0, 0.0) == [EndHour(API, 7)]


def test_a_watch_that_is_restored_goes_on_with_what_it_knew() -> None:
    """And counts the rest from then."""
    house = cluster("a")
    assert isinstance(house.hold_back(API, 10_000), Done)
    watch = BudgetWatch()
    watch.restored(house.state, 100.0)
    watch.restored(house.state, 105.0)
    assert watch.due(109.9, 0.0) == []
    assert [end.group for end in watch.due(110.0, 0.0)] == [API]
