"""
`python -m pydrm.testing.simulate --seeds 0-999`: many random lives of a cluster, and which of them went wrong.

For each seed that fails it prints what was violated and the command that replays it; the last line says how much
was lived through.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time

from pydrm.testing.simulation.faults import PROFILES, live

__all__ = ["main"]


def main() -> int:
    """Returns 1 if any seed failed."""
    arguments = _parser().parse_args()
    first, _, last = arguments.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    logging.disable(logging.CRITICAL)
    if arguments.log:
        logging.disable(logging.NOTSET)
        logging.basicConfig(level=logging.INFO, format="%(name)s %(message)s")
    failed, lived_s, began = 0, 0.0, time.monotonic()
    for seed in seeds:
        life = live(seed, nodes=arguments.nodes, profile=arguments.profile, seconds=arguments.seconds)
        wrong = life.violations
        lived_s += life.seconds
        if arguments.trace:
            print("\n".join(life.trace))
            print(f"fingerprint {life.fingerprint}")
        if wrong:
            failed += 1
            print(f"seed {seed} failed: {wrong[0]}" + (f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""))
            print(f"  replay: {_replay(seed, arguments)}", flush=True)
        elif sys.stderr.isatty():
            print(f"\r{seed - seeds.start + 1} of {len(seeds)}", end="", file=sys.stderr)
    took = time.monotonic() - began
    print(
        f"{len(seeds)} seeds, {arguments.nodes} nodes, profile {arguments.profile}: {failed} failed; "
        f"{lived_s / 3600:.2f} simulated hours in {took:.0f} s, {lived_s / took:.0f} simulated seconds per second"
    )
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pydrm.testing.simulate", description=__doc__)
    parser.add_argument("--seeds", default="0-99", help="one, or a range such as 0-999 (default: 0-99)")
    parser.add_argument("--nodes", type=int, default=3, help="default: 3")
    parser.add_argument("--profile", choices=sorted(PROFILES), default="everything", help="default: everything")
    parser.add_argument("--seconds", type=float, default=30.0, help="of faults in each life (default: 30)")
    parser.add_argument("--trace", action="store_true", help="print what happened")
    parser.add_argument("--log", action="store_true", help="print what the nodes log")
    return parser


def _replay(seed: int, arguments: argparse.Namespace) -> str:
    words = [f"python -m pydrm.testing.simulate --seeds {seed} --nodes {arguments.nodes}"]
    words.append(f"--profile {arguments.profile} --seconds {arguments.seconds:g} --trace")
    return " ".join(words)


if __name__ == "__main__":
    sys.exit(main())
