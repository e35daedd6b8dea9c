"""Links with real sockets: an echo server at each end."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator

import pytest

from pydrm.testing.links import Links

PATIENCE_S = 5.0  # what must come has this long to come
SILENCE_S = 0.2  # what must not come is waited for this long


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            while data := self.request.recv(1024):
                self.request.sendall(data)


class EchoServer(socketserver.ThreadingTCPServer):
    daemon_threads = True


@contextlib.contextmanager
def three_nodes() -> Iterator[Links]:
    with contextlib.ExitStack() as closing:
        addresses = {}
        for name in "abc":
            server = closing.enter_context(EchoServer(("127.0.0.1", 0), Echo))
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            closing.callback(thread.join)
            closing.callback(server.shutdown)
            addresses[name] = f"127.0.0.1:{server.server_address[1]}"
        yield closing.enter_context(Links(addresses))


def dial(links: Links, dialler: str, dialled: str) -> socket.socket:
    host, _, port = links.address(dialler, dialled).rpartition(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE_S)


def hears(connection: socket.socket, data: bytes) -> bool:
    """Whether *data* comes; silence is given a short time, so False is quick."""
    connection.settimeout(SILENCE_S)
    try:
        return connection.recv(1024) == data
    except TimeoutError:
        return False
    finally:
        connection.settimeout(PATIENCE_S)


def test_a_link_carries_bytes_there_and_back() -> None:
    with three_nodes() as links, dial(links, "a", "b") as connection:
        connection.sendall(b"ping")

        assert connection.recv(1024) == b"ping"


def test_what_is_sent_over_a_cut_link_arrives_when_it_is_healed() -> None:
    with three_nodes() as links, dial(links, "a", "b") as connection:
        links.cut("a", "b")
        connection.sendall(b"ping")
        silent = not hears(connection, b"ping")

        links.heal()

        assert silent
        assert connection.recv(1024) == b"ping"


@pytest.mark.parametrize("direction", [("a", "b"), ("b", "a")])
def test_a_cut_one_way_holds_back_that_direction_only(direction: tuple[str, str]) -> None:
    """The way there and the way back are cut by themselves, whoever dialled."""
    with three_nodes() as links, dial(links, "a", "b") as connection:
        connection.sendall(b"before")
        assert connection.recv(1024) == b"before"

        links.cut(*direction, one_way=True)
        connection.sendall(b"ping")
        silent = not hears(connection, b"ping")
        links.heal()

        assert silent
        assert connection.recv(1024) == b"ping"


def test_an_isolated_node_reaches_nobody_and_the_others_reach_each_other() -> None:
    with three_nodes() as links:
        links.isolate("a")

        with dial(links, "a", "b") as cut, dial(links, "c", "a") as cut_too, dial(links, "b", "c") as whole:
            for connection in (cut, cut_too, whole):
                connection.sendall(b"ping")

            assert whole.recv(1024) == b"ping"
            assert not hears(cut, b"ping")
            assert not hears(cut_too, b"ping")


def test_nodes_that_are_isolated_together_reach_each_other() -> None:
    with three_nodes() as links:
        links.isolate("a", "b")

        with dial(links, "a", "b") as whole, dial(links, "a", "c") as cut:
            whole.sendall(b"ping")
            cut.sendall(b"ping")

            assert whole.recv(1024) == b"ping"
            assert not hears(cut, b"ping")


def test_the_end_of_a_connection_is_passed_on() -> None:
    with three_nodes() as links, dial(links, "a", "b") as connection:
        connection.sendall(b"last")
        connection.shutdown(socket.SHUT_WR)

        assert connection.recv(1024) == b"last"
        assert connection.recv(1024) == b""


def test_a_dial_to_a_node_that_is_not_there_is_closed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = f"127.0.0.1:{gone.getsockname()[1]}"
    with Links({"a": "127.0.0.1:1", "b": address}) as links, dial(links, "a", "b") as connection:
        assert connection.recv(1024) == b""


def test_closing_ends_every_connection_also_cut_ones() -> None:
    with three_nodes() as links, dial(links, "a", "b") as connection, dial(links, "b", "a") as cut:
        links.cut("a", "b")

        links.close()

        assert connection.recv(1024) == b""
        assert cut.recv(1024) == b""
        with pytest.raises(ConnectionRefusedError):
            dial(links, "a", "b")
