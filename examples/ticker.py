"""
An app that embeds a manager: prices over a websocket, one connection in the whole cluster.

    python examples/ticker.py              a cluster of one, and an exchange of its own
    python examples/ticker.py --prices 0   the same until Ctrl-C

With peers and a data_dir it is one node of many, and nothing else changes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from pydrm import Message, Resource, ResourceManager


async def exchange(connection: ServerConnection) -> None:
    """Stands in for the third party: a price every tenth of a second to whoever is connected."""
    price = 100
    with contextlib.suppress(ConnectionClosed):
        while True:
            await connection.send(str(price))
            price += 1
            await asyncio.sleep(0.1)


async def main(prices: int) -> None:
    drm = ResourceManager(cluster="ticker", node="a", bind="127.0.0.1:0")
    seen = 0
    enough = asyncio.Event()

    @drm.on_message("prices")
    async def on_price(message: Message) -> None:
        nonlocal seen
        # Whoever stores prices can refuse one whose token is lower than the last one's: its sender is a former holder.
        print(f"{message.resource.id} {message.data} under token {message.token}", flush=True)
        seen += 1
        if seen == prices:
            enough.set()

    async with serve(exchange, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with drm:
            await drm.add(
                Resource(
                    "btc", kind="websocket", url=f"ws://127.0.0.1:{port}/{{id}}?token={{token}}", on_message="prices"
                )
            )
            await enough.wait()
    print("handed over and left", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Print prices that arrive over a managed websocket.")
    parser.add_argument("--prices", type=int, default=5, help="how many; 0 goes on until Ctrl-C")
    asyncio.run(main(parser.parse_args().prices))
