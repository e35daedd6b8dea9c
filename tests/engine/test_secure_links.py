"""
`Transport` under TLS, and without it where it should be: who is let in, and what both sides say of who is not.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import asynccontextmanager
from itertools import combinations
from pathlib import Path

import pytest

from pydrm.cli.authority import Authority
from pydrm.engine import Security, dialler, link, transport
from pydrm.engine.frames import Forward, Vote
from pydrm.errors import ConfigurationError
from pydrm.testing.ports import Ports
from tests.certificates import CLUSTER, DAY, Certificates
from tests.engine.loops import on_a_loop, until
from tests.engine.peers import Peer, running, warnings
from tests.engine.strangers import Addresses, Stranger, hello


@pytest.fixture
def addresses() -> Iterator[Addresses]:
    with Ports() as ports:
        yield Addresses(ports)


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(dialler, "_REFUSED_BACKOFF_S", 0.02)
    caplog.set_level(logging.INFO, "pydrm")


def secured(name: str, addresses: Addresses, certificates: Certificates, dials: str = "abc", **how: object) -> Peer:
    """A node with a certificate that is made for it, as `Certificates.make` does."""
    return Peer(name, addresses, dials, security=certificates.security(name, **how))


async def exchange(a: Peer, b: Peer) -> None:
    """Return once something has arrived each way."""
    await until(lambda: b.hello.node in a.links and a.hello.node in b.links and not a.strangers and not b.strangers)
    count = len(a.frames), len(b.frames)
    a.transport.send(b.hello.node, Vote(1))
    b.transport.send(a.hello.node, Vote(2))
    await until(lambda: len(a.frames) > count[0] and len(b.frames) > count[1])


# --- who is let in ---------------------------------------------------------------------------------------------------


@on_a_loop
async def test_nodes_with_certificates_of_one_ca_are_linked(
    addresses: Addresses, certificates: Certificates, caplog: pytest.LogCaptureFixture
):
    """Each pair by one connection, the same for both; the log has whose certificate is which, once."""
    peers = {name: secured(name, addresses, certificates) for name in "abc"}
    async with running(*peers.values()):
        await until(lambda: all(len(peer.links) == 2 and not peer.strangers for peer in peers.values()))
        for one, other in combinations("abc", 2):
            assert peers[one].connection_with(other) == peers[other].connection_with(one)
            await exchange(peers[one], peers[other])

    assert warnings(caplog) == []
    shown = [message for message in caplog.messages if " shows certificate " in message]
    assert len(shown) == len(set(shown)) + 3 == 9  # by itself and by two others


@on_a_loop
async def test_nothing_that_is_said_can_be_read_on_the_way(addresses: Addresses, certificates: Certificates):
    """Not even a name."""
    a = secured("a", addresses, certificates, dials="")
    async with running(a):
        elsewhere = Addresses(addresses._ports)
        async with eavesdropped(elsewhere["a"], addresses["a"]) as heard:
            b = Peer("b", elsewhere, "ab", security=certificates.security("b"))
            async with running(b):
                await until(lambda: a.links and b.links)
                b.transport.send("a", Forward(b"a secret" * 100))
                await until(lambda: a.frames)

    assert len(heard) > 1000
    for word in (b"a secret", b"orders", b"replica-b", b"pydrm://orders/b"):
        assert word not in heard


@asynccontextmanager
async def eavesdropped(there: str, onwards: str):
    """Whoever connects to *there* comes out at *onwards*; yields all that passes."""
    heard = bytearray()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            heard.extend(data)
            writer.write(data)
        writer.close()

    async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = onwards.partition(":")
        other_reader, other_writer = await asyncio.open_connection(host, int(port))
        tasks.extend((asyncio.create_task(pump(reader, other_writer)), asyncio.create_task(pump(other_reader, writer))))

    tasks: list[asyncio.Task[None]] = []
    host, _, port = there.partition(":")
    server = await asyncio.start_server(between, host, int(port))
    try:
        yield heard
    finally:
        server.close()
        for task in tasks:
            task.cancel()


FOREIGN = Authority.make(CLUSTER, days=9)


@pytest.mark.parametrize(
    ("how", "found", "told"),
    [
        ({"since": -3 * DAY, "until": -DAY}, "its certificate has expired", "this node's certificate has expired"),
        ({"since": DAY}, "its certificate is not valid yet", "this node's certificate is not valid there"),
        ({"by": FOREIGN}, "its certificate is not signed by the CA", "this node's certificate is not signed by a CA"),
    ],
)
@pytest.mark.parametrize("dials", [("ab", ""), ("", "ab"), ("ab", "ab")])
@on_a_loop
async def test_a_certificate_that_is_not_good_is_refused_and_both_sides_say_so_once(
    addresses: Addresses,
    certificates: Certificates,
    caplog: pytest.LogCaptureFixture,
    how: dict[str, object],
    found: str,
    told: str,
    dials: tuple[str, str],
):
    """Whoever has dialled; and the status has it as long as it is so. Then it is renewed, and nobody restarted."""
    a = secured("a", addresses, certificates, dials[0])
    b = secured("b", addresses, certificates, dials[1], **how)
    async with running(a, b):
        await until(lambda: any(found in message for message in warnings(caplog)))
        await until(lambda: any(told in message for message in warnings(caplog)))
        await asyncio.sleep(0.2)  # they go on trying

        assert a.links == b.links == []
        said = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert len(said) == len({record.getMessage() for record in said})
        assert f"this node's certificate ({certificates.files('b').cert})" in b.transport.problem
        if dials[0]:
            assert found in a.transport.problem
            assert any(message.startswith("refused 'b' of 127.0.0.1: its") for message in warnings(caplog))
        if dials[1]:
            assert any(message.startswith("a refuses this node: this") for message in warnings(caplog))

        certificates.make("b")
        await exchange(a, b)
        assert a.transport.problem == b.transport.problem == ""


@on_a_loop
async def test_a_node_that_answers_at_anothers_address_is_refused_by_its_certificate(
    addresses: Addresses, certificates: Certificates
):
    """It is not even told who has dialled it."""
    mixed_up = Addresses(addresses._ports)
    mixed_up["b"] = addresses["c"]
    a = Peer("a", mixed_up, "ab", security=certificates.security("a"))
    c = secured("c", addresses, certificates, dials="ac")
    async with running(a, c):
        await until(lambda: a.transport.problem)
        reason = "its certificate is of node 'c', cluster 'orders'; 'b' was expected there"

        assert a.transport.problem == f"b does not fit: {reason}"
        assert "b" not in a.links


@pytest.mark.parametrize("lies", ["c", "z"])
@on_a_loop
async def test_a_node_cannot_call_itself_what_its_certificate_does_not(
    addresses: Addresses, certificates: Certificates, caplog: pytest.LogCaptureFixture, lies: str
):
    """A certificate of b is not one of c, whoever has it."""
    a, b = secured("a", addresses, certificates, ""), secured("b", addresses, certificates, "ab")
    b.hello = hello(lies, address=addresses["b"])
    async with running(a, b):
        reason = f"it calls itself {lies!r}, and its certificate is of node 'b'"
        await until(lambda: b.transport.problem == f"a refuses this node: {reason}")

        assert a.links == b.links == []
        assert f"refused {lies!r} of 127.0.0.1: {reason}" in warnings(caplog)


@on_a_loop
async def test_a_node_of_another_cluster_of_the_same_ca_is_refused(
    addresses: Addresses, certificates: Certificates, caplog: pytest.LogCaptureFixture
):
    """A company may have one CA for all."""
    other = Authority("invoices", certificates.authority.certificate, certificates.authority.key)
    a = secured("a", addresses, certificates, "ab")
    b = Peer("b", addresses, "ab", cluster="invoices", security=certificates.security("b", by=other))
    async with running(a, b):
        await until(lambda: a.transport.problem and b.transport.problem)
        await until(lambda: len(warnings(caplog)) >= 2)

        assert a.links == b.links == []
        assert any("of node 'b', cluster 'invoices'; this node is of cluster 'orders'" in m for m in warnings(caplog))


@on_a_loop
async def test_a_certificate_that_names_no_node_is_refused(
    addresses: Addresses, certificates: Certificates, caplog: pytest.LogCaptureFixture
):
    """The CA may have signed it for something else."""
    a = secured("a", addresses, certificates, "")
    certificates.make("x", of="not/one")
    async with running(a), dialled_with(certificates, "x", addresses["a"]) as (reader, _):
        await reader.read()

        assert a.links == []
        [line] = [message for message in warnings(caplog) if message.startswith("refused")]
        assert line.startswith("refused 127.0.0.1: its certificate does not name one node: pydrm://orders/NODE must be")


@asynccontextmanager
async def dialled_with(certificates: Certificates, name: str, address: str):
    """Somebody who has that certificate, and is no pydrm."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(certificates.ca))
    context.check_hostname = False
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.load_cert_chain(certificates.files(name).cert, certificates.files(name).key)
    host, _, port = address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


# --- one with TLS, one without ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dials", [("ab", ""), ("", "ab"), ("ab", "ab")])
@on_a_loop
async def test_a_node_with_tls_and_one_without_tell_each_other_what_is_missing(
    addresses: Addresses, certificates: Certificates, caplog: pytest.LogCaptureFixture, dials: tuple[str, str]
):
    """The one that has none learns it too, although it cannot read what it is sent."""
    a, b = secured("a", addresses, certificates, dials[0]), Peer("b", addresses, dials[1])
    async with running(a, b):
        with_tls = "it does not speak TLS; set tls_cert, tls_key and tls_ca there"
        without = "it speaks TLS and this node does not; set tls_cert, tls_key and tls_ca here"
        await until(lambda: any(message.endswith(with_tls) for message in warnings(caplog)))
        await until(lambda: any(message.endswith(without) for message in warnings(caplog)))

        assert a.links == b.links == []
        if dials[0]:
            await until(lambda: a.transport.problem == f"b does not fit: {with_tls}")
        if dials[1]:
            await until(lambda: b.transport.problem == f"a does not fit: {without}")
        await asyncio.sleep(0.1)
        assert len(warnings(caplog)) == len(set(warnings(caplog)))


# --- files that change, certificates that end ------------------------------------------------------------------------


@on_a_loop
async def test_a_link_stays_when_its_certificate_is_renewed_and_the_next_one_is_made_with_the_new(
    addresses: Addresses, certificates: Certificates
):
    """Nothing is interrupted for it."""
    a, b = secured("a", addresses, certificates, "ab"), secured("b", addresses, certificates, "ab")
    async with running(a, b):
        await exchange(a, b)
        before = a.connection_with("b"), certificate_seen(a, "b")
        certificates.make("b", until=30 * DAY)
        await asyncio.sleep(1.2)
        between = a.connection_with("b"), certificate_seen(a, "b")
        a.transport._links["b"].abort()
        await until(lambda: a.events == ["+b", "-b", "+b"])

        assert between == before
        assert certificate_seen(a, "b") != before[1]


def certificate_seen(peer: Peer, of: str) -> str:
    channel = peer.transport._links[of].channel
    assert channel is not None
    assert channel.certificate is not None
    return channel.certificate.serial


@on_a_loop
async def test_a_link_ends_when_a_certificate_that_it_was_made_with_has_expired(
    addresses: Addresses, certificates: Certificates, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """Renewed meanwhile, it is made again at once."""
    monkeypatch.setattr(transport, "_PING_S", 0.02)
    a, b = secured("a", addresses, certificates, "ab"), secured("b", addresses, certificates, "ab")
    async with running(a, b):
        await exchange(a, b)
        certificates.make("a", until=30 * DAY)
        certificates.make("b", until=30 * DAY)
        await asyncio.sleep(0.1)
        assert a.events == ["+b"]
        for peer in (a, b):
            monkeypatch.setattr(peer.transport._tls, "_wall", lambda: time.time() + 25 * 86400)
        await until(lambda: a.events[:3] == ["+b", "-b", "+b"] and b.events[-1] == "+a")
        await exchange(a, b)

    assert any(message.endswith("a certificate that it was made with has expired") for message in warnings(caplog))


# --- order and queues ------------------------------------------------------------------------------------------------


@on_a_loop
async def test_frames_arrive_in_the_order_in_which_they_were_sent(addresses: Addresses, certificates: Certificates):
    """Small and large ones, more at once than fits into the buffers of the host, and one as large as may be."""
    a, b = secured("a", addresses, certificates, "ab"), secured("b", addresses, certificates, "ab")
    sent = [Forward(bytes(number * 7919 % 60_000)) for number in range(500)]
    sent.append(Forward(bytes(8 * 1024 * 1024 - 100)))
    async with running(a, b):
        await until(lambda: a.links and b.links)
        for frame in sent:
            a.transport.send("b", frame)
        await until(lambda: len(b.frames) == len(sent))

        assert b.frames == [("a", frame) for frame in sent]


@on_a_loop
async def test_what_was_sent_before_the_end_arrives(addresses: Addresses, certificates: Certificates):
    """A node that leaves has its last words heard, and its peers see that it is gone."""
    a, b = secured("a", addresses, certificates, "ab"), secured("b", addresses, certificates, "")
    last_words = [Forward(bytes(100_000)), Vote(3)]
    async with running(b):
        async with running(a):
            await until(lambda: a.links and b.links)
            for frame in last_words:
                a.transport.send("b", frame)
        await until(lambda: b.events == ["+a", "-a"])

        assert b.frames == [("a", frame) for frame in last_words]


@on_a_loop
async def test_a_peer_that_does_not_read_is_closed(
    addresses: Addresses, certificates: Certificates, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """Its queue is counted under TLS as it is without."""
    monkeypatch.setattr(link, "_QUEUE_BYTES_MAX", 1_000_000)
    a, b = secured("a", addresses, certificates, ""), secured("b", addresses, certificates, "ab")
    async with running(a, b):
        await exchange(a, b)
        b.transport._links["a"]._stream.pause_reading()
        sent = 0
        while a.links and sent < 1000:
            a.transport.send("b", Forward(bytes(100_000)))
            sent += 1
            await asyncio.sleep(0)

        assert 10 <= sent < 1000
        await until(lambda: a.events[:2] == ["+b", "-b"])
    assert any(message.endswith("it does not keep up") for message in warnings(caplog))


# --- without TLS -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bind", "stands_for"),
    [
        ("0.0.0.0:7001", None),
        ("[::]:7001", None),
        ("10.0.0.1:7001", None),
        ("away.example:7001", ["10.0.0.1"]),
        ("both.example:7001", ["127.0.0.1", "10.0.0.1"]),
        ("localhost:7001", ["10.0.0.1"]),
    ],
)
@on_a_loop
async def test_beyond_loopback_a_node_does_not_start_without_tls(
    addresses: Addresses, monkeypatch: pytest.MonkeyPatch, bind: str, stands_for: list[str] | None
):
    """Whatever its address is written like: what counts is what it stands for. The error has both ways out."""
    resolve_to(monkeypatch, stands_for)
    addresses["a"] = bind
    a = Peer("a", addresses, "b")

    with pytest.raises(ConfigurationError, match=r"not on loopback.*`pydrm certs`.*insecure = true") as refusal:
        await a.transport.start()
    await a.transport.stop()

    assert refusal.value.field == "tls_cert"


def resolve_to(monkeypatch: pytest.MonkeyPatch, found: list[str] | None) -> None:
    """Let every host name stand for these addresses, for this loop."""

    async def getaddrinfo(host: str, port: int, **_: object) -> list[object]:
        assert found is not None, "only a name is looked up"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)


@on_a_loop
async def test_a_name_that_stands_for_loopback_is_loopback(addresses: Addresses, monkeypatch: pytest.MonkeyPatch):
    """As a host's own name does on many."""
    port = addresses["a"].rpartition(":")[2]
    resolve_to(monkeypatch, ["127.0.0.1", "127.0.1.1"])
    addresses["a"] = f"this-host:{port}"
    a = Peer("a", addresses, "")
    async with running(a), Stranger.dial(f"127.0.0.1:{port}") as stranger:
        assert await stranger.receive() == a.hello


@on_a_loop
async def test_insecure_starts_beyond_loopback_and_warns_each_time(
    addresses: Addresses, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """On loopback there is nothing to warn of."""
    async with running(Peer("a", addresses, "", security=Security(insecure=True))):
        assert warnings(caplog) == []
    resolve_to(monkeypatch, ["10.0.0.1"])
    here = addresses["b"]
    addresses["b"] = "away.example:7001"
    for count in (1, 2):
        peer = Peer("b", addresses, "", security=Security(insecure=True))
        peer.transport._listen = lambda: listen_at(here)
        async with running(peer):
            pass
        assert len(warnings(caplog)) == count
    assert "insecure = true" in warnings(caplog)[0]
    assert "away.example:7001" in warnings(caplog)[0]


async def listen_at(address: str) -> asyncio.Server:
    host, _, port = address.partition(":")
    return await asyncio.start_server(lambda *_: None, host, int(port))


@on_a_loop
async def test_beyond_loopback_nobody_is_dialled_without_tls(
    addresses: Addresses, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """Whoever sits between could be anybody; that holds for where a peer says it is, too."""
    addresses["b"] = "10.0.0.1:7001"
    addresses["c"] = "c.example:7001"
    resolve_to(monkeypatch, ["10.0.0.2"])
    a = Peer("a", addresses, "abc")
    dialled: list[object] = []
    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", lambda *how: dialled.append(how))
    async with running(a):
        await until(lambda: len(warnings(caplog)) == 2)

        assert sorted(warnings(caplog)) == [
            "b is at 10.0.0.1:7001, not on loopback: set tls_cert, tls_key and tls_ca",
            "c is at c.example:7001, not on loopback: set tls_cert, tls_key and tls_ca",
        ]
        assert a.transport.problem in warnings(caplog)
        assert dialled == []


@on_a_loop
async def test_files_that_cannot_be_used_keep_a_node_from_starting(addresses: Addresses, certificates: Certificates):
    """Nothing listens then."""
    a = secured("a", addresses, certificates, "")
    certificates.files("a").key.unlink()

    with pytest.raises(ConfigurationError) as refusal:
        await a.transport.start()
    await a.transport.stop()

    assert refusal.value.field == "tls_key"
    with pytest.raises(ConnectionError):
        async with Stranger.dial(addresses["a"]):
            pass
