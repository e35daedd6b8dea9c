"""
`pydrm demo`: what pydrm is for, in a quarter of a minute on one machine.

A third party and some nodes, each a process of its own. One node is killed with SIGKILL and brought
back, another one is stopped gracefully. What that cost is read from the third party's diary, never
from the nodes.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Self

import attrs

from pydrm.cli.tables import print_table
from pydrm.testing.demo_view import Picture, PlainView, View, rich_view
from pydrm.testing.diary import Diary
from pydrm.testing.processes import ProcessCluster
from pydrm.testing.witness import Witness

__all__ = ["add_arguments", "run"]

NODES_RANGE = (3, 9)
RESOURCES_RANGE = (1, 5000)
SETTLE_TIMEOUT_S = 30.0
LINGER_S = 2.0  # after each step, for the reader's sake and for an overlap to show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Starts a third party and some nodes on this machine, kills one, brings it back, stops one, and prints "
        "from the third party's diary how long each resource was held by nobody, or twice. Leaves nothing behind."
    )
    parser.add_argument("--nodes", metavar="N", type=_count(NODES_RANGE), default=3, help="default: 3")
    parser.add_argument("--resources", metavar="N", type=_count(RESOURCES_RANGE), default=12, help="default: 12")


def run(arguments: argparse.Namespace) -> int:
    """0 if no resource was held twice and each is held at the end, 1 if not, 128 + the signal's number after one."""
    try:
        with _Interruption() as interruption, contextlib.ExitStack() as closing:
            directory = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="pydrm-demo-")))
            witness = closing.enter_context(Witness(directory))
            resources = witness.resources(arguments.resources)
            names = "abcdefghi"[: arguments.nodes]
            cluster = closing.enter_context(ProcessCluster(names, resources=resources, directory=directory))
            view = closing.enter_context(_view(len(names), len(resources)))
            demo = _Demo(cluster, witness, view, [str(resource["id"]) for resource in resources], interruption)
            return demo.play()
    except _Interrupted as interrupted:
        print("interrupted; everything that was started is stopped", file=sys.stderr)
        return 128 + interrupted.number


@attrs.frozen
class _Step:
    """One thing that was done to the cluster; it lasts until the next one."""

    title: str
    from_s: float
    until_s: float


class _Demo:
    def __init__(
        self,
        cluster: ProcessCluster,
        witness: Witness,
        view: View,
        resources: Sequence[str],
        interruption: _Interruption,
    ) -> None:
        self._cluster = cluster
        self._witness = witness
        self._view = view
        self._resources = resources
        self._interruption = interruption
        self._began_s = time.monotonic()
        self._steps: list[_Step] = []
        self._states = dict.fromkeys(cluster.names, "not started")

    def play(self) -> int:
        names = self._cluster.names
        self._do(f"start {_listed(names)}", lambda: self._start(*names))
        killed = self._leader()
        self._do(f"kill -9 {killed}, the leader", lambda: self._kill(killed))
        self._do(f"start {killed} again", lambda: self._start(killed))
        stopped = next(name for name in names if name != killed)
        self._do(f"stop {stopped} gracefully", lambda: self._stop(stopped))
        self._view.close()
        return self._report()

    # What is done to the cluster; each returns the moment just before.

    def _start(self, *names: str) -> float:
        started_s = self._cluster.start(*names)
        self._states |= dict.fromkeys(names, "running")
        return started_s

    def _kill(self, name: str) -> float:
        self._states[name] = "killed"
        return self._cluster[name].kill()

    def _stop(self, name: str) -> float:
        self._states[name] = "stopped"
        return self._cluster[name].terminate()

    def _do(self, title: str, action: Callable[[], float]) -> None:
        self._say(title)
        from_s = action()
        nodes = [name for name, state in self._states.items() if state == "running"]

        def settled(diary: Diary) -> bool:
            self._look(diary)
            return diary.settled(self._resources, nodes, from_s) < time.monotonic()

        if self._witness.wait_until(settled, timeout_s=SETTLE_TIMEOUT_S):
            loads = self._witness.diary().loads(nodes)
            shares = ", ".join(f"{name} {load}" for name, load in sorted(loads.items()))
            self._say(f"  each resource is held once, loads are at most one apart: {shares}")
        else:
            self._say(f"  not well after {SETTLE_TIMEOUT_S:.0f} s\n{self._cluster.log_tails(8)}")
        self._witness.wait_until(self._look, timeout_s=LINGER_S)
        self._steps.append(_Step(title, from_s, time.monotonic()))

    def _leader(self) -> str:
        try:
            return self._cluster.leader()
        except RuntimeError:
            return self._cluster.names[-1]

    # What is told.

    def _say(self, text: str) -> None:
        self._view.say(time.monotonic() - self._began_s, text)

    def _look(self, diary: Diary) -> bool:
        """Show what there is to see; False, since there is always more to come."""
        self._interruption.check()
        held = diary.held()
        loads = diary.loads(self._cluster.names)
        self._view.show(
            Picture(
                elapsed_s=time.monotonic() - self._began_s,
                holders=[(name, [(stay.node, stay.token) for stay in held.get(name, ())]) for name in self._resources],
                nodes=[(name, self._states[name], loads[name]) for name in self._cluster.names],
            )
        )
        return False

    def _report(self) -> int:
        diary = self._witness.diary()
        print("\nWhat the third party's diary says\n")
        head = ("step", "opened", "unheld, median", "unheld, longest", "held twice")
        print_table(head, [_row(diary, step, self._resources) for step in self._steps])
        print()
        overlaps = diary.overlaps()
        unheld = [name for name in self._resources if name not in diary.held()]
        for overlap in overlaps[:10]:
            print(f"HELD TWICE: {overlap}")
        if unheld:
            print(f"HELD BY NOBODY AT THE END: {', '.join(unheld[:10])}{' ...' if len(unheld) > 10 else ''}")
        if overlaps or unheld:
            return 1
        print("No resource was ever held twice, and each of them is held at the end.")
        return 0


def _row(diary: Diary, step: _Step, resources: Sequence[str]) -> tuple[str, ...]:
    gaps = [gap.seconds for gap in diary.gaps(resources, step.from_s, step.until_s)]
    overlaps = diary.overlaps(step.from_s, step.until_s)
    return (
        step.title,
        str(len(diary.opened(step.from_s, step.until_s))),
        _duration(statistics.median(gaps)) if gaps else "-",
        _duration(max(gaps)) if gaps else "-",
        f"{len({overlap.first.resource for overlap in overlaps})} TIMES" if overlaps else "never",
    )


def _duration(seconds: float) -> str:
    if seconds == float("inf"):
        return "NOT HELD AGAIN"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


@contextlib.contextmanager
def _view(nodes: int, resources: int) -> Iterator[View]:
    title = (
        f"{nodes} nodes share {resources} websocket connection{'' if resources == 1 else 's'} to a third party, "
        "which keeps a diary of who is connected"
    )
    view = (rich_view(title) if sys.stdout.isatty() else None) or PlainView(title)
    try:
        yield view
    finally:
        view.close()


class _Interrupted(Exception):
    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _Interruption:
    """
    While it is entered, SIGINT and SIGTERM have an effect only where `check` is called.

    A KeyboardInterrupt can come between the start of a process and the line that remembers it, or into
    the cleaning up; this cannot.
    """

    def __init__(self) -> None:
        self._number = 0
        self._former: dict[signal.Signals, Any] = {}

    def check(self) -> None:
        if self._number:
            raise _Interrupted(self._number)

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._former[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._number = number


def _count(limits: tuple[int, int]) -> Callable[[str], int]:
    least, most = limits

    def count(text: str) -> int:
        number = int(text)
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"must be from {least} to {most}")
        return number

    return count
