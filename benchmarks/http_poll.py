"""
What a request of the http_poll kind costs, beside one of bare aiohttp: processor time of the clients' processes.

    python benchmarks/http_poll.py [--rounds 3] [--pollers 2000] [--interval 5] [--seconds 15]   (with pydrm installed)

Clients take turns, each in processes of its own: bare aiohttp with the same limits in a loop for each url; one node of
pydrm with its data directory on disk, with an interval for which no poll goes before it is in the log that it may;
three such nodes that share the pollers, so that all that is said is on three disks; and one node with an interval that
is just too short for that. Of the nodes' time it also says how much the app's thread took, which polls, and how much
the others, which replicate; and what they take when nothing is polled. The server is a process of its own too, and says
the same all the time. Whatever a client does before its pollers are all at work is not in the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
import attrs

from pydrm import Resource, ResourceManager

BODY = b'{"price": 100, "text": "' + b"x" * 200 + b'"}'
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
# From this interval on it is in the log before each poll that it may go: see `pydrm.handlers.http_poll.poller`.
CLAIMED_FROM_S = 5.0
NEVER_S = 86_400.0
SETTLE_S = 8.0  # until all are open


class Third(asyncio.Protocol):
    """The least that is HTTP: an answer for each end of a request's head."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        global answered
        heads = data.count(b"\r\n\r\n")
        answered += heads
        assert isinstance(self.transport, asyncio.Transport)
        self.transport.write(RESPONSE * heads)


answered = 0


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Third, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(answered, flush=True)


async def bare(port: int, pollers: int, interval_s: float) -> None:
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:

        async def poll(number: int) -> None:
            await asyncio.sleep(number / pollers * min(interval_s, 5.0))
            while True:
                began_s = time.monotonic()
                async with session.get(f"http://127.0.0.1:{port}/r{number}", allow_redirects=False) as response:
                    await response.read()
                await asyncio.sleep(began_s + interval_s - time.monotonic())

        async with asyncio.TaskGroup() as tasks:
            for number in range(pollers):
                tasks.create_task(poll(number))


async def ours(port: int, pollers: int, interval_s: float, binds: list[str]) -> None:
    """The first of the nodes at *binds*, and whoever else runs the same with another one first."""
    names = [f"n{bind.rpartition(':')[2]}" for bind in binds]
    peers = dict(zip(names[1:], binds[1:], strict=True))
    with tempfile.TemporaryDirectory(prefix="pydrm-benchmark-") as directory:
        node = ResourceManager(cluster="bench", node=names[0], bind=binds[0], peers=peers, data_dir=directory)
        async with node as drm:
            url = f"http://127.0.0.1:{port}/{{id}}"
            # Every node may: what is there already stays as it is.
            await drm.add(
                Resource(f"r{number}", kind="http_poll", url=url, interval=interval_s) for number in range(pollers)
            )
            await asyncio.Event().wait()


@attrs.frozen
class Cost:
    """
    Processor time of all of a client's processes in microseconds: for each request, or in each second if none is sent.

    Attributes:
        polling: That of the threads that poll.
        others: That of all other threads.
    """

    polling: float
    others: float

    @property
    def whole(self) -> float:
        return self.polling + self.others


def measure(client: str, options: argparse.Namespace, interval_s: float, nodes: int = 1) -> Cost:
    with contextlib.ExitStack() as ending:
        server = ending.enter_context(_child("serve"))
        port = int(_line(server))
        binds = [f"127.0.0.1:{bind}" for bind in _free_ports(nodes)]
        processes = [
            ending.enter_context(
                _child(client, str(port), str(options.pollers), str(interval_s), *binds[first:], *binds[:first])
            )
            for first in range(nodes)
        ]
        time.sleep(SETTLE_S + min(interval_s, CLAIMED_FROM_S))
        before, answered_before = [_cpu_s(process.pid) for process in processes], _answered(server)
        time.sleep(options.seconds)
        after, requests = [_cpu_s(process.pid) for process in processes], _answered(server) - answered_before
        ended = [process.poll() for process in processes]
        assert not any(ended), f"a client ended by itself: {ended}"
        # The last ones are opened late on a busy machine; they are not what it is about then.
        per = options.seconds if interval_s == NEVER_S else requests
        polling, whole = (
            sum(then[n] - now[n] for then, now in zip(after, before, strict=True)) / per * 1e6 for n in (0, 1)
        )
        return Cost(polling, whole - polling)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as closing:
        sockets = [closing.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def _child(*arguments: str):  # type: ignore[no-untyped-def]
    process = subprocess.Popen(
        [sys.executable, __file__, "child", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def _answered(server: subprocess.Popen[str]) -> int:
    assert server.stdin is not None
    server.stdin.write("\n")
    server.stdin.flush()
    return int(json.loads(_line(server)))


def _cpu_s(pid: int) -> tuple[float, float]:
    """User and system time of its main thread, and of all its threads (proc_pid_stat(5), fields 14 and 15)."""
    paths = (f"/proc/{pid}/task/{pid}/stat", f"/proc/{pid}/stat")
    main, whole = (Path(path).read_text().rpartition(")")[2].split() for path in paths)
    ticks_per_s = os.sysconf("SC_CLK_TCK")
    return (int(main[11]) + int(main[12])) / ticks_per_s, (int(whole[11]) + int(whole[12])) / ticks_per_s


def show(what: str, values: list[float], aim: str = "") -> None:
    numbers = (min(values), statistics.median(values), max(values))
    print(f"  {what:<64}{aim:>8}" + "".join(f"{number:>10.2f}" for number in numbers), flush=True)


def main() -> int:
    if sys.argv[1:2] == ["child"]:
        child(*sys.argv[2:])
        return 0
    parser = argparse.ArgumentParser(description="What a request of the http_poll kind costs.")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="how often each thing is measured")
    parser.add_argument("--pollers", type=int, default=2000, metavar="N")
    parser.add_argument("--interval", type=float, default=CLAIMED_FROM_S, metavar="S", help="5 or more")
    parser.add_argument("--seconds", type=float, default=15.0, metavar="S", help="how long it is watched")
    options = parser.parse_args()
    print(
        f"{options.pollers} pollers, {options.rounds} rounds, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    )
    print(f"{'us of CPU for each request':<66}" + "".join(f"{it:>{8 if it == 'aim' else 10}}" for it in COLUMNS))
    short_s = CLAIMED_FROM_S - 1
    modes = {
        f"bare aiohttp, every {options.interval:g} s": ("bare", options.interval, 1),
        f"http_poll, every {short_s:g} s, without the log": ("ours", short_s, 1),
        f"http_poll, every {options.interval:g} s, by the log; one node": ("ours", options.interval, 1),
        f"http_poll, every {options.interval:g} s, by the log; three nodes": ("ours", options.interval, 3),
        "three nodes, nothing polled: us in a second": ("ours", NEVER_S, 3),
    }
    costs: dict[str, list[Cost]] = {mode: [] for mode in modes}
    for _ in range(options.rounds):
        for mode, (client, interval_s, nodes) in modes.items():
            costs[mode].append(measure(client, options, interval_s, nodes))
    floor, short, one, three, idle = costs.values()
    for mode, measured in costs.items():
        show(mode, [cost.whole for cost in measured])
        if measured is not floor:
            show("    of that, the threads that poll", [cost.polling for cost in measured])
    for what, measured in (("without the log", short), ("one node", one), ("three nodes", three)):
        ratios = [mine.whole / its.whole for mine, its in zip(measured, floor, strict=True)]
        show(f"http_poll / bare; {what}", ratios, "<= 1.3")
    ratios = [mine.polling / its.whole for mine, its in zip(three, floor, strict=True)]
    show("http_poll / bare; three nodes, the threads that poll alone", ratios)
    requests_per_s = options.pollers / options.interval
    ratios = [(m.whole - i.whole / requests_per_s) / b.whole for m, i, b in zip(three, idle, floor, strict=True)]
    show("http_poll / bare; three nodes, less what they take idle", ratios)
    return 0


COLUMNS = ("aim", "least", "median", "most")


def child(role: str, *arguments: str) -> None:
    if role == "serve":
        asyncio.run(serve())
        return
    port, pollers, interval_s = int(arguments[0]), int(arguments[1]), float(arguments[2])
    if role == "bare":
        asyncio.run(bare(port, pollers, interval_s))
    else:
        asyncio.run(ours(port, pollers, interval_s, list(arguments[3:])))


if __name__ == "__main__":
    sys.exit(main())
