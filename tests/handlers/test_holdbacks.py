"""Who is told by a third party to wait has everybody wait who talks to it, and asks before each request."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from pydrm import Resource, ResourceManager
from pydrm.clock import SystemClock
from pydrm.core.records import Condition
from pydrm.engine.codec import decode_checkpoint
from pydrm.handlers.callbacks import Callbacks
from pydrm.handlers.http_poll import poller as poller_module
from pydrm.handlers.http_poll.kind import HttpPoll
from pydrm.handlers.http_poll.schedule import next_due_s
from pydrm.handlers.websocket.kind import Websocket
from pydrm.testing.held import Held, until
from tests.handlers.http_server import Site, says, site


def play(scene: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scene())


class Budget:
    """
    Attributes:
        asked: How often somebody wanted to send something.
        said: For how long to hold back, each time.
        open: Whether anybody may send.
        limits: Whether anybody has to ask.
    """

    limits = True

    def __init__(self) -> None:
        self.asked = 0
        self.said: list[float] = []
        self.open = asyncio.Event()
        self.open.set()

    async def may_request(self) -> None:
        self.asked += 1
        await self.open.wait()

    @property
    def held_back(self) -> bool:
        return not self.open.is_set()

    def hold_back(self, seconds: float, reason: str) -> None:
        self.said.append(seconds)


def poller(chance: float = 0.5) -> HttpPoll:
    class Dice:
        def random(self) -> float:
            return chance

    return HttpPoll(Callbacks(), clock=SystemClock(), random=Dice())


def polled(at: Site, id: str = "r1", **fields: object) -> Resource:
    return Resource(id, kind="http_poll", url=at.url, **{"interval": 0.05, **fields})


def test_a_429_that_a_poller_gets_holds_its_group_back() -> None:
    async def scene() -> None:
        async with site() as at:
            at.answer = says(b"no", 429, Retry_After="30")
            budget = Budget()
            held = Held(poller(), polled(at), budget=budget)
            await until(lambda: held.handle.condition is Condition.RETRYING)
            await held.release()

            assert budget.said == [30.0]

    play(scene)


def test_an_ordinary_failure_holds_nobody_back() -> None:
    async def scene() -> None:
        async with site() as at:
            at.answer = says(b"no", 500)
            budget = Budget()
            held = Held(poller(), polled(at), budget=budget)
            await until(lambda: held.handle.condition is Condition.RETRYING)
            await held.release()

            assert budget.said == []

    play(scene)


def test_a_poller_asks_before_each_request() -> None:
    async def scene() -> None:
        async with site() as at:
            budget = Budget()
            budget.open.clear()
            held = Held(poller(), polled(at), budget=budget)
            await until(lambda: budget.asked == 1)
            assert at.asked == []

            budget.open.set()
            await until(lambda: len(at.asked) >= 3)
            assert budget.asked >= len(at.asked)
            await held.release()

    play(scene)


def test_a_poller_that_is_held_back_while_it_saves_its_next_due_time_does_not_send() -> None:
    """And takes that back: it polls when it may, and whoever goes on does."""

    async def scene() -> None:
        async with site() as at:
            budget = Budget()
            held = Held(poller(), polled(at, interval=60), budget=budget, saves=False)
            await until(lambda: held.waiter is not None)
            claimed = held.checkpoint
            budget.open.clear()
            held.save()
            await until(lambda: budget.asked == 2)
            assert at.asked == []
            assert held.checkpoint != claimed

            budget.open.set()
            await held.until_open()
            await held.release()

            assert len(at.asked) == 1

    play(scene)


def test_a_poller_that_may_have_to_wait_for_its_budget_does_not_go_by_the_watermark(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Others would say meanwhile how far its node has come, and if that dies, whoever goes on would leave it out."""
    monkeypatch.setattr(poller_module, "CLAIMED_FROM_S", 0.3)
    monkeypatch.setattr(poller_module, "LATE_PART", 0.8)

    async def scene() -> None:
        async with site() as at:
            budget = Budget()
            budget.limits = False
            held = Held(poller(), polled(at, interval=0.5), budget=budget)
            await until(lambda: len(held.raised) == 1)
            budget.limits = True
            budget.open.clear()
            await until(lambda: budget.asked == 1)
            waiting = decode_checkpoint(held.checkpoint)
            assert not waiting.get("interval_s")
            assert waiting["due_s"] == next_due_s("r1", 0.5, held.raised[0])

            budget.open.set()
            asked = len(at.asked)
            await until(lambda: len(at.asked) == asked + 2)
            assert len(held.raised) == 1
            await held.release()

    play(scene)


@pytest.mark.usefixtures("each_transport")
def test_a_429_that_a_websocket_gets_holds_its_group_back() -> None:
    def refuse(connection: ServerConnection, request: Request) -> Response:
        response = connection.respond(HTTPStatus.TOO_MANY_REQUESTS, "")
        response.headers["Retry-After"] = "30"
        return response

    async def scene() -> None:
        async with serve(lambda connection: connection.wait_closed(), "127.0.0.1", 0, process_request=refuse) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            budget = Budget()
            kind = Websocket(Callbacks(), clock=SystemClock(), random=random.Random(7))
            held = Held(kind, Resource("r1", kind="websocket", url=url), budget=budget)
            await until(lambda: held.handle.condition is Condition.RETRYING)
            await held.release()

            assert [30 <= seconds <= 33 for seconds in budget.said] == [True]

    play(scene)


@pytest.mark.parametrize("apart", [False, True])
def test_one_resource_that_is_told_to_wait_makes_those_of_its_host_wait_and_no_others(apart: bool) -> None:
    """Through the whole node: 429 for the first, and the second, of the same host, is not asked either."""

    async def scene() -> None:
        async with site() as at:
            drm = ResourceManager(cluster="orders", node="a")
            async with drm:
                at.answer = says(b"no", 429, Retry_After="10")
                await drm.add(polled(at, "first"))
                await until(lambda: len(at.asked) == 1)
                await until(lambda: any(row["held_back"] for row in drm.budgets.list()))
                at.answer = says(b"yes")
                await drm.add(polled(at, "second", **({"budget": "another"} if apart else {})))
                await asyncio.sleep(0.5)

                assert (len(at.asked) > 1) is apart

    play(scene)
