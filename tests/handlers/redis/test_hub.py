"""The connection that subscriptions share, when it is lost and when it says what cannot be understood."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from pydrm.core.resource import Resource
from pydrm.handlers.fields import Fields
from pydrm.handlers.redis.address import RedisAddress
from pydrm.handlers.redis.hub import RedisHub
from pydrm.handlers.redis.subscription import Subscription
from pydrm.handlers.redis.trouble import Lost
from tests.counterparts import redis_server


class HandClock:
    """Stands still until it is set forward; then whoever sleeps wakes up."""

    def __init__(self) -> None:
        self._now = 0.0
        self._passes = asyncio.Event()

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        await self._passes.wait()

    def pass_by(self, seconds: float) -> None:
        self._now += seconds
        self._passes.set()
        self._passes = asyncio.Event()


def hub(port: int, clock: HandClock) -> RedisHub:
    resource = Resource("r1", kind="redis_pubsub", url=f"redis://127.0.0.1:{port}")
    address = RedisAddress.of(Fields(resource, node="a", token=1))
    return RedisHub(address, clock=clock, random=random.Random(7))


def news() -> Subscription:
    return Subscription((("SUBSCRIBE", b"news"),), 10)


def test_what_was_asked_of_a_lost_connection_is_not_expected_of_the_next_one(tmp_path: Path) -> None:
    """Its time to be asked whether it is there comes between the two; the next one's answers are its own."""

    async def scene() -> None:
        with redis_server(tmp_path) as server:
            clock = HandClock()
            subject, before, after = hub(server.port, clock), news(), news()
            await subject.subscribe(before)
            await asyncio.to_thread(server.kill)
            with pytest.raises(Lost):
                await before.next()

            clock.pass_by(10)
            await asyncio.sleep(0)
            await asyncio.to_thread(server.start)
            await subject.subscribe(after)

            await subject.leave(after, politely=True)
            await subject.close()

    asyncio.run(scene())


@pytest.mark.parametrize("garbage", [b"*1\r\n$7\r\nmessage\r\n", b":x\r\n", b"*1\r\n" * 5000, b"\xff\xfe\r\n"])
def test_a_server_that_says_what_cannot_be_understood_is_lost_at_once(garbage: bytes) -> None:
    """Otherwise it would show as open, and nobody would listen."""

    async def scene() -> None:
        async def confirm_and_rave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            said = b""
            while b"SUBSCRIBE" not in said:
                said += await reader.read(1000)
                # What a client says of itself when it connects.
                writer.write(b"+OK\r\n" * said.count(b"SETINFO"))
            writer.write(b"*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n" + garbage)
            await reader.read()
            writer.close()

        async with await asyncio.start_server(confirm_and_rave, "127.0.0.1", 0) as server:
            subject, subscription = hub(server.sockets[0].getsockname()[1], HandClock()), news()
            await subject.subscribe(subscription)

            with pytest.raises(Lost):
                await asyncio.wait_for(subscription.next(), 5)
            await subject.close()

    asyncio.run(scene())
