"""One hold of a source, against the real state machine without a cluster around it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydrm import Resource
from pydrm.agent.kind import Kinds
from pydrm.clock import SystemClock
from pydrm.core.answers import Answer
from pydrm.core.commands import AddResources, Command
from pydrm.core.records import Condition, Definition
from pydrm.core.resource import Json
from pydrm.core.state import State
from pydrm.engine import definition_of
from pydrm.engine.codec import resource_of
from pydrm.errors import Unavailable
from pydrm.intake import Intake
from pydrm.sources.fetching import Api, Fetched, Fetcher, FetchFailed
from pydrm.sources.fields import Fields
from pydrm.sources.http import HttpOrigin
from pydrm.sources.kind import SourceKind
from pydrm.sources.options import Options
from pydrm.testing.held import Held, until
from tests.core.build import Cluster, cluster
from tests.sources.build import entry, play


class Idle:
    def validate(self, resource: Resource) -> None: ...

    async def run(self, hold: object) -> None: ...


class Reach:
    """
    The cluster as a source sees it.

    Attributes:
        proposed: What came through.
        down: Whether no majority answers.
        down_after: After how many more proposals none will; None: whenever `down` is set.
    """

    def __init__(self, house: Cluster) -> None:
        self._house = house
        self.proposed: list[Command] = []
        self.down = False
        self.down_after: int | None = None

    @property
    def state(self) -> State:
        return self._house.state

    async def propose(self, command: Command, *, timeout: float) -> Answer:
        await asyncio.sleep(0)
        if self.down:
            raise Unavailable("no majority answered")
        self.proposed.append(command)
        if self.down_after is not None:
            self.down_after -= 1
            self.down = self.down_after == 0
        return self._house.do(command)


class Scripted:
    """An origin, and its own fetcher: each fetch is what is said next; the last is repeated."""

    def __init__(self, *answers: Sequence[Any] | Exception) -> None:
        self.answers = [*answers]
        self.fetched = 0

    def check(self, resource: Resource) -> Options:
        return Options.read(resource, Fields(resource), poll_s=0.01)

    def fetcher(self, hold: object) -> Fetcher:
        return self

    async def open(self, api: Api) -> None: ...

    async def fetch(self, known: Mapping[str, Json]) -> Fetched:
        self.fetched += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return Fetched(answer)

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def close(self) -> None: ...


class Versioned(Scripted):
    """One whose lists are validated by what is in them."""

    async def fetch(self, known: Mapping[str, Json]) -> Fetched | None:  # type: ignore[override]
        list = (await super().fetch(known)).entries
        version = repr(list)
        return None if known.get("version") == version else Fetched(list, {"version": version})


def feed(**fields: Any) -> Resource:
    return Resource("feed", kind="source.x", **fields)


def fed(*answers: Sequence[Any] | Exception, **fields: Any) -> tuple[Cluster, Reach, Scripted, Held]:
    """A source that node a holds, in a cluster of two; on the loop that runs."""
    house = cluster("a", "b", checked=False)
    resource = feed(**fields)
    house.do(AddResources((definition_of(resource),)))
    reach, script = Reach(house), Scripted(*answers)
    return house, reach, script, Held(kind(script, reach), resource, token=house.token("feed"))


def kind(origin: Any, reach: Reach) -> SourceKind:
    kinds = Kinds()
    kinds.register("idle", Idle())
    return SourceKind(origin, Intake(kinds), lambda: reach, clock=SystemClock(), random=random.Random(7))


def there(house: Cluster) -> list[str]:
    return sorted(house.state.brought.owned_by("feed"))


def under_management(house: Cluster, id: str) -> dict[str, Any]:
    return resource_of(house.state.records[id].definition).to_dict()


def entries(*ids: str) -> list[dict[str, Any]]:
    return [entry(id) for id in ids]


def definitions(commands: Sequence[Command]) -> Iterator[Definition]:
    for command in commands:
        if isinstance(command, AddResources):
            yield from command.definitions


def test_it_is_open_once_the_cluster_agrees_and_says_so_once() -> None:
    """Not anew with each fetch: how long it has been open is what a failure is judged by."""

    async def scene() -> None:
        house, _, script, held = fed(entries("r1", "r2"))
        await held.until_open()
        assert there(house) == ["r1", "r2"]
        await until(lambda: script.fetched > 5)

        assert held.told == [(Condition.OPEN, "")]
        await held.release()

    play(scene)


def test_nothing_is_proposed_when_nothing_changed() -> None:
    async def scene() -> None:
        _, reach, script, held = fed(entries("r1", "r2"))
        await held.until_open()
        await until(lambda: script.fetched > 5)

        assert len(reach.proposed) == 1
        await held.release()

    play(scene)


def test_a_long_list_goes_in_parts_of_five_hundred() -> None:
    async def scene() -> None:
        _, reach, _, held = fed(entries(*(f"r{number}" for number in range(1200))))
        await held.until_open()

        sizes = [len(command.definitions) for command in reach.proposed if isinstance(command, AddResources)]
        assert sizes == [500, 500, 200]
        assert len({*definitions(reach.proposed)}) == 1200
        await held.release()

    play(scene)


def test_a_holder_that_was_overtaken_writes_nothing() -> None:
    """It does not know yet that the source is another's: the cluster does."""

    async def scene() -> None:
        house, _, script, held = fed(entries("r1"), entries("r1"), entries("r1", "r2"))
        await held.until_open()
        house.force("feed")
        assert house.token("feed") > held.hold.token

        await until(lambda: script.fetched >= 3)
        await asyncio.sleep(0.05)

        assert there(house) == ["r1"]
        await held.release()

    play(scene)


def test_while_no_majority_answers_it_tries_again() -> None:
    async def scene() -> None:
        house, reach, _, held = fed(entries("r1"))
        reach.down = True
        await until(lambda: held.conditions == [Condition.RETRYING])
        assert held.told[0][1] == "is fetched, and not written so far: no majority answered"

        reach.down = False
        await held.until_open()
        assert there(house) == ["r1"]
        await held.release()

    play(scene)


def test_the_first_fetch_is_tried_again_and_when_max_retry_is_over_the_agent_hears_of_a_failure() -> None:
    """Who then may ask another node."""

    async def scene() -> None:
        _, _, script, held = fed(FetchFailed("it is away"), max_retry=0.2)
        await until(lambda: held.told[-1:] == [(Condition.RETRYING, "cannot be fetched: it is away")])
        await until(lambda: script.fetched > 3)

        script.answers = [entries("r1")]
        await held.until_open()
        await held.release()

    play(scene)


def test_a_fetch_that_hangs_is_cut_when_the_lease_ends() -> None:
    """Its socket is shut down; nothing of it is left, and nothing was written."""

    async def scene() -> None:
        gone = asyncio.Event()

        async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await reader.read(1000):
                pass
            gone.set()
            writer.close()

        async with await asyncio.start_server(hang, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            house = cluster("a", checked=False)
            resource = Resource("feed", kind="source.http", url=f"http://127.0.0.1:{port}/")
            house.do(AddResources((definition_of(resource),)))
            reach = Reach(house)
            held = Held(kind(HttpOrigin(SystemClock()), reach), resource, token=house.token("feed"))
            await until(lambda: any(held.fence._handles.values()))
            await asyncio.sleep(0.05)

            await held.end_lease()

            await asyncio.wait_for(gone.wait(), 5)
            assert (held.task.done(), reach.proposed) == (True, [])

    play(scene)


def test_who_is_told_when_to_come_back_is_not_asked_earlier_because_max_retry_is_over() -> None:
    """The agent hears of a failure, and also for how long nobody is to try again."""

    async def scene() -> None:
        _, _, script, held = fed(FetchFailed("it is busy", delay_s=600), max_retry=0)
        await until(lambda: held.conditions == [Condition.RETRYING])
        await asyncio.sleep(0.2)

        assert script.fetched == 1
        assert held.handle.next_try_ms > 0
        await held.release()

    play(scene)


def test_a_list_that_was_written_in_part_and_then_taken_back_is_written_again() -> None:
    """The other end says that the list is the one from before; but the cluster has some of the one between."""

    async def scene() -> None:
        house = cluster("a", "b", checked=False)
        resource = feed()
        house.do(AddResources((definition_of(resource),)))
        before = [entry("r1"), entry("r2"), entry("r3")]
        reach, script = Reach(house), Versioned(before)
        held = Held(kind(script, reach), resource, token=house.token("feed"))
        await held.until_open()

        reach.down_after = 1
        script.answers = [[entry("r1", color="red"), entry("r3")]]
        await until(lambda: reach.down)
        assert there(house) == ["r1", "r2", "r3"]
        assert under_management(house, "r1") == entry("r1", color="red")
        fetched = script.fetched
        script.answers = [before]
        await until(lambda: script.fetched > fetched)
        reach.down = False
        await until(lambda: held.told[-1] == (Condition.OPEN, ""))

        assert under_management(house, "r1") == entry("r1")
        await held.release()

    play(scene)
