"""
One word for all that is due on a node, on its way into the log and to the next holder.
"""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from pydrm.agent.hold import Hold
from pydrm.agent.waiters import TOLD_AT_ONCE
from pydrm.core.handle_commands import RaiseWatermark
from pydrm.engine.codec import encode_checkpoint
from pydrm.errors import Fenced, InvalidResource
from tests.agent.stage import Actor, Company, NodeOnStage, play, refusing, until
from tests.core.build import numbered


class Acting:
    """
    Handlers that have saved where they begin, and act when the test says.

    Attributes:
        holds: The newest hold of each resource.
        given: What each was given as the watermark, by resource.
    """

    def __init__(self, actor: Actor) -> None:
        self.holds: dict[str, Hold] = {}
        self.given: dict[str, list[float]] = {}
        self.parting: object = None
        self.closes_in_s = 0.0
        self._actor = actor
        actor.script = self

    async def __call__(self, hold: Hold) -> None:
        self.holds[hold.resource.id] = hold
        self.given.setdefault(hold.resource.id, []).append(hold.last_watermark)
        await hold.checkpoint("begun")
        try:
            await self._actor.keep(hold)
        finally:
            if self.parting is not None:
                hold.note_checkpoint(self.parting)
            await asyncio.sleep(self.closes_in_s)


def acting(company: Company, name: str, **options: float) -> tuple[NodeOnStage, Acting]:
    actor = Actor()
    return company.add_node(name, actor, **options), Acting(actor)


def raised(company: Company) -> list[float]:
    return [command.until_us / 1e6 for command in company.commands if isinstance(command, RaiseWatermark)]


def test_it_is_in_the_log_when_the_handler_goes_on() -> None:
    async def scene() -> None:
        company = Company()
        node, handlers = acting(company, "a")
        company.add("r")
        await until(lambda: company.is_open("r"))

        await handlers.holds["r"].raise_watermark(987.5)

        [watermark] = company.state.watermarks.values()
        assert (watermark.by, watermark.until_us) == (("a", node.agent.incarnation), 987_500_000)

    play(scene)


def test_one_record_is_enough_for_all_that_wait_for_one_another() -> None:
    """Until the one who has the least patience has none left; it says the latest of their times."""

    async def scene() -> None:
        company = Company()
        _, handlers = acting(company, "a")
        ids = numbered(100)
        company.add(*ids)
        await until(lambda: company.is_open(*ids))
        loop = asyncio.get_running_loop()

        began_s = loop.time()
        async with asyncio.TaskGroup() as tasks:
            for number, id in enumerate(ids):
                tasks.create_task(handlers.holds[id].raise_watermark(500.0 + number, patience=0.4 + number))
                await asyncio.sleep(0.001)

        assert raised(company) == [599.0]
        assert 0.4 <= loop.time() - began_s < 0.5

    play(scene)


def test_what_is_due_by_then_already_need_not_wait() -> None:
    async def scene() -> None:
        company = Company()
        _, handlers = acting(company, "a")
        company.add("r", "s")
        await until(lambda: company.is_open("r", "s"))
        await handlers.holds["r"].raise_watermark(500.0)

        async with asyncio.timeout(0.001):
            await handlers.holds["s"].raise_watermark(499.0, patience=60)

        assert raised(company) == [500.0]

    play(scene)


def test_those_who_waited_together_go_on_a_few_at_a_time() -> None:
    """As with checkpoints, and for the same reason."""

    async def scene() -> None:
        company = Company()
        _, handlers = acting(company, "a")
        ids = numbered(3 * TOLD_AT_ONCE)
        company.add(*ids)
        await until(lambda: company.is_open(*ids))
        under_way = most = 0

        async def act(id: str) -> None:
            nonlocal under_way, most
            await handlers.holds[id].raise_watermark(500.0)
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0)
            under_way -= 1

        await asyncio.gather(*(act(id) for id in ids))

        assert len(raised(company)) == 1
        assert most == TOLD_AT_ONCE

    play(scene)


def test_the_next_holder_is_given_that_of_a_node_that_died() -> None:
    async def scene() -> None:
        company = Company()
        a, at_a = acting(company, "a")
        company.add("r")
        await until(lambda: company.is_open("r"))
        await at_a.holds["r"].raise_watermark(500.0)
        _, at_b = acting(company, "b")
        a.expire()
        await until(lambda: company.is_open("r", by="b"))

        assert (at_a.given["r"], at_b.given["r"]) == ([0.0], [500.0])

    play(scene)


def test_who_lets_go_in_good_order_says_itself_where_it_is() -> None:
    """What it notes in the end is all there is to know."""

    async def scene() -> None:
        company = Company()
        _, at_a = acting(company, "a")
        company.add("r")
        await until(lambda: company.is_open("r"))
        await at_a.holds["r"].raise_watermark(500.0)
        at_a.parting = "here"
        _, at_b = acting(company, "b")
        company.drain("a")
        await until(lambda: company.is_open("r", by="b"))

        assert at_b.given["r"] == [0.0]

    play(scene)


def test_what_others_say_while_it_closes_counts_no_more() -> None:
    """Its last word was saved long before it was gone."""

    async def scene() -> None:
        company = Company()
        _, at_a = acting(company, "a", checkpoint_interval_s=0.1)
        company.add("r", "s")
        await until(lambda: company.is_open("r", "s"))
        at_a.parting = "here"
        at_a.closes_in_s = 1.5
        _, at_b = acting(company, "b")
        company.drain("a")
        await asyncio.sleep(0.5)
        assert company.state.checkpoints["r", 0].value == encode_checkpoint("here")
        await at_a.holds["s"].raise_watermark(500.0)
        await until(lambda: company.is_open("r", "s", by="b"))

        assert at_b.given == {"r": [0.0], "s": [0.0]}

    play(scene)


def test_whoever_lets_go_without_a_word_leaves_that_of_its_node() -> None:
    """It may have something that is not saved, which is of before it acted."""

    async def scene() -> None:
        company = Company()
        a, at_a = acting(company, "a", checkpoint_interval_s=3600)
        company.add("r")
        await until(lambda: company.is_open("r"))
        at_a.holds["r"].note_checkpoint("of before")
        await at_a.holds["r"].raise_watermark(500.0)
        a.lose_lease()
        await until(lambda: a.agent.handle_count == 0)
        _, at_b = acting(company, "b")
        company.drain("a")
        a.regain_lease()
        await until(lambda: company.is_open("r", by="b"))

        assert at_b.holds["r"].last_checkpoint == "begun"
        assert at_b.given["r"] == [500.0]

    play(scene)


def test_with_overlap_the_next_holder_is_given_that_of_the_one_that_still_works() -> None:
    async def scene() -> None:
        company = Company()
        _, at_a = acting(company, "a")
        company.add("r", overlap=True)
        await until(lambda: company.is_open("r"))
        await at_a.holds["r"].raise_watermark(500.0)
        _, at_b = acting(company, "b")
        company.drain("a")
        await until(lambda: company.is_open("r", by="b"))

        assert at_b.given["r"] == [500.0]

    play(scene)


def test_a_handler_that_is_run_again_is_given_its_own_nodes() -> None:
    """Its lease was over for a moment, so it could not say where it was."""

    async def scene() -> None:
        company = Company()
        a, handlers = acting(company, "a")
        company.add("r")
        await until(lambda: company.is_open("r"))
        await handlers.holds["r"].raise_watermark(500.0)
        a.lose_lease()
        await until(lambda: a.agent.handle_count == 0)
        a.regain_lease()
        await until(lambda: len(handlers.given["r"]) == 2)

        assert handlers.given["r"] == [0.0, 500.0]

    play(scene)


def test_without_a_majority_it_waits_and_is_said_again() -> None:
    async def scene() -> None:
        company = Company()
        a, handlers = acting(company, "a")
        company.add("r")
        await until(lambda: company.is_open("r"))
        a.reachable = False
        waiting = asyncio.create_task(handlers.holds["r"].raise_watermark(500.0))
        await asyncio.sleep(10)
        assert not waiting.done()

        a.reachable = True
        await waiting
        assert raised(company) == [500.0]

    play(scene)


def test_who_waits_hears_of_a_new_incarnation_whose_word_does_not_count_for_it() -> None:
    """Neither does what the former one had said count for the new one."""

    async def scene() -> None:
        company = Company()
        a, handlers = acting(company, "a")
        company.add("r", "s")
        await until(lambda: company.is_open("r", "s"))
        await handlers.holds["s"].raise_watermark(600.0)
        a.reachable = False
        hold = handlers.holds["r"]
        under_way = asyncio.create_task(hold.raise_watermark(700.0))
        await asyncio.sleep(1)
        gathered = asyncio.create_task(hold.raise_watermark(800.0))
        await asyncio.sleep(1)
        a.expire()
        a.join()
        for task in (under_way, gathered):
            with pytest.raises(Fenced):
                await task
        a.reachable = True
        await until(lambda: company.is_open("r", "s"))

        await handlers.holds["r"].raise_watermark(550.0)

        assert raised(company) == [600.0, 550.0]

    play(scene)


def test_a_new_incarnation_says_what_it_has_to_although_the_former_one_waited_for_others() -> None:
    """Nobody is left who waited, and the next one has more patience than was left of theirs."""

    async def scene() -> None:
        company = Company()
        a, handlers = acting(company, "a")
        company.add("r")
        await until(lambda: company.is_open("r"))
        waiting = asyncio.create_task(handlers.holds["r"].raise_watermark(700.0, patience=5))
        await asyncio.sleep(1)
        a.expire()
        a.join()
        with pytest.raises(Fenced):
            await waiting
        await until(lambda: company.is_open("r"))

        async with asyncio.timeout(11):
            await handlers.holds["r"].raise_watermark(700.0, patience=10)

        assert raised(company) == [700.0]

    play(scene)


def test_who_is_not_the_holder_any_more_may_not_act_however_far_its_node_has_come() -> None:
    async def scene() -> None:
        company = Company()
        a, handlers = acting(company, "a")
        company.add("r")
        await until(lambda: company.is_open("r"))
        hold = handlers.holds["r"]
        await hold.raise_watermark(500.0)
        a.lose_lease()

        with pytest.raises(Fenced):
            await hold.raise_watermark(400.0)

    play(scene)


@pytest.mark.parametrize("ahead_s", [11.0, 1e6, 1e30, float("inf"), float("nan")])
def test_a_time_that_lies_ahead_is_refused_before_anything_is_said(ahead_s: float) -> None:
    """Milliseconds, say: it would be for all that the node holds, for years."""

    async def scene() -> None:
        company = Company()
        _, handlers = acting(company, "a")
        company.add("r")
        await until(lambda: company.is_open("r"))

        with pytest.raises(InvalidResource, match=r"until.*due now, in seconds since the epoch"):
            await handlers.holds["r"].raise_watermark(asyncio.get_running_loop().time() + ahead_s)
        assert raised(company) == []

    play(scene)


def test_one_that_is_refused_lets_nobody_act_and_does_not_keep_later_ones_from_it() -> None:
    async def scene() -> None:
        company = Company()
        _, handlers = acting(company, "a")
        company.add("r")
        await until(lambda: company.is_open("r"))

        company.refuse = refusing(RaiseWatermark)
        with pytest.raises(Fenced):
            await handlers.holds["r"].raise_watermark(500.0)
        company.refuse = lambda command: False
        await handlers.holds["r"].raise_watermark(501.0)

        assert raised(company) == [501.0]

    play(scene)


def test_who_gives_up_waiting_keeps_nobody_else_from_it() -> None:
    """And if nobody is left, nothing is said."""

    async def scene() -> None:
        company = Company()
        _, handlers = acting(company, "a")
        company.add("r", "s")
        await until(lambda: company.is_open("r", "s"))
        for ids in (["r", "s"], ["r"]):
            tasks = [asyncio.create_task(handlers.holds[id].raise_watermark(500.0, patience=0.1)) for id in ids]
            await asyncio.sleep(0.05)
            tasks[0].cancel()
            for task in tasks:
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            await asyncio.sleep(1)

        assert raised(company) == [500.0]

    play(scene)
