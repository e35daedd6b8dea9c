"""
A kind of one's own: lines over plain TCP.

    python examples/lines.py

An async function holds the resource: it connects, says that it is ready, reads until it is
cancelled, and closes. When it raises, it is run again after a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

from pydrm import Hold, Resource, ResourceManager, Temporary


async def hold_lines(hold: Hold, received: asyncio.Queue[str]) -> None:
    """Keep a connection to the resource's `host` and `port`, and put what it says into *received*."""
    connection = socket.socket()
    connection.setblocking(False)
    # Before it connects: from here on pydrm can cut it, even if this loop is blocked when the lease ends.
    hold.guard(connection)
    try:
        await asyncio.get_running_loop().sock_connect(connection, (hold.resource["host"], hold.resource["port"]))
    except OSError as error:
        connection.close()
        raise Temporary(f"cannot connect: {error}", delay=1.0) from error
    reader, writer = await asyncio.open_connection(sock=connection)
    try:
        writer.write(f"{hold.resource.id} {hold.token}\n".encode())
        hold.ready()
        async for line in reader:
            # A line that arrived when the hold was over already belongs to the next holder.
            if hold.valid:
                await received.put(line.decode().rstrip())
    finally:
        writer.close()


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Stands in for the third party: three lines for whoever says which resource it holds."""
    name, token = (await reader.readline()).decode().split()
    for number in (1, 2, 3):
        writer.write(f"line {number} of {name} for token {token}\n".encode())
    with contextlib.suppress(ConnectionError):
        await reader.read()
    writer.close()


async def main() -> None:
    drm = ResourceManager(cluster="lines", node="a", bind="127.0.0.1:0")
    received: asyncio.Queue[str] = asyncio.Queue(maxsize=100)

    @drm.handler("lines")
    async def lines(hold: Hold) -> None:
        await hold_lines(hold, received)

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, drm:
        await drm.add(Resource("greeting", kind="lines", host="127.0.0.1", port=port))
        for _ in range(3):
            print(await received.get(), flush=True)
    print("handed over and left", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
