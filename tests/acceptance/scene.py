"""
What every acceptance test is played on: real `pydrm run` processes, and the third party as their judge.

The tests act through signals and the command line only, and believe the diary only. The bounds are
those that pydrm promises, and none is tighter than its promise.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from pydrm.cli.client import Client
from pydrm.testing.diary import Diary, Gap, Stay
from pydrm.testing.node_process import PROGRAM, Answer
from pydrm.testing.processes import ProcessCluster
from pydrm.testing.witness import Witness

__all__ = [
    "HANDOVER_S",
    "LEASE_TTL_S",
    "MARGIN_S",
    "RESTART_S",
    "START_S",
    "TAKEOVER_S",
    "Scene",
    "on_stage",
    "with_app",
]

LEASE_TTL_S = 2.0
START_S = 3.0  # three nodes started together: 1,000 resources held once each
TAKEOVER_S = 2.7  # kill -9: held again
HANDOVER_S = 0.25  # SIGTERM: gap of each resource
RESTART_S = 1.5  # started again at once after kill -9: has its share back
MARGIN_S = max(0.15 * LEASE_TTL_S, 0.3)  # what a node has for closing everything once its lease is over

ROOT = Path(__file__).parent.parent.parent
PATIENCE_S = 30.0  # how long a test waits for what is late, so that it can say how late it was


@attrs.frozen
class Scene:
    cluster: ProcessCluster
    witness: Witness
    ids: Sequence[str]

    @property
    def diary(self) -> Diary:
        return self.witness.diary()

    def settle(self, nodes: Sequence[str], since_s: float, ids: Sequence[str] | None = None) -> float:
        """Wait until *nodes* share the resources evenly, each held once; return since when they do."""
        wanted = self.ids if ids is None else ids
        settled_s = self.witness.wait_settled(wanted, nodes, since_s, timeout_s=PATIENCE_S)
        if settled_s == math.inf:
            held = self.diary.held()
            unheld = [name for name in wanted if name not in held]
            twice = [name for name, stays in held.items() if len(stays) > 1]
            raise AssertionError(
                f"not settled after {PATIENCE_S:.0f} s: {len(unheld)} unheld {unheld[:5]}, "
                f"{len(twice)} held twice {twice[:5]}, loads {self.diary.loads(nodes)}"
            )
        return settled_s

    def start_all(self) -> float:
        """Start every node at the same instant, and wait until all is well; return when the last was started."""
        started_s = self.cluster.start()
        self.settle(self.cluster.names, started_s)
        return started_s

    def agreed(self) -> list[str]:
        """
        Wait until every node shows the same state; return the ids that are under management in it.

        Only when nobody asks for changes any more: then a node that is behind has them soon. What is removed is listed
        until its holder has closed it, and does not count.
        """
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            seen = [self.cluster[name].status() for name in self.cluster.names]
            # A node has joined when it has applied all that was in the log before; until then several can agree on
            # what was long ago.
            digests = {status["digest"] for status in seen if status and status["lease"]["valid"]}
            if len(digests) == 1 and all(status and status["lease"]["valid"] for status in seen):
                return [row["id"] for row in self.resources_at(self.cluster.names[0]) if row["state"] != "removing"]
            assert time.monotonic() < deadline_s, f"they do not agree: {seen}\n{self.cluster.log_tails()}"
            time.sleep(0.05)

    def resources_at(self, name: str) -> list[dict[str, Any]]:
        """What the admin API of *name* lists."""
        return Client(self.cluster[name].admin, timeout=PATIENCE_S).resources()

    def others(self, *names: str) -> list[str]:
        return [name for name in self.cluster.names if name not in names]

    def held_by(self, name: str, at_s: float | None = None) -> list[Stay]:
        return [stay for stays in self.diary.held(at_s).values() for stay in stays if stay.node == name]

    def late(self, resources: Sequence[str], since_s: float, bound_s: float) -> list[Gap]:
        """The gaps in *resources* since then that had not ended *bound_s* after it."""
        return [gap for gap in self.diary.gaps(resources, since_s) if gap.until_s > since_s + bound_s]

    def add(self, ids: Sequence[str], *, at: str, timeout_s: float = 10) -> Answer:
        """Have the command line add websocket resources named *ids* through node *at*."""
        lines = (json.dumps({"id": name, "kind": "websocket", "url": self.witness.url}) for name in ids)
        return self.cluster[at].cli("add", "-", "--timeout", str(timeout_s), stdin="\n".join(lines))

    def verify(self) -> None:
        """What holds at the end of every scene, whatever happened in it."""
        diary = self.diary
        assert [str(overlap) for overlap in diary.overlaps()] == []
        assert diary.tokens_out_of_order() == []


def with_app(app: str) -> Sequence[str]:
    """What to run as `pydrm`, so that `pydrm run` has the app *app*, a module of the tests or the examples."""
    # What is given to the program comes before what it is told to run.
    lines = (
        "import sys",
        f"sys.path.insert(0, {str(ROOT)!r})",
        "from pydrm.cli.main import main",
        f"sys.argv += ['--app', {app!r}]",
        "sys.exit(main())",
    )
    return (sys.executable, "-c", "; ".join(lines))


@contextlib.contextmanager
def on_stage(
    directory: Path,
    names: Sequence[str] = "abc",
    *,
    resources: int = 1000,
    listed: bool = True,
    with_links: bool = False,
    data_dirs: Mapping[str, Path] | None = None,
    program: Sequence[str] = PROGRAM,
) -> Iterator[Scene]:
    """
    A scene in which nothing has been started but the third party.

    Args:
        listed: Whether each node's configuration file lists the resources; otherwise somebody must add them.
        with_links, data_dirs, program: See `ProcessCluster`.
    """
    directory.mkdir(exist_ok=True)
    with Witness(directory) as witness:
        definitions = witness.resources(resources)
        cluster = ProcessCluster(
            tuple(names),
            resources=definitions if listed else (),
            lease_ttl_s=LEASE_TTL_S,
            directory=directory,
            data_dirs=data_dirs,
            program=program,
            with_links=with_links,
        )
        with cluster:
            try:
                yield Scene(cluster, witness, [str(definition["id"]) for definition in definitions])
            except BaseException as error:
                error.add_note(f"at {time.monotonic():.2f}\n{cluster.log_tails()}")
                raise
