"""
`Transport` on real sockets: one link for each pair, in order, and strangers cost little.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from itertools import combinations

import msgspec
import pytest

from pydrm.engine import complaints, dialler, link, lobby, raft, transport
from pydrm.engine.frames import (
    Append,
    Forward,
    Ping,
    Refusal,
    Vote,
    encode_frame,
)
from pydrm.errors import ConfigurationError
from pydrm.testing.ports import Ports
from tests.engine.loops import on_a_loop, until
from tests.engine.peers import Peer, running, warnings
from tests.engine.strangers import Addresses, Stranger, hello


@pytest.fixture
def addresses() -> Iterator[Addresses]:
    with Ports() as ports:
        yield Addresses(ports)


# --- one link for each pair ------------------------------------------------------------------------------------------


@on_a_loop
async def test_each_pair_has_one_link_and_it_is_the_same_for_both(addresses: Addresses):
    """Three nodes that dial each other end up with three connections."""
    peers = {name: Peer(name, addresses, "abc") for name in "abc"}
    async with running(*peers.values()):
        await until(lambda: all(len(peer.links) == 2 and not peer.strangers for peer in peers.values()))

        for one, other in combinations("abc", 2):
            assert peers[one].connection_with(other) == peers[other].connection_with(one)
        assert {name: peer.links for name, peer in peers.items()} == {"a": ["b", "c"], "b": ["a", "c"], "c": ["a", "b"]}


@pytest.mark.parametrize("time", range(10))
@on_a_loop
async def test_nodes_that_dial_each_other_at_the_same_time_keep_the_same_connection(
    addresses: Addresses, monkeypatch: pytest.MonkeyPatch, time: int
):
    """Ten times over, for whether two connections meet is chance."""
    monkeypatch.setattr(dialler, "_YIELD_S", 0.0)
    a, b = Peer("a", addresses, "ab"), Peer("b", addresses, "ab")
    async with running(a, b):
        await until(lambda: a.links and b.links and not a.strangers and not b.strangers)
        await until(lambda: a.links and b.links and a.connection_with("b") == b.connection_with("a"))
        a.transport.send("b", Vote(1))
        b.transport.send("a", Vote(2))
        await until(lambda: a.frames and b.frames)

        assert (a.frames, b.frames) == ([("b", Vote(2))], [("a", Vote(1))])
    assert a.events[-1] == "-b"
    assert b.events[-1] == "-a"


@on_a_loop
async def test_of_two_connections_both_keep_the_one_that_the_smaller_name_dialled(addresses: Addresses):
    """Each sees by itself which one that is, so they come to the same without a word."""
    a, b = Peer("a", addresses, ""), Peer("b", addresses, "")
    async with running(a, b), Stranger.dial(addresses["a"]) as one, Stranger.dial(addresses["a"]) as other:
        one.send(hello("b"))
        await until(lambda: a.links == ["b"])
        other.send(hello("b"))

        assert (await other.rest())[1:] == [Refusal("")]
        assert a.events == ["+b"]
        async with Stranger.dial(addresses["b"]) as one, Stranger.dial(addresses["b"]) as other:
            one.send(hello("a"))
            await until(lambda: b.links == ["a"])
            other.send(hello("a"))

            assert (await one.rest())[1:] == [Refusal("")]
            assert b.events == ["+a", "-a", "+a"]


@pytest.mark.parametrize("dials", [("ab", ""), ("", "ab")])
@on_a_loop
async def test_it_is_enough_if_one_of_the_two_reaches_the_other(addresses: Addresses, dials: tuple[str, str]):
    """One of them may sit behind something that nobody can connect to."""
    a, b = Peer("a", addresses, dials[0]), Peer("b", addresses, dials[1])
    async with running(a, b):
        await until(lambda: a.links == ["b"] and b.links == ["a"])


@on_a_loop
async def test_a_link_that_broke_is_made_again(addresses: Addresses):
    """`unlinked` comes before the next `linked`."""
    a, b = Peer("a", addresses, "ab"), Peer("b", addresses, "ab")
    async with running(a, b):
        await until(lambda: a.links and b.links)
        a.transport._links["b"].abort()

        await until(lambda: a.events == b_events("+-+") and b.links == ["a"])


def b_events(signs: str) -> list[str]:
    return [sign + "b" for sign in signs]


@on_a_loop
async def test_frames_arrive_in_the_order_in_which_they_were_sent(addresses: Addresses):
    """Small and large ones, and more at once than fits into the buffers of the host."""
    a, b = Peer("a", addresses, "ab"), Peer("b", addresses, "ab")
    sent = [Forward(bytes(number * 7919 % 60_000)) for number in range(500)]
    async with running(a, b):
        await until(lambda: a.links and b.links)
        for frame in sent:
            a.transport.send("b", frame)
        await until(lambda: len(b.frames) == len(sent))

        assert b.frames == [("a", frame) for frame in sent]


@on_a_loop
async def test_a_frame_for_nobody_is_dropped(addresses: Addresses):
    """Whoever is not linked learns nothing, and sees that by `unlinked`."""
    a = Peer("a", addresses, "")
    async with running(a):
        a.transport.send("b", Vote(1))

        assert a.events == []


@on_a_loop
async def test_a_process_that_was_restarted_takes_the_place_of_the_old_one(addresses: Addresses):
    """Its host may have gone dark, so that the old connection still looks as if it lived."""
    a = Peer("a", addresses, "")
    async with running(a), Stranger.dial(addresses["a"]) as old, Stranger.dial(addresses["a"]) as new:
        old.send(hello("b"))
        await until(lambda: a.links == ["b"])
        new.send(hello("b", boot=4, nonce="another"))
        await until(lambda: a.events == b_events("+-+"))

        assert (await old.rest())[1:] == [Refusal("")]
        new.send(Vote(1))
        await until(lambda: a.frames == [("b", Vote(1))])


@on_a_loop
async def test_a_process_that_was_replaced_is_not_let_in_again(addresses: Addresses):
    """It is told so, and the link with its successor stays."""
    a = Peer("a", addresses, "")
    async with running(a), Stranger.dial(addresses["a"]) as new, Stranger.dial(addresses["a"]) as old:
        new.send(hello("b", boot=4, nonce="another"))
        await until(lambda: a.links == ["b"])
        old.send(hello("b"))

        assert (await old.rest())[1:] == [Refusal("it is an old incarnation of b (boot 3; boot 4 was here)")]
        assert a.events == b_events("+")


# --- what nodes say of themselves ------------------------------------------------------------------------------------


@on_a_loop
async def test_an_announcement_reaches_whoever_is_linked(addresses: Addresses):
    """`linked` is called again, with what is new."""
    a, b = Peer("a", addresses, "ab"), Peer("b", addresses, "ab")
    async with running(a, b):
        await until(lambda: a.links and b.links and not a.strangers and not b.strangers)
        count = len(b.events)
        a.hello = msgspec.structs.replace(a.hello, cluster_id="orders-1", members=(("b", "replica-b"),))
        a.transport.announce()
        await until(lambda: len(b.events) > count)

        assert b.transport.heard() == {"a": a.hello}
        assert b.events[count:] == ["+a"]


@on_a_loop
async def test_an_announcement_reaches_whoever_has_not_said_hello_yet(addresses: Addresses):
    """
    It has heard this node's Hello already and will not hear it again.

    A node that formed its cluster in between once stayed out of it for good.
    """
    a = Peer("a", addresses, "")
    async with running(a), Stranger.dial(addresses["a"]) as b:
        before = await b.receive()
        a.hello = msgspec.structs.replace(a.hello, cluster_id="orders-1", members=(("b", "replica-b"),))
        a.transport.announce()
        after = await b.receive()

        assert (before, after) == (hello("a", address=addresses["a"]), a.hello)


@on_a_loop
async def test_a_node_keeps_the_name_that_it_came_with(addresses: Addresses):
    """A second Hello may say other things, not be another node's."""
    a = Peer("a", addresses, "")
    async with running(a), Stranger.dial(addresses["a"]) as b:
        b.send(hello("b"))
        await until(lambda: a.links == ["b"])
        b.send(hello("c"))
        await b.rest()
        await until(lambda: a.links == [])

        assert a.events == b_events("+-")


@on_a_loop
async def test_an_address_that_is_none_does_not_stop_dialling(addresses: Addresses, monkeypatch: pytest.MonkeyPatch):
    """A peer can say what it wants of itself; the configured address is still tried."""
    a = Peer("a", addresses, "ab")
    tried: list[str] = []
    dial = a.transport._dialler._dial

    async def noted(name: str, address: str) -> None:
        tried.append(address)
        await dial(name, address)

    monkeypatch.setattr(a.transport._dialler, "_dial", noted)
    async with running(a):
        for nonsense in ("nonsense", "127.0.0.1:99999999", "127.0.0.1:-1", "\x00:1", "x" * 300 + ":1"):
            async with Stranger.dial(addresses["a"]) as liar:
                liar.send(hello("b", address=nonsense))
                await until(lambda: a.links == ["b"])
            await until(lambda address=nonsense: address in tried)
        async with running(Peer("b", addresses, "")):
            await until(lambda: a.links == ["b"])


@on_a_loop
async def test_where_a_node_says_it_is_it_is_found(addresses: Addresses):
    """It may have moved since the configuration was written."""
    a = Peer("a", addresses, "ab")
    elsewhere = Addresses(addresses._ports)
    async with running(a):
        async with Stranger.dial(addresses["a"]) as b:
            b.send(hello("b", address=elsewhere["b"]))
            await until(lambda: a.links == ["b"])
        async with running(Peer("b", elsewhere, "")):
            await until(lambda: a.links == ["b"])


# --- who is not wanted -----------------------------------------------------------------------------------------------


@on_a_loop
async def test_a_node_of_another_cluster_is_refused_and_both_sides_say_so_once(
    addresses: Addresses, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    """They meet again and again; their logs say it once a minute, their status as long as it is so."""
    monkeypatch.setattr(dialler, "_REFUSED_BACKOFF_S", 0.02)
    a, b = Peer("a", addresses, "ab"), Peer("b", addresses, "ab", cluster="invoices")
    greeted: list[str] = []
    for peer in (a, b):
        greet = peer.transport._greet
        monkeypatch.setattr(
            peer.transport,
            "_greet",
            lambda link, theirs, greet=greet: (greeted.append(theirs.node), greet(link, theirs)),
        )
    async with running(a, b):
        await until(lambda: greeted.count("a") > 5 and greeted.count("b") > 5)

        assert "belongs to cluster" in a.transport.problem
        assert "belongs to cluster" in b.transport.problem
        assert a.events == b.events == []
    said = warnings(caplog)
    assert said.count("refused 'b' of 127.0.0.1: it belongs to cluster 'invoices', this node to 'orders'") == 1
    assert said.count("refused 'a' of 127.0.0.1: it belongs to cluster 'orders', this node to 'invoices'") == 1
    assert len(said) == len(set(said)) <= 4


@on_a_loop
async def test_nodes_with_a_wire_format_in_common_are_linked(addresses: Addresses):
    """In a rolling upgrade the newer ones go on speaking what the older ones do."""
    a, b = Peer("a", addresses, "ab", version=1), Peer("b", addresses, "ab", version=3, oldest_version=1)
    async with running(a, b):
        await until(lambda: a.links == ["b"] and b.links == ["a"])


@on_a_loop
async def test_nodes_without_a_wire_format_in_common_say_the_same_of_which_to_upgrade(addresses: Addresses):
    """Whichever log is read."""
    a, b = Peer("a", addresses, "ab", version=1), Peer("b", addresses, "ab", version=3, oldest_version=2)
    async with running(a, b):
        await until(lambda: a.transport.problem and b.transport.problem)

        reason = "a speaks wire format 1 and b wire formats 2 to 3: start a with a pydrm that speaks wire format 2"
        assert a.transport.problem == f"b does not fit: {reason}"
        assert b.transport.problem == f"a does not fit: {reason}"
        assert a.links == b.links == []


@on_a_loop
async def test_a_problem_that_was_mended_is_none(addresses: Addresses, monkeypatch: pytest.MonkeyPatch):
    """The other node is restarted with the right configuration."""
    monkeypatch.setattr(dialler, "_REFUSED_BACKOFF_S", 0.02)
    a = Peer("a", addresses, "ab")
    async with running(a):
        async with running(Peer("b", addresses, "ab", voters=("a", "b"))):
            await until(lambda: "lists the peers" in a.transport.problem)
        async with running(Peer("b", addresses, "ab", boot=4, nonce="another")):
            await until(lambda: a.links == ["b"])

            assert a.transport.problem == ""


@on_a_loop
async def test_a_node_that_answers_at_anothers_address_is_refused(addresses: Addresses):
    """The addresses of two peers are mixed up in the configuration."""
    mixed_up = Addresses(addresses._ports)
    mixed_up["b"] = addresses["c"]
    a, c = Peer("a", mixed_up, "ab"), Peer("c", addresses, "")
    async with running(a, c):
        await until(lambda: a.transport.problem)

        assert a.transport.problem == "b does not fit: 'b' was expected there"
        assert a.links == []


@on_a_loop
async def test_a_stranger_that_is_refused_is_no_problem_of_this_node(addresses: Addresses):
    """Anybody can connect and call itself what it wants."""
    a = Peer("a", addresses, "")
    async with running(a), Stranger.dial(addresses["a"]) as stranger:
        stranger.send(hello("z"))

        assert (await stranger.rest())[1:] == [Refusal("'z' is not among the peers of this node, a, b, c")]
        assert a.transport.problem == ""


@on_a_loop
async def test_names_without_end_do_not_fill_the_memory(addresses: Addresses, monkeypatch: pytest.MonkeyPatch):
    """What was said is kept to say it once; not of every name that a stranger makes up."""
    monkeypatch.setattr(complaints, "_SAID_MAX", 5)
    a = Peer("a", addresses, "")
    async with running(a):
        for number in range(12):
            async with Stranger.dial(addresses["a"]) as stranger:
                stranger.send(hello(f"z{number}"))
                await stranger.rest()

        assert len(a.transport._complaints._said) <= 5


# --- what strangers cost ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        (16 * 1024 + 1).to_bytes(4, "little"),
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x00",
        b"\x05\x00\x00\x00hello",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x01\x00\x00\x00\xc1",
        b"\x10\x00\x00\x00" + b"\x91" * 16,
        (10_000).to_bytes(4, "little") + b"\x91" * 10_000,
    ],
)
@on_a_loop
async def test_garbage_closes_the_connection(addresses: Addresses, data: bytes):
    """A frame that is too large by its first four bytes is not waited for. Nothing is said to whoever sent it."""
    a = Peer("a", addresses, "")
    async with running(a), Stranger.dial(addresses["a"]) as stranger:
        stranger.send_bytes(data)

        assert await stranger.rest() == [a.hello]
        await until(lambda: a.strangers == 0)


@on_a_loop
async def test_a_frame_before_the_hello_closes_the_connection(addresses: Addresses):
    """Nothing is taken from somebody who has not said who it is."""
    a = Peer("a", addresses, "")
    async with running(a), Stranger.dial(addresses["a"]) as stranger:
        stranger.send(Vote(1), hello("b"))

        assert await stranger.rest() == [a.hello]
        assert (a.events, a.frames) == ([], [])


@on_a_loop
async def test_a_stranger_that_stays_silent_is_closed(addresses: Addresses, monkeypatch: pytest.MonkeyPatch):
    """A ping is no Hello."""
    monkeypatch.setattr(lobby, "_HANDSHAKE_TIMEOUT_S", 0.1)
    a = Peer("a", addresses, "")
    async with running(a), Stranger.dial(addresses["a"]) as stranger:
        stranger.send(Ping())

        assert await stranger.rest() == [a.hello]


@on_a_loop
async def test_only_so_many_strangers_are_let_in_and_a_newcomer_takes_the_place_of_the_oldest(
    addresses: Addresses, monkeypatch: pytest.MonkeyPatch
):
    """So those who fill the room and do nothing keep nobody out; least of all the peers that this node dials."""
    monkeypatch.setattr(lobby, "_STRANGERS_MAX", 2)
    a = Peer("a", addresses, "ab")
    async with running(a), Stranger.dial(addresses["a"]) as one, Stranger.dial(addresses["a"]) as two:
        heard = [await one.receive(), await two.receive()]
        async with Stranger.dial(addresses["a"]) as three:
            heard.append(await three.receive())

            assert await one.rest() == []
            assert heard == [a.hello, a.hello, a.hello]
            assert a.strangers == 2
            async with running(Peer("b", addresses, "")):
                await until(lambda: a.links == ["b"])

                assert a.strangers == 2


@on_a_loop
async def test_an_accepted_peer_may_send_large_frames(addresses: Addresses):
    """Larger than any stranger's."""
    a = Peer("a", addresses, "")
    large = Forward(bytes(2_000_000))
    async with running(a), Stranger.dial(addresses["a"]) as b:
        b.send(hello("b"), large)

        await until(lambda: a.frames == [("b", large)])


@on_a_loop
async def test_an_accepted_peer_may_not_send_frames_of_any_size(addresses: Addresses):
    """Its memory is its own, ours is not."""
    a = Peer("a", addresses, "")
    async with running(a), Stranger.dial(addresses["a"]) as b:
        b.send(hello("b"))
        await until(lambda: a.links == ["b"])
        b.send_bytes((8 * 1024 * 1024 + 1).to_bytes(4, "little"))
        await b.rest()
        await until(lambda: a.links == [])

        assert a.events == b_events("+-")


@on_a_loop
async def test_a_frame_that_the_node_cannot_use_closes_the_link(addresses: Addresses, caplog: pytest.LogCaptureFixture):
    """The rest of what came with it is not taken either; the log names the peer's address."""
    a = Peer("a", addresses, "")
    async with running(a), Stranger.dial(addresses["a"]) as b:
        b.send(hello("b"), Vote(1), Vote(666), Vote(2))
        await b.rest()
        await until(lambda: a.links == [])

        assert a.frames == [("b", Vote(1))]
        assert a.events == b_events("+-")
    assert [message for message in warnings(caplog) if message.endswith(": a bad frame")] == warnings(caplog)
    assert "127.0.0.1:" in warnings(caplog)[0]


@on_a_loop
async def test_a_peer_that_does_not_read_is_closed(addresses: Addresses, monkeypatch: pytest.MonkeyPatch):
    """Its queue is bounded, and nothing is dropped from it: the link is closed, and it sees that."""
    monkeypatch.setattr(link, "_QUEUE_BYTES_MAX", 1_000_000)
    a = Peer("a", addresses, "")
    async with running(a), Stranger.dial(addresses["a"]) as b:
        b.send(hello("b"))
        await until(lambda: a.links == ["b"])
        for _ in range(200):
            a.transport.send("b", Forward(bytes(100_000)))
        await until(lambda: a.links == [])

        assert a.events == b_events("+-")


# --- whether a link lives --------------------------------------------------------------------------------------------


@on_a_loop
async def test_a_link_on_which_nothing_is_said_is_pinged(addresses: Addresses, monkeypatch: pytest.MonkeyPatch):
    """So that the other side hears something."""
    monkeypatch.setattr(transport, "_PING_S", 0.02)
    a = Peer("a", addresses, "")
    async with running(a), Stranger.dial(addresses["a"]) as b:
        b.send(hello("b"))

        assert [await b.receive(), await b.receive(), await b.receive()] == [a.hello, Ping(), Ping()]


@on_a_loop
async def test_a_link_on_which_nothing_is_heard_is_closed(addresses: Addresses, monkeypatch: pytest.MonkeyPatch):
    """A host that went dark sends no end of the stream."""
    monkeypatch.setattr(transport, "_PING_S", 0.02)
    monkeypatch.setattr(transport, "_IDLE_TIMEOUT_S", 0.1)
    a = Peer("a", addresses, "")
    async with running(a), Stranger.dial(addresses["a"]) as b:
        b.send(hello("b"))
        await b.rest()
        await until(lambda: a.links == [])

        assert a.events == b_events("+-")


# --- beginning and end -----------------------------------------------------------------------------------------------


@on_a_loop
async def test_an_address_in_use_is_a_slip_in_the_configuration(addresses: Addresses):
    """The setting is named, and the address."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = Addresses(addresses._ports)
        taken["a"] = f"127.0.0.1:{other.getsockname()[1]}"
        a = Peer("a", taken, "ab")

        with pytest.raises(ConfigurationError, match=f"cannot listen on {taken['a']}: ") as refusal:
            await a.transport.start()
        await a.transport.stop()

    assert refusal.value.field == "bind"


@on_a_loop
async def test_what_was_sent_before_the_end_arrives(addresses: Addresses):
    """A node that leaves has its last words heard, and its peers see that it is gone."""
    a, b = Peer("a", addresses, "ab"), Peer("b", addresses, "")
    last_words = [Forward(bytes(10_000)), Vote(3)]
    async with running(b):
        async with running(a):
            await until(lambda: a.links and b.links)
            for frame in last_words:
                a.transport.send("b", frame)
        await until(lambda: b.events == ["+a", "-a"])

        assert b.frames == [("a", frame) for frame in last_words]


@on_a_loop
async def test_after_the_end_nobody_is_let_in(addresses: Addresses):
    """The port is free again."""
    a = Peer("a", addresses, "")
    async with running(a):
        pass

    with pytest.raises(ConnectionError):
        async with Stranger.dial(addresses["a"]):
            pass


def test_whatever_the_consensus_sends_fits_into_a_frame():
    """PySyncObj closes a message with the entry that makes it too long."""
    most = raft._MESSAGE_BYTES_MAX + raft.ENTRY_BYTES_MAX

    assert len(encode_frame(Append(1, 1, 1, 1, ((bytes(most), 2, 1),)))) < link._FRAME_BYTES_MAX
