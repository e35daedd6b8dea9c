"""
A process in which two nodes are linked, and file descriptors run out for some seconds. Run by test_hostile_clients.

    python -m tests.engine.starved_node ADDRESS_A ADDRESS_B

It says "starved", then how many frames arrived meanwhile and how often asyncio complained, then "fed"; it ends with its
standard input.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import sys

from pydrm.engine.frames import Vote
from tests.engine.loops import until
from tests.engine.peers import Peer, running

STARVED_S = 3.0


class Count(logging.Handler):
    count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1


async def main(addresses: dict[str, str]) -> None:
    complaints = Count()
    logging.getLogger("asyncio").addHandler(complaints)
    a, b = Peer("a", addresses, "ab"), Peer("b", addresses, "ab")
    async with running(a, b):
        await until(lambda: a.links and b.links and not a.strangers and not b.strangers)
        hoard = hoarded()
        say("starved")
        deadline = asyncio.get_running_loop().time() + STARVED_S
        sent = 0
        while asyncio.get_running_loop().time() < deadline:
            a.transport.send("b", Vote(sent))
            sent += 1
            await asyncio.sleep(0.02)
        await until(lambda: len(b.frames) == sent)
        say(f"{len(b.frames)} {complaints.count} {a.events} {b.events}".replace("'", ""))
        for descriptor in hoard:
            os.close(descriptor)
        say("fed")
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def hoarded() -> list[int]:
    """Every file descriptor that this process may still have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
    hoard: list[int] = []
    try:
        while True:
            hoard.append(os.dup(0))
    except OSError:
        return hoard


if __name__ == "__main__":
    asyncio.run(main({"a": sys.argv[1], "b": sys.argv[2]}))
