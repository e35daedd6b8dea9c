"""The simulated network: what a stream does, and how it fails."""

from __future__ import annotations

import asyncio
from random import Random

from pydrm.testing.simulation.host import SimHost
from pydrm.testing.simulation.network import SimNetwork
from pydrm.testing.simulation.scheduler import Scheduler


class Ear(asyncio.Protocol):
    def __init__(self) -> None:
        self.heard: list[tuple[float, bytes]] = []
        self.over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.heard.append((SCHEDULER.now, data))

    def connection_lost(self, exc: Exception | None) -> None:
        self.over = True

    @property
    def text(self) -> bytes:
        return b"".join(data for _, data in self.heard)


SCHEDULER: Scheduler


def connected(seed: int = 1) -> tuple[SimNetwork, SimHost, SimHost, asyncio.Transport, Ear]:
    """Hosts a and b, a stream between them, a's end of it, and who listens at b's."""
    global SCHEDULER
    SCHEDULER = Scheduler()
    network = SimNetwork(SCHEDULER, Random(seed))
    a, b = (SimHost(name, SCHEDULER, network, Random(seed)) for name in "ab")
    network.give_address("a", "127.0.1.1")
    network.give_address("b", "127.0.1.2")
    ears: list[Ear] = []

    def listen() -> Ear:
        ears.append(Ear())
        return ears[-1]

    network.listen(b, b.app, listen, "127.0.1.2", 1)
    dialled = []

    async def dial() -> None:
        dialled.append(await network.connect(a, a.app, asyncio.Protocol, "127.0.1.2", 1))

    a.app.call_soon(lambda: a.app.create_task(dial()))
    SCHEDULER.run_until(1.0)
    (transport, _), (ear,) = *dialled, ears
    return network, a, b, transport, ear


def test_everything_arrives_in_order_whatever_the_pieces():
    _, _, _, transport, ear = connected()
    said = [b"%d " % number for number in range(1000)]

    for words in said:
        transport.write(words)
    SCHEDULER.run_until(2.0)

    assert ear.text == b"".join(said)
    pieces = {data for _, data in ear.heard}
    assert pieces - set(said), "nothing arrived in two pieces"


def test_what_was_held_back_arrives_in_one_burst():
    """As TCP sends it again when the way is free."""
    network, _, _, transport, ear = connected()

    network.cut("a", "b")
    for number in range(9):
        transport.write(b"%d" % number)
    SCHEDULER.run_until(3.0)
    assert ear.heard == []
    network.heal("a", "b")
    SCHEDULER.run_until(4.0)

    assert ear.text == b"012345678"
    assert len(ear.heard) <= 2
    assert ear.heard[0][0] - 3.0 < 0.01


def test_what_was_held_back_arrives_although_its_sender_has_closed_the_stream():
    """By then it may talk on another stream; that is how an old message comes after a newer one."""
    network, _, _, transport, ear = connected()

    network.cut("a", "b")
    transport.write(b"old news")
    transport.close()
    SCHEDULER.run_until(3.0)
    assert not ear.over
    network.heal("a", "b")
    SCHEDULER.run_until(4.0)

    assert ear.text == b"old news"
    assert ear.over


def test_what_was_held_back_is_lost_if_its_sender_aborts_the_stream():
    network, _, _, transport, ear = connected()

    network.cut("a", "b")
    transport.write(b"never mind")
    transport.abort()
    network.heal("a", "b")
    SCHEDULER.run_until(3.0)

    assert ear.text == b""
    assert ear.over


def test_a_killed_process_leaves_its_last_words_to_its_kernel_and_a_dark_host_says_nothing():
    for power, text in ((False, b"farewell"), (True, b"")):
        network, a, _, transport, ear = connected()

        network.cut("a", "b")
        transport.write(b"farewell")
        a.kill(power=power)
        network.heal("a", "b")
        SCHEDULER.run_until(3.0)

        assert ear.text == text
        assert ear.over is not power


def test_a_host_that_is_busy_twice_is_busy_until_the_later_end():
    _, a, _, _, _ = connected()
    ran: list[float] = []

    a.block_app(5.0)
    a.block_app(1.0)
    a.app.call_soon(lambda: ran.append(SCHEDULER.now))
    SCHEDULER.run_until(10.0)

    assert 6.0 <= ran[0] < 6.1
