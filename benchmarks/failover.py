"""
How long nobody holds a resource: min, median and max of ten, by the third party's diary.

    python benchmarks/failover.py [--resources 1000] [--rounds 10]    (with pydrm installed)

Three nodes, a third party and this script share one machine, over loopback, so the numbers are of
the order of what a user sees and no more. tests/acceptance asserts the promises; here are the numbers.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydrm.testing.processes import ProcessCluster
from pydrm.testing.witness import Witness

NAMES = "abc"
PATIENCE_S = 60.0
REST_S = 1.0  # between two rounds


class Bench:
    """One cluster, put through the same things again and again; each method returns seconds."""

    def __init__(self, cluster: ProcessCluster, witness: Witness, resources: Sequence[str]) -> None:
        self._cluster = cluster
        self._witness = witness
        self._resources = resources

    def start(self) -> float:
        """From when the last node was started until all is held and shared evenly."""
        started_s = self._cluster.start()
        return self._settle(NAMES, started_s) - started_s

    def kill(self, *, leader: bool) -> tuple[float, float]:
        """From kill -9 until the last of its resources is held again; then from its start until it has its share."""
        leads = self._cluster.leader()
        victim = leads if leader else next(name for name in NAMES if name != leads)
        lost = self._held_by(victim)
        killed_s = self._cluster[victim].kill()
        self._settle([name for name in NAMES if name != victim], killed_s)
        held_again_s = max(gap.until_s for gap in self._witness.diary().gaps(lost, killed_s)) - killed_s
        return held_again_s, self._rejoin(victim)

    def stop(self, victim: str) -> list[float]:
        """SIGTERM: the gap of each resource that it handed over."""
        lost = self._held_by(victim)
        stopped_s = self._cluster[victim].terminate()
        self._cluster[victim].wait(timeout_s=PATIENCE_S)
        self._settle([name for name in NAMES if name != victim], stopped_s)
        gaps = self._witness.diary().gaps(lost, stopped_s)
        self._rejoin(victim)
        return [gap.seconds for gap in gaps]

    def restart(self, victim: str) -> float:
        """kill -9 and started again at once: from the start until it has its share back."""
        share = self._held_by(victim)
        killed_s = self._cluster[victim].kill()
        started_s = self._cluster.start(victim)
        back_s = self._witness.wait_back(share, killed_s, timeout_s=PATIENCE_S)
        self._settle(NAMES, back_s)
        self._witness.watch(REST_S)
        return back_s - started_s

    def check(self) -> None:
        """Numbers of a run in which a promise was broken are worth nothing."""
        overlaps = self._witness.diary().overlaps()
        if overlaps:
            raise SystemExit("held twice: " + "; ".join(map(str, overlaps[:5])))

    def _rejoin(self, name: str) -> float:
        started_s = self._cluster.start(name)
        seconds = self._settle(NAMES, started_s) - started_s
        self._witness.watch(REST_S)
        return seconds

    def _held_by(self, name: str) -> list[str]:
        return [stay.resource for stays in self._witness.diary().held().values() for stay in stays if stay.node == name]

    def _settle(self, nodes: Sequence[str], since_s: float) -> float:
        settled_s = self._witness.wait_settled(self._resources, nodes, since_s, timeout_s=PATIENCE_S)
        if settled_s == math.inf:
            raise SystemExit(f"not settled after {PATIENCE_S:.0f} s\n{self._cluster.log_tails()}")
        return settled_s


@contextlib.contextmanager
def stage(resources: int) -> Iterator[Bench]:
    """A new cluster; nothing is started yet but the third party."""
    with tempfile.TemporaryDirectory() as name, Witness(Path(name)) as witness:
        definitions = witness.resources(resources)
        with ProcessCluster(NAMES, resources=definitions, directory=Path(name)) as cluster:
            bench = Bench(cluster, witness, [str(definition["id"]) for definition in definitions])
            yield bench
            bench.check()


def measure(resources: int, rounds: int) -> None:
    starts = []
    for _ in range(rounds - 1):
        with stage(resources) as bench:
            starts.append(bench.start())
    with stage(resources) as bench:
        starts.append(bench.start())
        show("three nodes started: all held", starts)
        rejoins: list[float] = []
        for leader in (True, False):
            takeovers, returns = zip(*(bench.kill(leader=leader) for _ in range(rounds)), strict=True)
            show(f"kill -9 of {'the leader' if leader else 'a follower'}: held again", takeovers)
            rejoins += returns
        show("started again later: has its share", rejoins)
        show("kill -9, started again at once: has its share", [bench.restart(victim) for victim in victims(rounds)])
        gaps = [bench.stop(victim) for victim in victims(rounds)]
        show("SIGTERM: longest gap of a resource", [max(round_gaps) for round_gaps in gaps])
        show("SIGTERM: 99 % of the gaps are below", [percentile(round_gaps, 99) for round_gaps in gaps])


def victims(rounds: int) -> list[str]:
    return [NAMES[number % len(NAMES)] for number in range(rounds)]


def percentile(values: Sequence[float], percent: int) -> float:
    """By the nearest rank."""
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def show(what: str, seconds: Sequence[float]) -> None:
    numbers = (min(seconds), statistics.median(seconds), max(seconds))
    print(f"{what:<46}" + "".join(f"{number * 1000:9.0f}" for number in numbers), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Times of start, takeover and handover, by the third party's diary.")
    parser.add_argument("--resources", type=int, default=1000, metavar="N")
    parser.add_argument("--rounds", type=int, default=10, metavar="N")
    options = parser.parse_args()
    print(f"{options.resources} resources, 3 nodes, {options.rounds} rounds, lease_ttl 2 s")
    print(f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, Python {platform.python_version()}\n")
    print(f"{'milliseconds':<46}{'min':>9}{'median':>9}{'max':>9}")
    measure(options.resources, options.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
