"""
Whoever can reach a node's port and has no certificate: a cluster of three that goes on as if nobody were there.

Each attack is made on all three nodes while requests are committed one after the other. Afterwards the leader must be
the same in the same term, no link may have been lost, and something must have been committed meanwhile. A machine that
is busy with other things can cost a leader its place as well, so an attack counts as repelled if it is once in a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest

from pydrm.core.answers import Done
from pydrm.engine import Engine, EngineConfig, Security, SystemHost
from pydrm.engine.frames import (
    Frame,
    Refusal,
    RequestVote,
    encode_frame,
)
from pydrm.errors import DrmError
from pydrm.testing.ports import Ports
from tests.certificates import Certificates
from tests.engine.loops import on_a_loop, until
from tests.engine.strangers import Addresses, hello
from tests.engine.test_engine import Member, add

PATIENCE_S = 30.0
# The node's own deadline is 2 s; the machine may be slow.
CLOSED_WITHIN_S = 15.0
STRANGERS_MAX = 64
TRIES = 3

CLIENT_HELLO = b"\x16\x03\x01"
Attack = Callable[[str, Certificates], Awaitable[None]]


class Cluster:
    """
    Three engines.

    Attributes:
        committed: How many requests were committed so far.
    """

    def __init__(self, addresses: Addresses, directory: Path, certificates: Certificates | None) -> None:
        self.committed = 0
        self.failures: list[DrmError] = []
        self.addresses = addresses
        self.engines: dict[str, Engine] = {}
        for name in "abc":
            security = certificates.security(name) if certificates else Security()
            config = EngineConfig(
                cluster="orders",
                node=name,
                bind=addresses[name],
                advertise=addresses[name],
                voters={voter: addresses[voter] for voter in "abc"},
                data_dir=directory / name,
                nonce=f"nonce-{name}",
                security=security,
            )
            self.engines[name] = Engine(config, Member(name), host=SystemHost(), on_failure=self.failures.append)

    def look(self) -> dict[str, object]:
        """What no attack may change."""
        return {
            name: (engine.status().leader, engine.status().term, sorted(engine.status().linked))
            for name, engine in self.engines.items()
        }

    def settled(self) -> bool:
        seen = [engine.status() for engine in self.engines.values()]
        return len({(status.leader, status.term) for status in seen}) == 1 and all(
            status.has_majority and len(status.linked) == 2 for status in seen
        )

    def strangers(self) -> int:
        """How many are there at most, at one of them."""
        return max(len(engine._replica._transport._strangers) for engine in self.engines.values())

    async def commit_on_and_on(self) -> None:
        for number in count():
            answer = await self.engines["abc"[number % 3]].propose(add(f"r{number}"), timeout=PATIENCE_S)
            assert answer == Done(created=1)
            self.committed += 1


@asynccontextmanager
async def cluster(addresses: Addresses, directory: Path, certificates: Certificates | None) -> AsyncIterator[Cluster]:
    made = Cluster(addresses, directory, certificates)
    committing = None
    try:
        for engine in made.engines.values():
            await engine.start()
        committing = asyncio.create_task(made.commit_on_and_on())
        await until(lambda: made.settled() and made.committed > 10)
        yield made
        assert made.failures == []
    finally:
        if committing is not None:
            committing.cancel()
            await asyncio.wait({committing})
        for engine in made.engines.values():
            await engine.stop()
    assert committing.cancelled(), "no request may have failed"


@pytest.fixture
def addresses() -> Iterator[Addresses]:
    with Ports() as ports:
        yield Addresses(ports)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    made = Certificates(tmp_path_factory.mktemp("certificates"))
    made.make("z")
    foreign = Certificates(tmp_path_factory.mktemp("foreign"))
    made.put("foreign", foreign.make("b"))
    return made


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, _, port = address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def closed(reader: asyncio.StreamReader) -> bytes:
    """Return what comes until the node has closed the connection."""
    heard = b""
    async with asyncio.timeout(CLOSED_WITHIN_S):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                heard += data
    assert len(heard) < 32 * 1024, "a stranger is not told much"
    return heard


def frame(of: Frame) -> bytes:
    data = encode_frame(of)
    return len(data).to_bytes(4, "little") + data


def says(data: bytes) -> Attack:
    """Say this, and see the connection closed."""

    async def attack(address: str, certificates: Certificates) -> None:
        async with connected(address) as (reader, writer):
            writer.write(data)
            await closed(reader)

    return attack


async def stays_silent(address: str, certificates: Certificates) -> None:
    async with connected(address) as (reader, _):
        await closed(reader)


async def says_a_hello_byte_by_byte(address: str, certificates: Certificates) -> None:
    """As slowly as may be; each byte is progress."""
    await byte_by_byte(address, frame(hello("b")))


async def says_a_client_hello_byte_by_byte(address: str, certificates: Certificates) -> None:
    await byte_by_byte(address, client_hello())


async def byte_by_byte(address: str, data: bytes) -> None:
    async with connected(address) as (reader, writer):
        closing = asyncio.ensure_future(closed(reader))
        for byte in data:
            writer.write(bytes([byte]))
            await asyncio.wait({closing}, timeout=0.05)
            if closing.done():
                break
        await closing


def client_hello() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = open_context().wrap_bio(incoming, outgoing)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def open_context() -> ssl.SSLContext:
    """One that trusts anybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def never_ends_its_tls_handshake(address: str, certificates: Certificates) -> None:
    """It lets the node do its part, and says nothing more."""
    async with connected(address) as (reader, writer):
        writer.write(client_hello())
        await closed(reader)


async def ends_its_half(address: str, certificates: Certificates) -> None:
    """Nothing more will come, but the connection is there."""
    async with connected(address) as (reader, writer):
        writer.write(frame(hello("b"))[:20])
        writer.write_eof()
        await closed(reader)


async def never_reads(address: str, certificates: Certificates) -> None:
    async with connected(address) as (reader, writer):
        writer.transport.pause_reading()
        writer.write(client_hello())
        await asyncio.sleep(3.0)
        writer.transport.resume_reading()
        await closed(reader)


async def shows_no_certificate(address: str, certificates: Certificates) -> None:
    await over_tls(address, open_context())


async def shows_a_foreign_certificate(address: str, certificates: Certificates) -> None:
    context = open_context()
    context.load_cert_chain(certificates.files("foreign").cert, certificates.files("foreign").key)
    await over_tls(address, context)


async def over_tls(address: str, context: ssl.SSLContext) -> None:
    """Say a Hello, and ask for votes in a high term."""
    host, _, port = address.partition(":")
    with contextlib.suppress(OSError):  # the node may hang up in the midst of the handshake
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
        writer.write(frame(hello("b")) + frame(RequestVote(1000, 10**6, 999)))
        await closed(reader)
        writer.transport.abort()


async def is_of_the_ca_and_not_of_the_cluster(address: str, certificates: Certificates) -> None:
    """A node that was taken out, say. It hears why, and nothing else."""
    context = open_context()
    context.load_cert_chain(certificates.files("z").cert, certificates.files("z").key)
    await over_tls(address, context)


async def comes_and_goes(address: str, certificates: Certificates) -> None:
    """And resets each connection, so that the node finds it gone when it wants to greet."""
    host, _, port = address.partition(":")
    for _ in range(200):
        with socket.create_connection((host, int(port))) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.send(b"\x16")
        await asyncio.sleep(0)


async def comes_in_a_crowd(address: str, certificates: Certificates) -> None:
    """More than may be there at once; each says half of something."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(150):
            _, writer = await stack.enter_async_context(connected(address))
            writer.write(CLIENT_HELLO)
        await asyncio.sleep(1.0)


async def claims_to_be_a_voter(address: str, certificates: Certificates) -> None:
    """In plain: it has the name, and not the data directory."""
    async with connected(address) as (reader, writer):
        for name in "abc":
            writer.write(frame(hello(name, cluster_id="orders-1")) + frame(RequestVote(1000, 10**6, 999)))
        await closed(reader)


NESTED = b"\x91" * 10_000
ATTACKS: list[Attack] = [
    says(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    says(b"\xff\xff\xff\xff" * 100),
    says(len(NESTED).to_bytes(4, "little") + NESTED),
    says((16 * 1024 + 1).to_bytes(4, "little") + bytes(100_000)),
    says(frame(RequestVote(1000, 10**6, 999))),
    says(frame(hello("x" * 10_000))),
    says(frame(Refusal("no")) * 500),
    says(CLIENT_HELLO + b"\x40\x00" + b"\x01\x01\x00\x00" + bytes(16_000) + CLIENT_HELLO * 10_000),
    says(CLIENT_HELLO + b"\x00\x00" + (CLIENT_HELLO + b"\x00\x00") * 1000),
    says(b"\x15\x03\x03\x00\x02\x02\x2d" * 100),
    stays_silent,
    says_a_hello_byte_by_byte,
    says_a_client_hello_byte_by_byte,
    never_ends_its_tls_handshake,
    ends_its_half,
    never_reads,
    shows_no_certificate,
    shows_a_foreign_certificate,
    is_of_the_ca_and_not_of_the_cluster,
    claims_to_be_a_voter,
    comes_and_goes,
    comes_in_a_crowd,
]


@pytest.mark.parametrize("secured", [True, False], ids=["with TLS", "in plain"])
@on_a_loop
async def test_no_attack_has_any_effect_on_a_cluster(
    addresses: Addresses, tmp_path: Path, certificates: Certificates, secured: bool
):
    """One kind after the other, and then all of them at once."""
    async with cluster(addresses, tmp_path, certificates if secured else None) as it:
        for attack in ATTACKS:
            await repel(it, attack, certificates)
        await repel(it, all_at_once, certificates)
        await until(lambda: it.strangers() == 0)


async def repel(it: Cluster, attack: Attack, certificates: Certificates) -> None:
    for _ in range(TRIES):
        await until(it.settled)
        before, committed = it.look(), it.committed
        attacking = asyncio.gather(*(attack(address, certificates) for address in it.addresses.values()))
        while not attacking.done():
            assert it.strangers() <= STRANGERS_MAX + 2  # and what it dials itself
            await asyncio.wait({attacking}, timeout=0.05)
        await attacking
        await until(lambda committed=committed: it.committed > committed)
        if it.look() == before:
            return
    raise AssertionError(f"each time that it is made it has an effect: {attack}")


async def all_at_once(address: str, certificates: Certificates) -> None:
    await asyncio.gather(*(attack(address, certificates) for attack in ATTACKS))


@on_a_loop
async def test_while_strangers_fill_the_room_a_node_that_comes_back_is_let_in(
    addresses: Addresses, tmp_path: Path, certificates: Certificates
):
    """They take each other's places, and not that of a node which knows what it wants."""
    async with cluster(addresses, tmp_path, certificates) as it:
        crowd = [asyncio.create_task(hang_about(address)) for address in it.addresses.values()]
        leader = it.engines["a"].status().leader
        other = next(name for name in "abc" if name != leader)
        await until(lambda: it.strangers() >= STRANGERS_MAX // 2)
        for engine in (it.engines[name] for name in "abc" if name != other):
            engine._replica._transport._links[other].abort()
        await until(it.settled)
        for task in crowd:
            task.cancel()
        await asyncio.wait(crowd)


async def hang_about(address: str) -> None:
    """One connection after the other, of which each does nothing."""
    async with contextlib.AsyncExitStack() as stack:
        while True:
            with contextlib.suppress(OSError):
                await stack.enter_async_context(connected(address))
            await asyncio.sleep(0.02)


def test_a_node_without_file_descriptors_keeps_its_links_and_listens_again_when_there_are_some(addresses: Addresses):
    """Connections wait outside meanwhile, and the log is not filled with it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.engine.starved_node", addresses["a"], addresses["b"]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    host, _, port = addresses["a"].partition(":")
    try:
        assert process.stdout.readline() == "starved\n"
        waiting = [socket.create_connection((host, int(port)), timeout=PATIENCE_S) for _ in range(20)]
        arrived, complaints, links = process.stdout.readline().split(" ", 2)
        assert process.stdout.readline() == "fed\n"
        greetings = [one.recv(4) for one in waiting]

        assert int(arrived) > 10
        assert 1 <= int(complaints) <= 10
        assert links == "[+b] [+a]\n"
        assert len(greetings) == 20
        assert set(map(len, greetings)) == {4}
    finally:
        process.stdin.close()
        process.wait(PATIENCE_S)
        process.stdout.close()
    for one in waiting:
        one.close()
