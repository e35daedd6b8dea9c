"""
How fast the engine is, beside what PySyncObj alone and the disk alone do on the same machine.

    python benchmarks/engine.py [--rounds 3] [--only NAME ...] [--resources 100000]    (with pydrm installed)

    latency    one small command at a time, from the leader and from a follower
    commands   many small commands under way at once
    resources  resources added in commands of 500
    idle       what a node costs that has nothing to do but to renew its lease
    workers    what fifty workers cost the voters that they follow
    leader     the leader is killed: when does another node apply something new?
    add        one `drm.add`: when is it acknowledged, and when does the holder open it?
    restart    a node comes back to a cluster of many resources

Three processes, their data directories on this machine's disk, and this script share its cores; so the numbers are of
the order of what a user sees on such a machine, and no more. Raft alone is what they are about: but for `idle`, `add`
and one line of `resources`, the nodes have leases and renew them, and no agent, which would open what they hold.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from engine import child, figures, rival
from engine.cluster import CHILD
from engine.stage import Stage

FIGURES: dict[str, Callable[[Stage], None]] = {
    "latency": figures.latency,
    "commands": figures.commands,
    "resources": figures.resources,
    "idle": figures.idle,
    "workers": figures.workers,
    "leader": figures.leader,
    "add": figures.add,
    "restart": figures.restart,
}


def main() -> int:
    if sys.argv[1:2] == [CHILD]:
        return rival.main() if sys.argv[2] == "rival" else child.main()
    parser = argparse.ArgumentParser(description="How fast the engine is.")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="how often each thing is measured")
    parser.add_argument("--only", nargs="+", choices=FIGURES, default=list(FIGURES), metavar="NAME")
    parser.add_argument("--resources", type=int, default=100_000, metavar="N", help="for `restart`")
    options = parser.parse_args()
    # The stack is unwound, and so the children end.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    print(f"3 nodes on loopback, lease_ttl {figures.LEASE_TTL_S:.0f} s, {options.rounds} rounds")
    print(f"{os.cpu_count()} CPUs, {platform.machine()}, {platform.system()}, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory(prefix="pydrm-benchmark-") as name:
        stage = Stage(Path(name), options.rounds, options.resources)
        for only in options.only:
            FIGURES[only](stage)
    return 0


if __name__ == "__main__":
    sys.exit(main())
