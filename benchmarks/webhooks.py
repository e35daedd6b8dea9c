"""
How many webhooks three nodes deliver, and how soon: `python benchmarks/webhooks.py`.

Three processes with their ledgers on disk, a receiver in a fourth that does next to nothing, and as the floor the same
number of bare POSTs by aiohttp from one process. Everything shares this machine's cores, and says how many there are.

    throughput   events published at one node, each for several webhooks; from the first publication until all is
                 delivered and committed
    latency      one event at a time for one webhook; from the call of `publish` until the receiver has the request
    steps        what the largest commands of the ledger cost to apply
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar

from pydrm import Resource, ResourceManager
from pydrm.testing.ports import Ports

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NAMES = "abc"
WEBHOOKS = 12
CONCURRENCY = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1000, help=f"each for {WEBHOOKS} webhooks (default: 1000)")
    parser.add_argument("--latencies", type=int, default=300, help="events one at a time (default: 300)")
    parser.add_argument("--directory", help="where the nodes' data goes (default: a temporary one)")
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        part, *arguments = options.part
        asyncio.run({"receiver": receiver, "node": node, "floor": floor}[part](*arguments))
        return
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        asyncio.run(measure(options, directory))
    steps()


async def measure(options: argparse.Namespace, directory: str) -> None:
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before it began")
    with Ports() as ports:
        addresses = [f"127.0.0.1:{ports.reserve()}" for _ in NAMES]
        served = await child("receiver")
        url = await line(served)
        count = options.events * WEBHOOKS
        bare = await child("floor", url, str(count))
        print(f"floor: {count} bare POSTs by aiohttp from one process: {float(await line(bare)):.0f}/s")
        nodes = [
            await child(
                "node", name, json.dumps(addresses), directory, url, str(options.events), str(options.latencies)
            )
            for name in NAMES
        ]
        for what in ("throughput", "latency"):
            print(f"{what}: {await line(nodes[0])}")
        for process in (*nodes, served, bare):
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def child(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--part", *arguments, stdout=asyncio.subprocess.PIPE
    )


async def line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    said = (await process.stdout.readline()).decode().strip()
    if not said:
        raise SystemExit("a part of the benchmark failed")
    return said


# --- the receiver -----------------------------------------------------------------------------------------------------


class Connection(asyncio.Protocol):
    """As little HTTP as will do: it reads whole requests and answers each with 204, or with the times of all so far."""

    times: ClassVar[list[float]] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.data = b""

    def data_received(self, data: bytes) -> None:
        self.data += data
        while b"\r\n\r\n" in self.data:
            head, _, rest = self.data.partition(b"\r\n\r\n")
            length = next((int(h[15:]) for h in head.split(b"\r\n") if h.lower().startswith(b"content-length:")), 0)
            if len(rest) < length:
                return
            self.data = rest[length:]
            if head.startswith(b"GET"):
                body = json.dumps(self.times).encode()
                self.times.clear()
                self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            else:
                self.times.append(time.monotonic() - json.loads(rest[:length])["at"])
                self.transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")


async def receiver() -> None:
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


async def floor(url: str, count: str) -> None:
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONCURRENCY)) as session:
        left = iter(range(int(count)))

        async def post() -> None:
            for _ in left:
                async with session.post(url, data=json.dumps({"at": time.monotonic()})) as response:
                    await response.read()

        began = time.monotonic()
        await asyncio.gather(*(post() for _ in range(CONCURRENCY)))
        print(int(count) / (time.monotonic() - began), flush=True)
        async with session.get(url) as response:
            await response.read()


# --- the nodes --------------------------------------------------------------------------------------------------------


async def node(name: str, addresses: str, directory: str, url: str, events: str, latencies: str) -> None:
    peers = dict(zip(NAMES, json.loads(addresses), strict=True))
    data_dir = Path(directory) / name
    async with ResourceManager(cluster="bench", node=name, bind=peers[name], peers=peers, data_dir=data_dir) as drm:
        if name != NAMES[0]:
            await asyncio.Event().wait()
        hooks = [hook(f"hook-{number}", url, "many") for number in range(WEBHOOKS)]
        await drm.add(*hooks, hook("one", url, "one"))
        await wait(lambda: all(row["state"] == "open" for row in drm.resources()))
        print(await throughput(drm, int(events)), flush=True)
        print(await latency(drm, url, int(latencies)), flush=True)
        await asyncio.Event().wait()


def hook(id: str, url: str, topic: str) -> Resource:
    return Resource(id, kind="webhook", url=url, topics=topic, secret=SECRET, allow=["127.0.0.0/8"])


async def throughput(drm: ResourceManager, events: int) -> str:
    left = iter(range(events))

    async def publish() -> None:
        for _ in left:
            await drm.publish("many", {"at": time.monotonic()})

    began = time.monotonic()
    await asyncio.gather(*(publish() for _ in range(CONCURRENCY)))
    published_s = time.monotonic() - began
    await wait(lambda: not undelivered(drm))
    took_s = time.monotonic() - began
    count = events * WEBHOOKS
    return f"{count} deliveries in {took_s:.2f} s: {count / took_s:.0f}/s; published at {events / published_s:.0f}/s"


async def latency(drm: ResourceManager, url: str, count: int) -> str:
    import aiohttp

    async with aiohttp.ClientSession() as session:
        async with session.get(url) as response:
            await response.read()
        for _ in range(count):
            await drm.publish("one", {"at": time.monotonic()})
            await asyncio.sleep(0.01)
        await wait(lambda: not undelivered(drm))
        async with session.get(url) as response:
            times = [1000 * taken for taken in json.loads(await response.read())]
    quantiles = statistics.quantiles(times, n=100)
    return f"p50 {quantiles[49]:.1f} ms, p99 {quantiles[98]:.1f} ms of {len(times)}"


def undelivered(drm: ResourceManager) -> int:
    return drm._running().engine.state.ledger.deliveries_count


async def wait(condition: Any) -> None:
    while not condition():  # noqa: ASYNC110 (there is no event for it)
        await asyncio.sleep(0.005)


# --- the steps --------------------------------------------------------------------------------------------------------


def steps() -> None:
    from pydrm.core import events
    from pydrm.core.commands import AddResources, Form, Join, RemoveResources, Request
    from pydrm.core.ledger_commands import Publish
    from pydrm.core.machine import apply
    from pydrm.core.records import Definition
    from pydrm.core.settings import Voter
    from pydrm.core.state import State

    state = State()
    apply(state, Request(Form("bench", (Voter("a", "replica-a"),), 2000)))
    apply(state, Request(Join("a", "nonce", 0, 2000)))

    def subscribe(names: list[str], topic: str) -> None:
        definitions = tuple(Definition(name, "webhook", b"", topics=(topic,)) for name in names)
        apply(state, Request(AddResources(definitions)))

    def timed(command: Any) -> float:
        began = time.perf_counter()
        apply(state, Request(command))
        return 1000 * (time.perf_counter() - began)

    names = [f"hook-{number}" for number in range(events.FANOUT_MAX)]
    subscribe(names[:500], "all")
    subscribe(names[500:], "all")
    fan_out = [timed(Publish(f"e{number}", "all", b"{}", "application/json")) for number in range(20)]
    subscribe(names[500:], "none")
    number = 0
    while state.ledger.deliveries_count + 500 <= events.DELIVERIES_MAX:
        number += 1
        timed(Publish(f"f{number}", "all", b"{}", "application/json"))
    print(f"step: one event for {events.FANOUT_MAX} webhooks: {statistics.median(fan_out):.1f} ms")
    few = names[500 - 100 : 500]
    held = sum(len(state.ledger.shelves[name]) for name in few)
    print(f"step: the end of {len(few)} webhooks with {held} deliveries: {timed(RemoveResources(tuple(few))):.1f} ms")


if __name__ == "__main__":
    main()
