"""
`python -m pydrm.testing.simulate --seeds 0-999`: many random lives of a cluster, and which of them went wrong.

For each seed that fails it prints what was violated and the command that replays it, in the order of the seeds however
many processes live them; the last line says how much was lived through.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial

import attrs

from pydrm.testing.simulation.faults import Life, live
from pydrm.testing.simulation.profiles import PROFILES

__all__ = ["main"]

_HANDED_OUT = 4  # seeds at a time, so that the processes are done at about the same time


def main(arguments: list[str] | None = None) -> int:
    """Returns 1 if any seed failed."""
    options = _parser().parse_args(arguments)
    return max(_live_all(nodes, profile, options) for profile in options.profile for nodes in options.nodes)


def _live_all(nodes: int, profile: str, options: argparse.Namespace) -> int:
    seeds: range = options.seeds
    failed, lived_s, cpu_s, began = 0, 0.0, 0.0, time.monotonic()
    one = partial(
        _one,
        nodes=nodes,
        workers=options.workers,
        profile=profile,
        seconds=options.seconds,
        traced=options.trace,
        log=options.log,
    )
    with _lives(one, options) as lives:
        for seed, (life, took_s) in zip(seeds, lives, strict=True):
            lived_s += life.seconds
            cpu_s += took_s
            if options.trace:
                print("\n".join(life.trace))
                print(f"fingerprint {life.fingerprint}")
            if life.violations:
                failed += 1
                more = f" (and {len(life.violations) - 1} more)" if life.violations[1:] else ""
                print(f"seed {seed} failed: {life.violations[0]}{more}")
                print(f"  replay: {_replay(seed, nodes, profile, options)}", flush=True)
            elif sys.stderr.isatty():
                print(f"\r{seed - seeds.start + 1} of {len(seeds)}", end="", file=sys.stderr)
    with_workers = f" and {options.workers} workers" if options.workers else ""
    print(
        f"{len(seeds)} seeds, {nodes} nodes{with_workers}, profile {profile}: {failed} failed; "
        f"{lived_s / 3600:.2f} simulated hours in {time.monotonic() - began:.0f} s, "
        f"{lived_s / cpu_s:.0f} simulated seconds per second of one core",
        flush=True,
    )
    return 1 if failed else 0


@contextmanager
def _lives(one: partial[tuple[Life, float]], options: argparse.Namespace) -> Iterator[Iterator[tuple[Life, float]]]:
    """What *one* returns for each seed, in their order."""
    jobs = min(options.jobs or len(os.sched_getaffinity(0)), len(options.seeds))
    if jobs == 1:
        yield map(one, options.seeds)
        return
    # Unlike multiprocessing's own pool, it says so when one of its processes was killed.
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool.map(one, options.seeds, chunksize=_HANDED_OUT)


def _one(
    seed: int, *, nodes: int, workers: int, profile: str, seconds: float, traced: bool, log: bool
) -> tuple[Life, float]:
    """One life, in whatever process, and what it cost of a core, in seconds."""
    if log:
        logging.basicConfig(level=logging.INFO, format="%(name)s %(message)s")
    former = logging.root.manager.disable
    logging.disable(logging.NOTSET if log else logging.CRITICAL)
    try:
        began = time.process_time()
        life = live(seed, nodes=nodes, workers=workers, profile=profile, seconds=seconds)
        took_s = time.process_time() - began
    finally:
        logging.disable(former)
    # Thousands of lines; they would have to be sent from one process to the other.
    return (life if traced else attrs.evolve(life, trace=[])), took_s


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pydrm.testing.simulate", description=__doc__)
    parser.add_argument("--seeds", type=_seeds, default="0-99", help="one, or a range such as 0-999 (default: 0-99)")
    parser.add_argument("--nodes", type=int, nargs="+", default=[3], help="also several, such as 3 5 (default: 3)")
    parser.add_argument("--workers", type=int, default=0, help="nodes without a vote (default: 0)")
    parser.add_argument(
        "--profile",
        choices=sorted(PROFILES),
        nargs="+",
        default=["everything"],
        help="or several (default: everything)",
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="of faults in each life (default: 30)")
    parser.add_argument("--jobs", type=int, default=1, help="processes; 0: one for each core (default: 1)")
    parser.add_argument("--trace", action="store_true", help="print what was done and what happened")
    parser.add_argument("--log", action="store_true", help="print what the nodes log")
    return parser


def _seeds(text: str) -> range:
    first, _, last = text.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    if not seeds:
        raise ValueError(f"{text} is no seed")
    return seeds


def _replay(seed: int, nodes: int, profile: str, options: argparse.Namespace) -> str:
    words = [f"python -m pydrm.testing.simulate --seeds {seed} --nodes {nodes}"]
    words += [f"--workers {options.workers}"] if options.workers else []
    words.append(f"--profile {profile} --seconds {options.seconds:g} --trace")
    return " ".join(words)


if __name__ == "__main__":
    sys.exit(main())
