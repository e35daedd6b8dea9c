"""POSTs over HTTP: what is connected to, and what is known of a request that failed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from pydrm.handlers.webhook.address_guard import Network, network_of
from pydrm.handlers.webhook.http_poster import HttpPoster
from pydrm.handlers.webhook.poster import Lost, NotSent, Post
from tests.handlers.webhook.receiver import Received, Receiver

LOOPBACK = (network_of("127.0.0.0/8"), network_of("::1"))
HOLD: Any = SimpleNamespace(valid=True, token=7)


def talk(scene: Callable[[HttpPoster, Receiver], Awaitable[None]]) -> None:
    async def play() -> None:
        async with Receiver() as receiver, asyncio.timeout(20):
            poster = HttpPoster()
            try:
                await scene(poster, receiver)
            finally:
                await poster.close()

    asyncio.run(play())


def post_to(url: str, allowed: tuple[Network, ...] = LOOPBACK, *, timeout_s: float = 5.0, fresh: bool = False) -> Post:
    return Post(url, {"webhook-id": "e1"}, b"{}", timeout_s, allowed, fresh)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::ffff:127.0.0.1]", "localhost"]
)
def test_nothing_leads_to_an_address_that_is_not_public(host: str):
    """However it is written: what counts is what would be connected to."""

    async def scene(poster: HttpPoster, receiver: Receiver) -> None:
        with pytest.raises(NotSent):
            await poster.post(HOLD, post_to(receiver.url.replace("127.0.0.1", host), ()))
        assert receiver.received == []

    talk(scene)


def test_one_address_that_is_not_public_is_enough_to_refuse_a_name(monkeypatch: pytest.MonkeyPatch):
    """Or which of them is connected to would be a matter of luck."""

    async def both(*arguments: Any, **keywords: Any) -> list[Any]:
        return [(2, 1, 6, "", ("93.184.215.14", 80)), (2, 1, 6, "", ("10.0.0.1", 80))]

    async def scene(poster: HttpPoster, receiver: Receiver) -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", both, raising=False)
        with pytest.raises(NotSent, match=r"10\.0\.0\.1 is not a public address"):
            await poster.post(HOLD, post_to("http://receiver.example/"))

    talk(scene)


def test_a_redirect_is_an_answer_like_any_other():
    """Where it points is not asked."""

    async def scene(poster: HttpPoster, receiver: Receiver) -> None:
        receiver.answer = lambda received: web.Response(status=302, headers={"Location": receiver.url})
        assert (await poster.post(HOLD, post_to(receiver.url))).status == 302
        assert len(receiver.received) == 1

    talk(scene)


def test_a_request_that_was_not_answered_is_lost_and_one_that_never_left_is_not_sent():
    """With at most once, that is what decides."""

    async def scene(poster: HttpPoster, receiver: Receiver) -> None:
        async def hang(received: Received) -> web.Response:
            await asyncio.sleep(60)
            return web.Response()

        receiver.answer = hang
        with pytest.raises(Lost, match=r"no answer within 0\.2 s"):
            await poster.post(HOLD, post_to(receiver.url, timeout_s=0.2))
        with pytest.raises(NotSent):
            await poster.post(HOLD, post_to("http://127.0.0.1:1/"))
        with pytest.raises(NotSent):
            await poster.post(SimpleNamespace(valid=False, token=7), post_to(receiver.url))  # type: ignore[arg-type]
        assert len(receiver.received) == 1

    talk(scene)


def test_connections_are_kept_unless_a_fresh_one_is_wanted():
    """One that was idle can be gone without anybody having heard of it."""

    async def scene(poster: HttpPoster, receiver: Receiver) -> None:
        for fresh, connections in ((False, 1), (True, 3)):
            before = len(set(receiver.ports))
            for _ in range(3):
                await poster.post(HOLD, post_to(receiver.url, fresh=fresh))
            assert len(set(receiver.ports)) - before == connections

    talk(scene)
