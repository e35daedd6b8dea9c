"""
A job that runs on one node only, night after night: a failover neither repeats a night nor skips one.

    python examples/nightly.py --nights 4 --every 2      nights of two seconds, on three nodes in this process

The night that is over stands in the checkpoint. A night that was begun is in it too, so whoever goes on after a crash
knows that the job may have done some of its work, and can look; without that, nobody could tell.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from pydrm import Hold, Resource, ResourceManager
from pydrm.testing.ports import Ports

# Is given the number of the night, the node, and whether another one may have begun it.
Job = Callable[[int, str, bool], Awaitable[None]]


async def hold_nightly(hold: Hold, job: Job) -> None:
    """Run *job* once in each period of `every` seconds since the epoch; 86,400 are nights."""
    every_s = float(str(hold.resource["every"]))
    hold.ready()
    while True:
        last = hold.last_checkpoint or {"over": int(time.time() // every_s), "begun": 0}
        # Not the current night but the one after the last: what nobody did while there was no majority is made up for.
        night = last["over"] + 1
        await asyncio.sleep(max(night * every_s - time.time(), 0))
        # Each returns when a majority has it on disk, and raises Fenced if this node is not the holder any more.
        await hold.checkpoint({"over": night - 1, "begun": night})
        await job(night, hold.node, last["begun"] == night)
        await hold.checkpoint({"over": night, "begun": night})


async def main(nights: int, every_s: float) -> None:
    done: asyncio.Queue[tuple[int, str]] = asyncio.Queue()

    async def job(night: int, node: str, again: bool) -> None:
        await done.put((night, node))

    def node(name: str, peers: dict[str, str], directory: str) -> ResourceManager:
        drm = ResourceManager(
            cluster="nightly", node=name, bind=peers[name], peers=peers, data_dir=Path(directory) / name
        )

        @drm.handler("nightly")
        async def nightly(hold: Hold) -> None:
            await hold_nightly(hold, job)

        return drm

    with tempfile.TemporaryDirectory() as directory, Ports() as ports:
        peers = {name: f"127.0.0.1:{ports.reserve()}" for name in "abc"}
        nodes = {name: node(name, peers, directory) for name in peers}
        await asyncio.gather(*(drm.start() for drm in nodes.values()))
        await nodes["a"].add(Resource("report", kind="nightly", every=every_s))
        for number in range(nights):
            night, holder = await done.get()
            print(f"night {night} on node {holder}", flush=True)
            if number == 0:
                await nodes.pop(holder).stop()
        await asyncio.gather(*(drm.stop() for drm in nodes.values()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A nightly job on three nodes, one of which leaves after the first.")
    parser.add_argument("--nights", type=int, default=4, help="how many to wait for")
    parser.add_argument("--every", type=float, default=2.0, help="how many seconds a night is")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.nights, arguments.every))
