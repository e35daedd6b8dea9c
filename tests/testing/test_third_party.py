"""The third party against real websocket clients."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Awaitable, Callable

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from pydrm.testing.diary import Diary, What
from pydrm.testing.third_party import ThirdParty


def run(scene: Callable[[ThirdParty], Awaitable[None]]) -> None:
    async def play() -> None:
        async with ThirdParty() as third_party:
            await scene(third_party)

    asyncio.run(play())


async def join(third_party: ThirdParty, resource: str, node: str = "a", token: int = 1) -> ClientConnection:
    url = third_party.url.format(id=resource, node=node, token=token)
    return await connect(url, compression=None, proxy=None, ping_interval=None)


def raw_client(third_party: ThirdParty) -> socket.socket:
    return socket.create_connection(("127.0.0.1", third_party.port))


def request(resource: str, node: str, token: int) -> bytes:
    return (
        f"GET /r/{resource}?node={node}&token={token} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


async def until(condition: Callable[[], bool], timeout_s: float = 5) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.001)


def whats(diary: Diary, resource: str) -> list[tuple[str, int, bool]]:
    return [(stay.node, stay.token, stay.lasts) for stay in diary.stays() if stay.resource == resource]


def test_a_connection_is_in_the_diary_before_its_client_knows_of_it() -> None:
    async def scene(third_party: ThirdParty) -> None:
        before_s = time.monotonic()

        await join(third_party, "r1", node="a", token=17)

        [stay] = third_party.diary.stays()
        assert (stay.resource, stay.node, stay.token, stay.lasts) == ("r1", "a", 17, True)
        assert before_s <= stay.from_s <= time.monotonic()

    run(scene)


def test_a_closing_handshake_ends_the_stay() -> None:
    async def scene(third_party: ThirdParty) -> None:
        client = await join(third_party, "r1")

        await client.close()

        await until(lambda: whats(third_party.diary, "r1") == [("a", 1, False)])

    run(scene)


def test_a_connection_cut_without_a_handshake_ends_the_stay_at_once() -> None:
    async def scene(third_party: ThirdParty) -> None:
        client = await join(third_party, "r1")

        client.transport.abort()

        await until(lambda: whats(third_party.diary, "r1") == [("a", 1, False)])

    run(scene)


def test_a_client_that_began_to_close_is_there_until_its_own_side_is_closed() -> None:
    """A closing frame is a wish: whoever sent it still has the connection."""

    async def scene(third_party: ThirdParty) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", third_party.port)
        writer.write(request("r1", "a", 1))
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\x88\x80\x00\x00\x00\x00")  # a masked, empty closing frame

        answer = await reader.read()  # the server's closing frame, and the end of its side

        assert answer == b"\x88\x00"
        assert whats(third_party.diary, "r1") == [("a", 1, True)]
        writer.close()
        await until(lambda: whats(third_party.diary, "r1") == [("a", 1, False)])

    run(scene)


@pytest.mark.parametrize("reset", [True, False])
def test_one_that_left_before_the_next_came_is_never_seen_beside_it(reset: bool) -> None:
    """Also when the loop learns of both in one go, and of a reset a round later than of a request."""

    async def scene(third_party: ThirdParty) -> None:
        for number in range(50):
            resource = f"r{number}"
            old = await asyncio.to_thread(raw_client, third_party)
            old.sendall(request(resource, "a", 1))
            await until(lambda: whats(third_party.diary, resource) == [("a", 1, True)])  # noqa: B023 (awaited here)
            new = await asyncio.to_thread(raw_client, third_party)
            await asyncio.sleep(0.002)  # until it is accepted

            if reset:
                old.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            old.close()
            new.sendall(request(resource, "b", 2))

            await until(lambda: whats(third_party.diary, resource) == [("a", 1, False), ("b", 2, True)])  # noqa: B023
            new.close()

        assert third_party.diary.overlaps() == []
        assert third_party.diary.tokens_out_of_order() == []

    run(scene)


def test_messages_are_written_down_also_when_they_come_in_fragments() -> None:
    async def scene(third_party: ThirdParty) -> None:
        client = await join(third_party, "r1")

        await client.send("subscribe")
        await client.send(["in ", "two parts"])

        await until(lambda: len(third_party.diary.messages("r1")) == 2)
        assert [event.text for event in third_party.diary.messages("r1")] == ["subscribe", "in two parts"]

    run(scene)


def test_send_reaches_whoever_is_connected_for_the_resource() -> None:
    async def scene(third_party: ThirdParty) -> None:
        client = await join(third_party, "r1")
        await join(third_party, "r2")

        count = third_party.send("r1", "news")

        assert count == 1
        assert await client.recv() == "news"
        assert third_party.send("r3", "news") == 0

    run(scene)


def test_drop_cuts_the_connections_of_one_resource() -> None:
    async def scene(third_party: ThirdParty) -> None:
        client = await join(third_party, "r1")
        await join(third_party, "r2")

        assert third_party.drop("r1") == 1

        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert set(third_party.diary.held()) == {"r2"}

    run(scene)


def test_a_resource_may_be_percent_encoded() -> None:
    async def scene(third_party: ThirdParty) -> None:
        await join(third_party, "a%2Fb%20c%C3%BC")

        assert list(third_party.diary.held()) == ["a/b cü"]

    run(scene)


@pytest.mark.parametrize("target", ["/", "/r/", "/other?node=a", "/r/r1?node=a&token=many"])
def test_any_other_request_is_refused_and_is_not_in_the_diary(target: str) -> None:
    async def scene(third_party: ThirdParty) -> None:
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"ws://127.0.0.1:{third_party.port}{target}", proxy=None)

        assert refused.value.response.status_code == 404
        assert third_party.diary.stays() == []

    run(scene)


def test_whoever_speaks_no_http_is_not_in_the_diary() -> None:
    async def scene(third_party: ThirdParty) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", third_party.port)

        writer.write(b"\x00" * 100 + b"\r\n\r\n")

        await reader.read()
        writer.close()
        assert third_party.diary.stays() == []
        await join(third_party, "r1")  # and the server lives

    run(scene)


def test_many_connections_at_once_are_each_there_once() -> None:
    async def scene(third_party: ThirdParty) -> None:
        await asyncio.gather(*(join(third_party, f"r{number}", token=number) for number in range(300)))

        assert third_party.diary.settled([f"r{number}" for number in range(300)], ["a"], 0) < time.monotonic()

    run(scene)


def test_the_listener_hears_every_event_in_order() -> None:
    async def scene() -> list[What]:
        heard: list[What] = []
        async with ThirdParty(listener=lambda event: heard.append(event.what)) as third_party:
            client = await join(third_party, "r1")
            await client.send("x")
            await client.close()
            await until(lambda: len(heard) == 3)
        return heard

    assert asyncio.run(scene()) == [What.CONNECTED, What.MESSAGE, What.DISCONNECTED]
