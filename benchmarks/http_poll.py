"""
What a request of the http_poll kind costs, beside one of bare aiohttp: processor time of the client's process.

    python benchmarks/http_poll.py [--rounds 3] [--pollers 2000] [--interval 4] [--seconds 12]   (with pydrm installed)

Three clients take turns, each in a process of its own: bare aiohttp with the same limits in a loop for each url; a
whole node of pydrm, a cluster of one with its data directory on disk; and such a node with an interval for which each
poll is a commit. The server is a process of its own too, and says the same all the time. Whatever a client does before
its pollers are all at work is not in the figure.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp

from pydrm import Resource, ResourceManager

BODY = b'{"price": 100, "text": "' + b"x" * 200 + b'"}'
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
# Above it each poll is preceded by a commit: see `pydrm.handlers.http_poll.poller`.
CLAIMED_FROM_S = 5.0
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


async def ours(port: int, pollers: int, interval_s: float) -> None:
    with tempfile.TemporaryDirectory(prefix="pydrm-benchmark-") as directory:
        async with ResourceManager(cluster="bench", node="a", bind="127.0.0.1:0", data_dir=directory) as drm:
            url = f"http://127.0.0.1:{port}/{{id}}"
            await drm.add(
                Resource(f"r{number}", kind="http_poll", url=url, interval=interval_s) for number in range(pollers)
            )
            await asyncio.Event().wait()


def measure(client: str, options: argparse.Namespace, interval_s: float) -> float:
    """Microseconds of the client's processor time for each request."""
    with contextlib.ExitStack() as ending:
        server = ending.enter_context(_child("serve"))
        port = int(_line(server))
        process = ending.enter_context(_child(client, str(port), str(options.pollers), str(interval_s)))
        time.sleep(SETTLE_S + interval_s)
        before_s, before = _cpu_s(process.pid), _answered(server)
        time.sleep(options.seconds)
        spent_s, requests = _cpu_s(process.pid) - before_s, _answered(server) - before
        assert process.poll() is None and requests
        return spent_s / requests * 1e6


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


def _cpu_s(pid: int) -> float:
    """User and system time of all its threads (proc_pid_stat(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def show(what: str, values: list[float], aim: str = "") -> None:
    numbers = (min(values), statistics.median(values), max(values))
    print(f"  {what:<60}{aim:>10}" + "".join(f"{number:>10.2f}" for number in numbers), flush=True)


def main() -> int:
    if sys.argv[1:2] == ["child"]:
        _, _, role, *arguments = sys.argv
        if role == "serve":
            asyncio.run(serve())
        else:
            port, pollers, interval_s = int(arguments[0]), int(arguments[1]), float(arguments[2])
            asyncio.run((bare if role == "bare" else ours)(port, pollers, interval_s))
        return 0
    parser = argparse.ArgumentParser(description="What a request of the http_poll kind costs.")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="how often each thing is measured")
    parser.add_argument("--pollers", type=int, default=2000, metavar="N")
    parser.add_argument("--interval", type=float, default=4.0, metavar="S")
    parser.add_argument("--seconds", type=float, default=12.0, metavar="S", help="how long it is watched")
    options = parser.parse_args()
    claimed_s = max(2 * options.interval, CLAIMED_FROM_S)
    print(
        f"{options.pollers} pollers, {options.rounds} rounds, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    )
    print(f"{'':<62}" + "".join(f"{column:>10}" for column in ("aim", "least", "median", "most")))
    floor, plain, claimed = [], [], []
    for _ in range(options.rounds):
        floor.append(measure("bare", options, options.interval))
        plain.append(measure("ours", options, options.interval))
        claimed.append(measure("ours", options, claimed_s))
    show(f"bare aiohttp, every {options.interval:g} s: us of CPU per request", floor)
    show(f"http_poll, every {options.interval:g} s", plain)
    show(f"http_poll, every {claimed_s:g} s, a commit before each", claimed)
    show("http_poll / bare", [mine / its for mine, its in zip(plain, floor, strict=True)], "<= 1.3")
    show("http_poll with a commit before each / bare", [mine / its for mine, its in zip(claimed, floor, strict=True)])
    return 0


if __name__ == "__main__":
    sys.exit(main())
