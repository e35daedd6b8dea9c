"""
What a websocket resource costs beside a connection of bare `websockets` with the same options.

    python benchmarks/websocket.py [--rounds 3] [--only NAME ...]    (with pydrm installed)

    memory      resident memory for each idle connection
    cpu         the client's processor time for each message of 100 bytes, callback and all
    opening     how many connections a second a client opens, from the call to the last one's handshake
    opening_cpu the client's processor time for that

Floor and ours take turns, each in a new process; the server is another one, and they share this machine's cores: where
it has few, look at processor times rather than at rates. Ours is a whole node, a cluster of one in memory, whose
renewals, reports and commits are in the figures; once more with picows if that is installed. All open at most 64 at
once, ping as often, and queue as much.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import platform
import resource
import signal
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

from websocket import client, server

CHILD = "--child"
KINDS = {"bare": "websockets", "ours": "pydrm", "fast": "pydrm, picows"}
IDLE = 2_000
TALKING = 100
MESSAGES = 2_000
OPENING = 5_000


class Process:
    """A child that prints lines and is told lines."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, CHILD, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def takes_along(self, other: Process) -> None:
        """Have *other* end as soon as this one has, so that nobody waits for what will not come."""
        threading.Thread(target=lambda: (self._process.wait(), other._process.kill()), daemon=True).start()

    def read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a child ended before its time")
        return line.strip()

    def tell(self, line: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()


@contextlib.contextmanager
def opened(which: str, count: int) -> Iterator[tuple[dict[str, float], Process, Process]]:
    """*count* connections: what they cost the client, the client, and the server."""
    third_party = Process("server", str(count))
    try:
        user = Process("client", which, f"ws://127.0.0.1:{third_party.read()}", str(count))
        user.takes_along(third_party)
        try:
            came_at_s = float(third_party.read())
            user.tell("how do you do?")
            said = json.loads(user.read())
            took = {name: said["open"][name] - said["began"][name] for name in ("rss_bytes", "cpu_s")}
            yield {**took, "wall_s": came_at_s - said["began"]["at_s"]}, user, third_party
        finally:
            user.end()
    finally:
        third_party.end()


def memory(which: str) -> float:
    with opened(which, IDLE) as (took, _, _):
        return took["rss_bytes"] / IDLE / 1024


def cpu(which: str) -> float:
    with opened(which, TALKING) as (_, user, third_party):
        # Once to warm up: what is imported and allocated first is no part of it.
        for count in (MESSAGES // 10, MESSAGES):
            user.tell(count * TALKING)
            third_party.tell(count)
            said = json.loads(user.read())
        return float(said["cpu_s"]) / (MESSAGES * TALKING) * 1e6


def opening(which: str) -> float:
    with opened(which, OPENING) as (took, _, _):
        return OPENING / took["wall_s"]


def opening_cpu(which: str) -> float:
    with opened(which, OPENING) as (took, _, _):
        return took["cpu_s"] / OPENING * 1e6


FIGURES: dict[str, tuple[Callable[[str], float], str, str]] = {
    "memory": (memory, f"{IDLE:,} idle connections: memory for each", "KiB"),
    "cpu": (cpu, f"{TALKING} connections: processor time for each message", "us"),
    "opening": (opening, f"{OPENING:,} connections opened, 64 at once", "/s"),
    "opening_cpu": (opening_cpu, f"{OPENING:,} connections opened, 64 at once: processor time for each", "us"),
}


def show(name: str, rounds: int) -> None:
    figure, what, unit = FIGURES[name]
    kinds = [which for which in KINDS if which != "fast" or importlib.util.find_spec("picows") is not None]
    taken: dict[str, list[float]] = {which: [] for which in kinds}
    for _ in range(rounds):
        for which in kinds:
            taken[which].append(figure(which))
    print(what)
    for which, values in taken.items():
        line = f"  {KINDS[which]:14}{statistics.median(values):10.1f} {unit:4} ({min(values):.1f} to {max(values):.1f})"
        if which != "bare":
            ratios = [mine / floor for floor, mine in zip(taken["bare"], values, strict=True)]
            line = f"{line:50} x {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(line, flush=True)


def main() -> int:
    if sys.argv[1:2] == [CHILD]:
        return server.main() if sys.argv[2] == "server" else client.main()
    parser = argparse.ArgumentParser(description="What a websocket resource costs.")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="how often each thing is measured")
    parser.add_argument("--only", nargs="+", choices=FIGURES, default=list(FIGURES), metavar="NAME")
    options = parser.parse_args()
    # The stack is unwound, and so the children end.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print(f"{os.cpu_count()} CPUs, {platform.machine()}, {platform.system()}, Python {platform.python_version()}")
    for name in options.only:
        show(name, options.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
