"""
What happens to a resource that one node, or every node, cannot open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pydrm.agent.hold import Hold
from pydrm.agent.quarantine import QuarantineWatch
from pydrm.core.changes import Defined, Undefined
from pydrm.core.commands import EndQuarantine
from pydrm.core.handle_commands import GiveUp
from pydrm.core.records import Condition, Definition, Parked, ParkedCause, Phase, Record
from pydrm.errors import ConfigurationError, Elsewhere, Temporary
from tests.agent.stage import Actor, Company, play, until


def no_route() -> Exception:
    return OSError("no route")


def refusing(actor: Actor, error: Callable[[], Exception] = no_route) -> Actor:
    async def refuse(hold: Hold) -> None:
        raise error()

    actor.script = refuse
    return actor


def given_up(company: Company) -> list[GiveUp]:
    return [command for command in company.commands if isinstance(command, GiveUp)]


def test_what_one_node_fails_to_open_another_opens() -> None:
    """After so many failures, whatever the load says."""

    async def scene() -> None:
        company = Company()
        a = company.add_node("a", refusing(Actor()), give_up_after=3)
        company.add("r")
        await until(lambda: a.actor.runs["r"] >= 1)
        company.add_node("b")
        await until(lambda: company.is_open("r", by="b"))

        assert a.actor.runs["r"] >= 3

    play(scene)


def test_who_says_that_it_cannot_is_given_up_at_its_first_try() -> None:
    """A node may lack what another one has."""

    async def scene() -> None:
        company = Company()
        a = company.add_node("a", refusing(Actor(), lambda: Elsewhere("no card in this machine")), give_up_after=10)
        company.add("r")
        await until(lambda: a.actor.runs["r"] >= 1)
        company.add_node("b")
        await until(lambda: company.is_open("r", by="b"))

        assert a.actor.runs["r"] <= 2

    play(scene)


def test_what_no_node_can_open_is_quarantined_with_the_last_reason() -> None:
    """And nobody has a handle for it."""

    async def scene() -> None:
        company = Company()
        actors = [refusing(Actor()) for _ in "abc"]
        for name, actor in zip("abc", actors, strict=True):
            company.add_node(name, actor, give_up_after=2, quarantine_s=7)
        company.add("r")
        await until(lambda: company.assignment("r").phase is Phase.PARKED)

        parked = company.state.records["r"].parked
        assert parked is not None
        assert (parked.cause, parked.duration_ms) == (ParkedCause.QUARANTINED, 7000)
        assert "no route" in parked.reason
        assert all(actor.runs["r"] >= 2 for actor in actors)

    play(scene)


def test_after_a_quarantine_a_single_failure_is_enough() -> None:
    """A third party that is away is asked once in a while, by one node."""

    async def scene() -> None:
        company = Company()
        a = company.add_node("a", refusing(Actor()), give_up_after=5)
        company.add("r")
        await until(lambda: company.assignment("r").phase is Phase.PARKED)
        runs = a.actor.runs["r"]
        company.do(EndQuarantine("r", company.state.quarantined["r"]))
        await until(lambda: a.actor.runs["r"] > runs)
        await until(lambda: company.assignment("r").phase is Phase.PARKED)

        assert a.actor.runs["r"] == runs + 1

    play(scene)


def test_what_stays_open_is_forgiven() -> None:
    """It is reported once it has been open for five seconds, and only where somebody had given it up."""

    async def scene() -> None:
        company = Company()
        company.add_node("a", refusing(Actor()), give_up_after=1)
        company.add("r")
        company.add_node("b")
        await until(lambda: company.is_open("r", by="b"))
        assert company.assignment("r").failed
        reports = len(company.reports())

        await until(lambda: not company.assignment("r").failed)
        assert len(company.reports()) == reports + 1

    play(scene)


def test_what_was_open_and_is_not_any_more_is_not_forgiven() -> None:
    """Though the handler goes on trying, in one and the same run."""

    async def scene() -> None:
        company = Company()
        company.add_node("a", refusing(Actor()), give_up_after=1)
        company.add("r")
        b = company.add_node("b")

        async def open_for_a_moment(hold: Hold) -> None:
            hold.ready()
            await asyncio.sleep(1)
            hold.retrying("lost")
            await asyncio.Event().wait()

        b.actor.script = open_for_a_moment
        await until(lambda: company.is_open("r", by="b"))
        await asyncio.sleep(20)

        assert company.assignment("r").failed
        assert company.claim("r").detail == "lost"

    play(scene)


def test_a_handler_that_says_when_to_try_again_is_not_given_up() -> None:
    """Another node would only ask a third party too early that wants to be left alone."""

    async def scene() -> None:
        company = Company()
        a = company.add_node("a", refusing(Actor(), lambda: Temporary("too many requests", delay=2.0)), give_up_after=2)
        company.add_node("b")
        company.add("r")
        await until(lambda: a.actor.runs["r"] >= 6)

        assert given_up(company) == []
        assert company.condition("r") is Condition.RETRYING
        assert company.claim("r").next_try_ms > 0

    play(scene)


def test_a_resource_can_say_how_patient_to_be() -> None:
    """0 is for ever."""

    async def scene() -> None:
        company = Company()
        a = company.add_node("a", refusing(Actor()), give_up_after=2)
        company.add("patient", give_up_after=0)
        company.add("hasty", give_up_after=1)
        await until(lambda: a.actor.runs["patient"] >= 6)

        assert "hasty" in company.state.quarantined
        assert company.assignment("patient").phase is Phase.HELD

    play(scene)


def test_a_kind_that_cannot_be_had_here_shows_why_and_stops_nothing_else() -> None:
    """An installed package may be broken on one node only."""

    async def scene() -> None:
        company = Company()
        company.add_node("a", find=broken)
        company.add("r", kind="broken")
        company.add("s")
        await until(lambda: company.is_open("s") and company.assignment("r").phase is Phase.PARKED)

        parked = company.state.records["r"].parked
        assert parked is not None and parked.reason == "kind: it cannot be loaded"

    def broken(name: str) -> None:
        raise ConfigurationError("it cannot be loaded", field="kind")

    play(scene)


# --- when a quarantine ends ------------------------------------------------------------------------------------------


def quarantined(number: int, duration_ms: int = 60_000, resource: str = "r") -> Defined:
    parked = Parked(ParkedCause.QUARANTINED, "refused", number, duration_ms)
    return Defined(Record(Definition(resource, "actor", b""), revision=1, parked=parked))


def test_the_leader_ends_a_quarantine_when_its_time_is_up_here() -> None:
    """Counted from when this node applied it, and proposed again until it is so."""
    watch = QuarantineWatch()
    watch.note(quarantined(7), now=100.0)

    assert watch.due(159.9, leads_since=0.0) == []
    assert watch.due(160.0, leads_since=None) == []
    assert watch.due(160.0, leads_since=0.0) == [EndQuarantine("r", 7)]
    assert watch.due(160.1, leads_since=0.0) == []
    assert watch.due(161.0, leads_since=0.0) == [EndQuarantine("r", 7)]


def test_a_later_quarantine_has_a_time_of_its_own() -> None:
    """And one that is over, or whose resource is gone, none."""
    watch = QuarantineWatch()
    watch.note(quarantined(7), now=100.0)
    watch.note(quarantined(8), now=150.0)
    assert watch.due(200.0, leads_since=0.0) == []
    watch.note(quarantined(8), now=205.0)
    assert watch.due(211.0, leads_since=0.0) == [EndQuarantine("r", 8)]

    watch.note(Undefined("r"), now=212.0)
    assert watch.due(300.0, leads_since=0.0) == []


def test_many_quarantines_are_ended_some_at_a_time_the_oldest_first() -> None:
    """Each is another resource that is opened; none is said twice before the first time could have come to anything."""
    watch = QuarantineWatch()
    for number in range(250):
        watch.note(quarantined(number, resource=f"r{number}"), now=100.0 + number / 1000)

    ends = [watch.due(200.0 + tick / 100, leads_since=0.0) for tick in range(4)]

    assert [len(some) for some in ends] == [100, 100, 50, 0]
    assert [end.number for some in ends for end in some] == list(range(250))
