from __future__ import annotations

import asyncio
import socket
import sys

import pytest

from pydrm.testing.ports import FIRST, LAST, Ports


def test_reserved_ports_differ_and_lie_below_the_ephemeral_range() -> None:
    with Ports() as ports:
        reserved = [ports.reserve() for _ in range(20)]

    assert len(set(reserved)) == 20
    assert all(FIRST <= port < LAST for port in reserved)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a port is probed and not kept")
def test_a_reserved_port_is_kept_from_others_and_open_to_an_asyncio_listener() -> None:
    """Also after that listener has gone: a node that is started again finds its port."""

    async def listen(port: int) -> None:
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", port)
        server.close()
        await server.wait_closed()

    with Ports() as ports:
        port = ports.reserve()
        for _ in range(2):
            with socket.socket() as other, pytest.raises(OSError, match="in use"):
                other.bind(("127.0.0.1", port))
            asyncio.run(listen(port))

    with socket.socket() as other:
        other.bind(("127.0.0.1", port))


def test_a_port_that_somebody_listens_on_is_passed_over() -> None:
    with Ports() as ports:
        first = ports.reserve()
    with socket.create_server(("127.0.0.1", first)), Ports() as ports:
        assert ports.reserve() != first
