"""
A kind of one's own: LISTEN on a PostgreSQL channel, by one node of the cluster.

    pip install "psycopg[binary]"
    python examples/postgres_listen.py --dsn "host=/run/postgresql dbname=postgres" --notifications 3

A notification that is sent while nobody listens is lost. So let it say no more than "there is something new", and look
for what is new whenever a hold begins, and so after each move.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket

import psycopg

from pydrm import Hold, Resource, ResourceManager, Temporary


async def hold_listen(hold: Hold, received: asyncio.Queue[str]) -> None:
    """Listen, in the database `dsn`, on the channel that is called like the resource; put what comes in *received*."""
    try:
        async with await psycopg.AsyncConnection.connect(str(hold.resource["dsn"]), autocommit=True) as connection:
            # From here on pydrm can cut it. It is the same socket by a descriptor of our own; libpq owns the other.
            with socket.socket(fileno=os.dup(connection.fileno())) as same:
                hold.guard(same)
                await connection.execute(f'LISTEN "{hold.resource.id}"')
                # Only now: whoever notifies from here on is heard.
                hold.ready()
                await received.put(f"look for what is new in {hold.resource.id}, under token {hold.token}")
                async for notification in connection.notifies():
                    if not hold.valid:
                        return
                    await received.put(f"{notification.channel}: {notification.payload}")
    except psycopg.OperationalError as error:
        raise Temporary(str(error)) from error


async def main(dsn: str, notifications: int) -> None:
    drm = ResourceManager(cluster="listen", node="a", bind="127.0.0.1:0")
    received: asyncio.Queue[str] = asyncio.Queue(maxsize=100)

    @drm.handler("postgres_listen")
    async def postgres_listen(hold: Hold) -> None:
        await hold_listen(hold, received)

    async with drm:
        await drm.add(Resource("orders", kind="postgres_listen", dsn=dsn))
        for _ in range(1 + notifications):
            print(await received.get(), flush=True)
    print("handed over and left", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Print what is notified on the channel orders.")
    parser.add_argument("--dsn", default="dbname=postgres", help="where the database is, as libpq writes it")
    parser.add_argument("--notifications", type=int, default=3, help="how many to wait for")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.dsn, arguments.notifications))
