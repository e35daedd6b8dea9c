"""Claims and results on their way into the log: said together, and again until they are answered."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest
from msgspec.structs import replace

from pydrm.agent.backoff import Backoff
from pydrm.agent.deliveries import Deliveries
from pydrm.agent.ledger_watch import LedgerWatch
from pydrm.clock import SystemClock
from pydrm.core.answers import Answer
from pydrm.core.commands import AddResources, Command, Request
from pydrm.core.events import Delivery
from pydrm.core.ledger_changes import DeliveryChanged
from pydrm.core.ledger_commands import ClaimDeliveries, Publish, SettleDeliveries, Verdict
from pydrm.core.machine import apply
from pydrm.core.state import State
from pydrm.errors import DiskFailed, Fenced, Unavailable
from tests.core.build import Cluster, cluster, define


class House:
    """
    A state machine that answers at once, unless it is told otherwise; node a holds "hook", for which there are events.

    Attributes:
        said: Every command, answered or not.
        fails: What becomes of the next ones, each before or after it takes effect.
    """

    def __init__(self, events: int = 1) -> None:
        self.core: Cluster = cluster("a", checked=False)
        self.core.apply(AddResources((replace(define("hook"), topics=("a",)),)))
        for number in range(events):
            self.core.do(Publish(f"e{number}", "a", b"{}", "", known=True))
        self.said: list[Command] = []
        self.fails: list[tuple[bool, Exception]] = []
        self.incarnation = 1
        self.watch = LedgerWatch()
        self.deliveries = Deliveries(
            "a",
            lambda: self.incarnation,
            self,
            self.watch,
            clock=SystemClock(),
            backoff=lambda: Backoff(random.Random(1), base_s=0.001, cap_s=0.002),
        )

    @property
    def state(self) -> State:
        return self.core.state

    async def propose(self, command: Command, *, timeout: float) -> Answer:
        self.said.append(command)
        await asyncio.sleep(0.001)
        applied, error = self.fails.pop(0) if self.fails else (True, None)
        outcome = apply(self.state, Request(command)) if applied else None
        if error is not None:
            raise error
        assert outcome is not None
        return outcome.answer


def play(house: House, scene: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        task = asyncio.create_task(house.deliveries.run())
        try:
            async with asyncio.timeout(5):
                await scene()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


def test_a_desk_is_given_what_is_there_and_then_what_is_news():
    """Nothing falls between the two."""
    house = House(events=2)

    async def scene() -> None:
        desk = house.deliveries.desk("hook", house.core.token("hook"))
        first = desk.take()
        assert first == sorted(house.state.ledger.events)
        house.watch.note(DeliveryChanged(Delivery("hook", 99)), now=0.0)
        house.deliveries.told(house.watch.news())
        assert desk.news.is_set()
        assert (desk.take(), desk.take()) == ([99], [])

        desk.close()
        desk.close()
        assert house.watch.watched == {}

    play(house, scene)


def test_claims_go_into_the_log_together():
    """However many ask at once."""
    house = House(events=50)

    async def scene() -> None:
        desk = house.deliveries.desk("hook", house.core.token("hook"))
        granted = await asyncio.gather(*(desk.claim(event, 1, once=False) for event in desk.take()))
        assert granted == [True] * 50

    play(house, scene)
    assert len(house.said) <= 2


@pytest.mark.parametrize("applied", [False, True], ids=["it came to nothing", "it took effect"])
def test_what_is_not_answered_is_said_again(applied: bool):
    """A claim that took effect unheard is still this holder's: nothing was sent for it."""
    house = House()
    house.fails = [(applied, Unavailable("who knows"))] * 2

    async def scene() -> None:
        desk = house.deliveries.desk("hook", house.core.token("hook"))
        [event] = desk.take()
        assert await desk.claim(event, 1, once=True)
        house.fails = [(applied, Unavailable("who knows"))]
        await desk.settle(event, 1, Verdict.DELIVERED)
        assert house.state.ledger.deliveries() == []

    play(house, scene)
    assert [type(command) for command in house.said] == [ClaimDeliveries] * 3 + [SettleDeliveries] * 2


def test_a_claim_under_a_token_that_is_over_is_not_granted():
    """Whatever the answer said."""
    house = House()

    async def scene() -> None:
        desk = house.deliveries.desk("hook", house.core.token("hook") - 1)
        assert not await desk.claim(desk.take()[0], 1, once=False)

    play(house, scene)


def test_a_new_incarnation_knows_nothing_of_what_the_old_one_asked():
    """Whoever waits is told that it is over."""
    house = House()
    house.fails = [(False, Unavailable("who knows"))] * 1000

    async def scene() -> None:
        desk = house.deliveries.desk("hook", house.core.token("hook"))
        claim = asyncio.create_task(desk.claim(desk.take()[0], 1, once=False))
        await asyncio.sleep(0.01)
        house.deliveries.clear()
        with pytest.raises(Fenced):
            await claim

    play(house, scene)


def test_who_cannot_say_anything_any_more_says_why():
    """The node stops."""
    house = House()
    house.fails = [(False, DiskFailed("it is broken"))]

    async def scene() -> None:
        desk = house.deliveries.desk("hook", house.core.token("hook"))
        with pytest.raises(DiskFailed):
            await desk.claim(desk.take()[0], 1, once=False)

    play(house, scene)


def test_an_incarnation_that_was_ended_is_refused():
    """Its claims are for its successor."""
    house = House()
    house.core.expire("a")

    async def scene() -> None:
        desk = house.deliveries.desk("hook", 1)
        with pytest.raises(Fenced, match="was refused"):
            await desk.settle(desk.take()[0], 1, Verdict.DELIVERED)

    play(house, scene)


def test_who_does_not_wait_any_more_has_nothing_said():
    """A claim that nobody would act on would be left open: with `at_most_once` nobody could tell what became of it."""

    house = House()

    async def scene() -> None:
        desk = house.deliveries.desk("hook", house.core.token("hook"))
        claim = asyncio.create_task(desk.claim(desk.take()[0], 1, once=True))
        await asyncio.sleep(0)
        claim.cancel()
        await asyncio.wait({claim})
        # What goes into the log only now is what somebody waits for.
        run = asyncio.create_task(house.deliveries.run())
        await asyncio.sleep(0.02)
        run.cancel()
        await asyncio.wait({run})

    asyncio.run(scene())
    assert house.said == []
