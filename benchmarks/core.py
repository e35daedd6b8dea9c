"""
What the state machine alone costs, at a size: no disk, no network, one process.

    python benchmarks/core.py [--size 1000000]    (with pydrm installed)

Requests are decoded from entries of a log, as in a node, but that is not in the times: they are of apply alone. All
times are this process's own on its processor, so that whatever else runs on the machine is not in them.
"""

from __future__ import annotations

import argparse
import gc
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from pydrm.core.commands import AddResources, Command, Expire, Form, Join, Place, Renew, Request
from pydrm.core.handle_commands import Handle, Release
from pydrm.core.machine import apply
from pydrm.core.picture import SECTION_TYPES, Head, Section, take
from pydrm.core.placement import unfinished
from pydrm.core.records import Assignment, Definition, Phase
from pydrm.core.restoring import Restoring
from pydrm.core.settings import Voter
from pydrm.core.state import State
from pydrm.engine.codec import decode_entry, encode_entry, encode_request

NAMES = ("node-1", "node-2", "node-3")
BATCH = 500
LEASE_TTL_MS = 2000


class Bench:
    """One state of three nodes, put through everything in turn."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.state = State()
        self._nonce = 0
        self._added = 0

    def build(self) -> None:
        before = rss_bytes()
        self.apply(Form("bench", tuple(Voter(name, f"replica-{name}") for name in NAMES), LEASE_TTL_MS))
        for name in NAMES:
            self._join(name)
        batches = (range(start, min(start + BATCH, self.size)) for start in range(0, self.size, BATCH))
        times = [self.apply(AddResources(tuple(map(definition, batch)))) for batch in batches]
        show_rate("adds, 500 in a command", self.size, times)
        show_pauses("  one such command", times)
        gc.collect()
        show("memory of the state, by RSS", (rss_bytes() - before) / self.size, "bytes/resource")

    def collect(self) -> None:
        show_pauses("a full garbage collection", [took(gc.collect) for _ in range(9)])

    def renew(self) -> None:
        node = self.state.nodes["node-1"]
        renewals = range(node.count + 1, node.count + 50_001)
        times = [self.apply(Renew(node.name, node.incarnation, count, LEASE_TTL_MS)) for count in renewals]
        show_rate("renewals", len(times), times)

    def add_singly(self) -> None:
        times = [self.apply(AddResources((definition(number),))) for number in self._new(3000)]
        show_pauses("one resource added", times)

    def picture(self) -> None:
        """What a snapshot costs, without file and network."""
        show_pauses("a picture taken", [took(lambda: take(self.state)) for _ in range(9)])
        picture = take(self.state)
        added = [self.apply(AddResources(tuple(map(definition, self._new(BATCH))))) for _ in range(9)]
        show_pauses("  the first commands that add 500 after it", added)
        start = time.process_time()
        encode = msgspec.msgpack.Encoder().encode
        chunks = [(section, encode(chunk)) for section in Section for chunk in picture.chunks(section)]
        show("  encoded in chunks of 1000", sum(len(chunk) for _, chunk in chunks) / 1e6, "MB")
        show_seconds("    which takes", time.process_time() - start)
        self._restore(picture.head, chunks)

    def _restore(self, head: Head, chunks: list[tuple[Section, bytes]]) -> None:
        decoders = {section: msgspec.msgpack.Decoder(tuple[type, ...]) for section, type in SECTION_TYPES.items()}
        before = rss_bytes()
        restoring = Restoring(head)
        reading, adding = [], []
        for section, chunk in chunks:
            start = time.process_time()
            items = decoders[section].decode(chunk)
            reading.append(time.process_time() - start)
            adding.append(took(lambda section=section, items=items: restoring.add(section, items)))
        finishing = list(steps(restoring.finish()))
        show_seconds("a state restored of them", sum(adding) + sum(finishing))
        show_seconds("  decoding them, on top", sum(reading))
        show("  memory of it, by RSS", (rss_bytes() - before) / len(restoring.state.records), "bytes/resource")
        show_pauses("  one chunk added", adding)
        show_pauses("  one step of finishing", finishing)
        show_pauses("  one step of giving up the former state", list(steps(restoring.state.empty())))

    def expire(self) -> None:
        """A third of all changes hands."""
        node = self.state.nodes["node-3"]
        lost = len(self.state.held_by(node.name, node.incarnation))
        times = [self.apply(Expire(node.name, node.incarnation, node.count)), *self._go_on_placing()]
        show_rate("taken over from a dead node", lost, times)
        show_pauses("  one such command", times)

    def release(self) -> None:
        """The dead node comes back, and the others hand over to it what is its share."""
        self._join("node-3")
        self._go_on_placing()
        moving = sum(assignment.phase is Phase.RELEASING for assignment in self.state.assignments.values())
        times = [self.apply(command) for command in self._releases()]
        show_rate("handed over to a node that joined", moving, times)
        show_pauses("  one such command", times)

    def apply(self, command: Command) -> float:
        """Seconds that *command* took, once it was decoded."""
        [request] = decode_entry(encode_entry([encode_request(Request(command))]))
        return took(lambda: apply(self.state, request))

    def _new(self, count: int) -> range:
        self._added += count
        return range(self.size + self._added - count, self.size + self._added)

    def _join(self, name: str) -> None:
        old = self.state.nodes.get(name)
        self._nonce += 1
        self.apply(Join(name, str(self._nonce), old.incarnation if old else 0, LEASE_TTL_MS))

    def _go_on_placing(self) -> list[float]:
        times = []
        while unfinished(self.state):
            times.append(self.apply(Place()))
        return times

    def _releases(self) -> Iterator[Release]:
        leaving: dict[tuple[str, int], list[Assignment]] = {}
        for assignment in self.state.assignments.values():
            if assignment.phase is Phase.RELEASING and assignment.holder is not None:
                leaving.setdefault((assignment.holder.node, assignment.holder.incarnation), []).append(assignment)
        gc.freeze()  # These lists are the benchmark's; a node has none.
        for (node, incarnation), assignments in leaving.items():
            for start in range(0, len(assignments), BATCH):
                batch = assignments[start : start + BATCH]
                handles = [Handle(each.resource, each.slot, each.holder.token) for each in batch if each.holder]
                yield Release(node, incarnation, tuple(handles))


def definition(number: int) -> Definition:
    fields = msgspec.msgpack.encode({"url": f"wss://feed.example/markets/{number:07}"})
    return Definition(f"resource-{number:07}", "websocket", fields)


def took(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def steps(iterator: Iterator[None]) -> Iterator[float]:
    """Seconds that each step of *iterator* took."""
    while True:
        start = time.process_time()
        done = next(iterator, iterator) is iterator
        yield time.process_time() - start
        if done:
            return


def rss_bytes() -> int:
    """What this process has in memory; Linux only."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def show_rate(what: str, count: int, seconds: Iterable[float]) -> None:
    show(what, count / sum(seconds), "/s")


def show_seconds(what: str, seconds: float) -> None:
    print(f"{what:<44}{seconds:>14.2f} s", flush=True)


def show_pauses(what: str, seconds: Sequence[float]) -> None:
    sorted_ms = [value * 1000 for value in sorted(seconds)]
    p99_ms = sorted_ms[math.ceil(len(sorted_ms) * 0.99) - 1]
    median = f"{statistics.median(sorted_ms):.3f}"
    print(f"{what:<44}{median:>14} ms    p99 {p99_ms:.3f} ms, longest {sorted_ms[-1]:.3f} ms", flush=True)


def show(what: str, value: float, unit: str) -> None:
    print(f"{what:<44}{value:>14,.0f} {unit}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="What the state machine alone costs, without disk and network.")
    parser.add_argument("--size", type=int, default=1_000_000, metavar="N")
    options = parser.parse_args()
    print(f"{options.size:,} resources, {len(NAMES)} nodes, one process")
    print(f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, Python {platform.python_version()}\n")
    bench = Bench(options.size)
    for measure in (
        bench.build,
        bench.collect,
        bench.renew,
        bench.add_singly,
        bench.picture,
        bench.expire,
        bench.release,
    ):
        measure()
    return 0


if __name__ == "__main__":
    sys.exit(main())
