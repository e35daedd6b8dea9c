"""
Checkpoints on their way from a handler to the next holder.
"""

from __future__ import annotations

import asyncio

import pytest

from pydrm.agent.checkpoints import GATHERED_MIN
from pydrm.agent.hold import Hold
from pydrm.agent.waiters import TOLD_AT_ONCE
from pydrm.core.handle_commands import SaveCheckpoints
from pydrm.core.records import CHECKPOINT_BYTES_MAX
from pydrm.engine.codec import decode_checkpoint
from pydrm.errors import Fenced, InvalidResource
from tests.agent.stage import Actor, Company, NodeOnStage, play, refusing, until
from tests.core.build import numbered


def saved(company: Company, id: str) -> object:
    checkpoint = company.state.checkpoints.get((id, 0))
    return decode_checkpoint(checkpoint.value) if checkpoint is not None else None


def saves(company: Company) -> list[SaveCheckpoints]:
    return [command for command in company.commands if isinstance(command, SaveCheckpoints)]


class Counting:
    """
    Handlers that go on counting where the one before stopped.

    Attributes:
        holds: The newest hold of each resource.
        began_at: What each handler was given, by resource.
    """

    def __init__(self, actor: Actor) -> None:
        self.holds: dict[str, Hold] = {}
        self.began_at: dict[str, list[object]] = {}
        self.parting: object = None
        self._actor = actor
        actor.script = self

    async def __call__(self, hold: Hold) -> None:
        self.holds[hold.resource.id] = hold
        self.began_at.setdefault(hold.resource.id, []).append(hold.last_checkpoint)
        try:
            await self._actor.keep(hold)
        finally:
            if self.parting is not None:
                hold.note_checkpoint(self.parting)


def counting(company: Company, name: str, **options: float) -> tuple[NodeOnStage, Counting]:
    actor = Actor()
    return company.add_node(name, actor, **options), Counting(actor)


def test_a_checkpoint_is_in_the_log_when_the_handler_goes_on() -> None:
    """And the handler sees it as its last one."""

    async def scene() -> None:
        company = Company()
        _, handlers = counting(company, "a")
        company.add("r")
        await until(lambda: company.is_open("r"))

        await handlers.holds["r"].checkpoint({"position": 42, "raw": b"x"})

        assert saved(company, "r") == {"position": 42, "raw": b"x"}
        assert handlers.holds["r"].last_checkpoint == {"position": 42, "raw": b"x"}

    play(scene)


def test_the_next_holder_begins_where_the_last_one_stopped() -> None:
    """Whether it died, or took leave; then with what it noted last, whatever the interval."""

    async def scene() -> None:
        company = Company()
        _, at_a = counting(company, "a", checkpoint_interval_s=3600)
        company.add("r")
        await until(lambda: company.is_open("r"))
        await at_a.holds["r"].checkpoint(1)
        at_a.parting = 2
        b, at_b = counting(company, "b", checkpoint_interval_s=3600)
        company.drain("a")
        await until(lambda: company.is_open("r", by="b"))
        assert at_b.began_at["r"] == [2]

        await at_b.holds["r"].checkpoint(3)
        counting(company, "c")
        b.expire()
        await until(lambda: company.is_open("r", by="c"))
        assert saved(company, "r") == 3

    play(scene)


def test_one_resources_checkpoints_are_saved_once_in_an_interval_and_the_newest_counts() -> None:
    """A thousand notes in ten seconds are ten entries or so, not a thousand."""

    async def scene() -> None:
        company = Company()
        _, handlers = counting(company, "a", checkpoint_interval_s=1.0)
        company.add("r")
        await until(lambda: company.is_open("r"))

        for number in range(1000):
            handlers.holds["r"].note_checkpoint(number)
            await asyncio.sleep(0.01)
        await handlers.holds["r"].checkpoint("end")

        assert saved(company, "r") == "end"
        assert 8 <= len(saves(company)) <= 13

    play(scene)


def test_many_resources_checkpoints_go_together() -> None:
    """A hundred handlers that note at once are one command."""

    async def scene() -> None:
        company = Company()
        _, handlers = counting(company, "a")
        ids = [f"r{number}" for number in range(100)]
        company.add(*ids)
        await until(lambda: company.is_open(*ids))

        await asyncio.gather(*(handlers.holds[id].checkpoint(id) for id in ids))

        assert len(saves(company)) == 1
        assert [saved(company, id) for id in ids] == ids

    play(scene)


def test_who_has_patience_waits_for_others_and_all_go_together() -> None:
    """Those that are noted meanwhile without any are what ends it."""

    async def scene() -> None:
        company = Company()
        _, handlers = counting(company, "a")
        ids = [f"r{number}" for number in range(20)]
        company.add(*ids)
        await until(lambda: company.is_open(*ids))

        async def one_after_the_other() -> None:
            async with asyncio.TaskGroup() as tasks:
                for id in ids:
                    tasks.create_task(handlers.holds[id].checkpoint(id, patience=10))
                    await asyncio.sleep(0.02)
                assert saves(company) == []
                await handlers.holds["r0"].checkpoint("at once")

        async with asyncio.timeout(1):
            await one_after_the_other()

        assert len(saves(company)) == 1
        assert [saved(company, id) for id in ids] == ["at once", *ids[1:]]

    play(scene)


def test_patience_ends_when_it_is_over_or_there_are_enough() -> None:
    async def scene() -> None:
        company = Company()
        _, handlers = counting(company, "a")
        ids = [f"r{number}" for number in range(GATHERED_MIN)]
        company.add(*ids)
        await until(lambda: company.is_open(*ids))
        loop = asyncio.get_running_loop()

        began_s = loop.time()
        await asyncio.gather(*(handlers.holds[id].checkpoint(id, patience=0.5) for id in ids[1:]))
        assert 0.5 <= loop.time() - began_s < 0.6
        await asyncio.sleep(2)

        began_s = loop.time()
        await asyncio.gather(*(handlers.holds[id].checkpoint(id, patience=0.5) for id in ids))
        assert loop.time() - began_s < 0.1

    play(scene)


def test_those_that_were_saved_together_go_on_a_few_at_a_time() -> None:
    """Else a node with many pollers would send a whole entry's requests at the same instant."""

    async def scene() -> None:
        company = Company()
        _, handlers = counting(company, "a")
        ids = [f"r{number}" for number in range(3 * TOLD_AT_ONCE)]
        company.add(*ids)
        await until(lambda: company.is_open(*ids))
        under_way = most = 0

        async def save_and_ask(id: str) -> None:
            nonlocal under_way, most
            await handlers.holds[id].checkpoint(id)
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0)
            under_way -= 1

        await asyncio.gather(*(save_and_ask(id) for id in ids))

        assert len(saves(company)) == 1
        assert most == TOLD_AT_ONCE

    play(scene)


def test_one_that_has_to_wait_for_its_interval_holds_up_no_other() -> None:
    async def scene() -> None:
        company = Company()
        _, handlers = counting(company, "a", checkpoint_interval_s=3600)
        company.add("often", "seldom")
        await until(lambda: company.is_open("often", "seldom"))
        await handlers.holds["often"].checkpoint(1)
        handlers.holds["often"].note_checkpoint(2)
        await asyncio.sleep(1)

        async with asyncio.timeout(1):
            await handlers.holds["seldom"].checkpoint(1)

        assert saved(company, "often") == 1

    play(scene)


def test_whoever_gives_up_waiting_leaves_the_others_waiting_and_it_is_saved_all_the_same() -> None:
    async def scene() -> None:
        company = Company()
        _, handlers = counting(company, "a")
        company.add("r")
        await until(lambda: company.is_open("r"))
        waiters = [asyncio.create_task(handlers.holds["r"].checkpoint(number, patience=0.5)) for number in (1, 2)]
        await asyncio.sleep(0)
        waiters[1].cancel()

        await waiters[0]
        assert saved(company, "r") == 2

    play(scene)


def test_who_waits_for_a_checkpoint_under_a_token_that_is_over_is_told() -> None:
    """Its successor may have gone on from an older one."""

    async def scene() -> None:
        company = Company()
        _, handlers = counting(company, "a", checkpoint_interval_s=0.0)
        company.add("r")
        await until(lambda: company.is_open("r"))
        counting(company, "b")
        company.force("r")

        with pytest.raises(Fenced):
            await handlers.holds["r"].checkpoint("late")
        assert saved(company, "r") is None

    play(scene)


def test_a_checkpoint_that_was_not_answered_is_saved_again() -> None:
    """Whoever waits for it waits on, also when a newer one took its place meanwhile."""

    async def scene() -> None:
        company = Company()
        a, handlers = counting(company, "a", checkpoint_interval_s=0.0)
        company.add("r")
        await until(lambda: company.is_open("r"))
        a.reachable = False
        first = asyncio.create_task(handlers.holds["r"].checkpoint(1))
        await asyncio.sleep(1.0)
        second = asyncio.create_task(handlers.holds["r"].checkpoint(2))
        await asyncio.sleep(1.0)
        assert not first.done()

        a.reachable = True
        async with asyncio.timeout(10):
            await asyncio.gather(first, second)
        assert saved(company, "r") == 2

    play(scene)


def test_a_node_that_stops_saves_what_its_handlers_noted() -> None:
    """Also when nobody can take over."""

    async def scene() -> None:
        company = Company()
        a, handlers = counting(company, "a", checkpoint_interval_s=3600)
        company.add("r")
        await until(lambda: company.is_open("r"))
        await handlers.holds["r"].checkpoint(1)
        handlers.parting = 2

        await a.agent.close()
        assert saved(company, "r") == 2

    play(scene)


def test_what_cannot_be_a_checkpoint_is_refused_before_anything_is_saved() -> None:
    """With what is wrong with it."""

    async def scene() -> None:
        company = Company()
        _, handlers = counting(company, "a")
        company.add("r")
        await until(lambda: company.is_open("r"))
        hold = handlers.holds["r"]

        with pytest.raises(InvalidResource, match="4097 bytes, more than 4096"):
            hold.note_checkpoint(bytes(CHECKPOINT_BYTES_MAX - 2))
        with pytest.raises(InvalidResource, match="JSON values or bytes"):
            await hold.checkpoint(object())
        assert hold.last_checkpoint is None
        assert saves(company) == []

    play(scene)


def test_large_checkpoints_go_in_as_many_commands_as_the_engine_takes() -> None:
    """Those that are saved while the handlers run, and those that travel with the releases."""

    async def scene() -> None:
        company = Company()
        _, handlers = counting(company, "a", close_concurrency=300, checkpoint_interval_s=3600)
        names = numbered(300)
        company.add(*names)
        await until(lambda: company.is_open(*names))

        large = "x" * (CHECKPOINT_BYTES_MAX - 3)
        await asyncio.gather(*(handlers.holds[name].checkpoint(large) for name in names))
        assert all(saved(company, name) == large for name in names)

        handlers.parting = large
        company.remove(*names)
        await until(lambda: not company.state.records)

    play(scene)


def test_what_cannot_be_proposed_does_not_keep_later_checkpoints_from_being_saved(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Only an error that says that the node stops ends the saving."""

    async def scene() -> None:
        company = Company()
        _, handlers = counting(company, "a", checkpoint_interval_s=0.01)
        company.add("r")
        await until(lambda: company.is_open("r"))

        company.refuse = refusing(SaveCheckpoints)
        with pytest.raises(Fenced):
            await handlers.holds["r"].checkpoint(1)
        company.refuse = lambda command: False
        await handlers.holds["r"].checkpoint(2)

        assert saved(company, "r") == 2

    play(scene)
    assert "SaveCheckpoints cannot be proposed; please report it: says the test" in caplog.text
