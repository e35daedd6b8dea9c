"""
`Fence`: what may be open is known before it is, and can be cut from any thread.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from pydrm.agent.fence import Fence


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Our end of a connection, and the third party's."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(10)
    with ours, theirs:
        yield ours, theirs


def test_a_handle_counts_from_before_it_exists_until_it_is_gone():
    """Whether it has a socket yet or not."""
    fence = Fence()
    fence.opened(7)
    fence.opened(3)
    before = fence.tokens()

    fence.closed(7)

    assert before == [3, 7]
    assert fence.tokens() == [3]


def test_a_handle_that_is_opened_twice_or_closed_twice_is_one():
    """Whoever is not sure says it again."""
    fence = Fence()
    fence.opened(7)
    fence.opened(7)
    fence.closed(7)
    fence.closed(7)

    assert fence.tokens() == []


def test_a_socket_that_is_registered_makes_its_handle_count():
    """A handler may be quicker than the agent."""
    fence = Fence()
    with socket.socket() as sock:
        fence.register(7, sock)

    assert fence.tokens() == [7]


def test_a_socket_that_is_cut_carries_nothing_any_more(pair: tuple[socket.socket, socket.socket]):
    """The other side sees the end at once; the descriptor stays its owner's."""
    ours, theirs = pair
    fence = Fence()
    fence.opened(7)
    fence.register(7, ours)

    fence.shut_sockets()

    assert theirs.recv(100) == b""
    with pytest.raises(BrokenPipeError):
        ours.send(b"x")
    assert ours.fileno() >= 0
    assert fence.tokens() == [7]


def test_cutting_wakes_a_thread_that_waits_for_the_socket(pair: tuple[socket.socket, socket.socket]):
    """close(2) would not; a handler may block in a thread of its own."""
    ours, _ = pair
    fence = Fence()
    fence.register(7, ours)
    received: list[bytes] = []
    waiting = threading.Thread(target=lambda: received.append(ours.recv(100)))
    waiting.start()

    fence.shut_sockets()
    waiting.join(timeout=10)

    assert received == [b""]


def test_sockets_that_cannot_be_cut_do_not_keep_the_others_from_it(pair: tuple[socket.socket, socket.socket]):
    """One that is closed, one that was never connected, one that was cut before."""
    ours, theirs = pair
    closed = socket.socket()
    closed.close()
    fence = Fence()
    with socket.socket() as unconnected:
        for token, sock in enumerate((closed, unconnected, ours)):
            fence.register(token, sock)

        fence.shut_sockets()
        fence.shut_sockets()

    assert theirs.recv(100) == b""


def test_one_handle_is_cut_alone(pair: tuple[socket.socket, socket.socket]):
    ours, theirs = pair
    other, others = socket.socketpair()
    fence = Fence()
    with other, others:
        fence.register(7, ours)
        fence.register(8, other)

        fence.cut(7)
        fence.cut(9)
        other.send(b"still here")

        assert theirs.recv(100) == b""
        assert others.recv(100) == b"still here"
    assert fence.tokens() == [7, 8]


def test_what_was_closed_is_not_cut(pair: tuple[socket.socket, socket.socket]):
    """It may serve another purpose by now."""
    ours, theirs = pair
    fence = Fence()
    fence.opened(7)
    fence.register(8, ours)
    fence.closed(8)

    fence.shut_sockets()
    ours.send(b"still here")

    assert theirs.recv(100) == b"still here"
    assert fence.tokens() == [7]
