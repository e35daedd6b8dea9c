"""
A whole cluster of `pydrm run` processes on loopback, and everything that can happen to one.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pydrm.testing.links import Links
from pydrm.testing.node_process import PROGRAM, NodeProcess
from pydrm.testing.ports import Ports

__all__ = ["ProcessCluster"]

LOOK_EVERY_S = 0.05


class ProcessCluster:
    """
    Nodes by name: `cluster["a"].kill()`.

    A context manager: on exit, however that comes about, its processes are killed, its ports are free
    and its files are gone. Blocks; not for an event loop.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        resources: Iterable[Mapping[str, Any]] = (),
        lease_ttl_s: float = 2.0,
        directory: Path | None = None,
        data_dirs: Mapping[str, Path] | None = None,
        program: Sequence[str] = PROGRAM,
        with_links: bool = False,
    ) -> None:
        """
        Reserve ports and write configuration files; starts nothing.

        Args:
            resources: What each node's configuration file lists; they can also be added later.
            directory: Where files go, and are left; without it, a temporary directory.
            data_dirs: Where nodes have their data directories, by name, if not in *directory*.
            program: What is run as `pydrm`; a test may put something between it and its operating system.
            with_links: Let the nodes reach each other through links that can be cut.
        """
        self.names = tuple(names)
        self.lease_ttl_s = lease_ttl_s
        self._resources = [dict(resource) for resource in resources]
        self._closing = contextlib.ExitStack()
        self._ports = self._closing.enter_context(Ports())
        self._directory = directory or self._temporary_directory()
        self._binds = {name: f"127.0.0.1:{self._ports.reserve()}" for name in names}
        self._links = self._closing.enter_context(Links(self._binds)) if with_links else None
        self._nodes: dict[str, NodeProcess] = {}
        for name in names:
            data_dir = (data_dirs or {}).get(name)
            self._nodes[name] = NodeProcess(self.settings(name), self._directory, data_dir=data_dir, program=program)

    @property
    def links(self) -> Links:
        if self._links is None:
            raise RuntimeError("this cluster was made without links")
        return self._links

    @property
    def admins(self) -> dict[str, str]:
        """The URL of each node's admin API, by name."""
        return {name: node.admin for name, node in self._nodes.items()}

    def __getitem__(self, name: str) -> NodeProcess:
        return self._nodes[name]

    def settings(self, name: str) -> dict[str, Any]:
        """What *name*'s configuration file says, but for its data directory."""
        bind = advertise = self._binds[name]
        peers = dict(self._binds)
        if self._links is not None:
            # Nobody listens there: peers that try it first fall back on the links, which differ for each of them.
            advertise = f"127.0.0.1:{self._ports.reserve()}"
            peers = {other: self._links.address(name, other) for other in self.names if other != name}
            peers[name] = advertise
        return {
            "cluster": "orders",
            "node": name,
            "bind": bind,
            "advertise": advertise,
            "admin": f"127.0.0.1:{self._ports.reserve()}",
            "lease_ttl": self.lease_ttl_s,
            "peers": peers,
            "resources": self._resources,
        }

    def add_stranger(self, name: str, **changes: Any) -> NodeProcess:
        """
        One more node that the others do not know of; it knows them and itself.

        *changes* go into its configuration, such as cluster="other". Not one of `names`; closed with the rest.
        """
        bind = f"127.0.0.1:{self._ports.reserve()}"
        settings = self.settings(self.names[0]) | {"node": name, "bind": bind, "advertise": bind}
        settings["peers"] = {**self._binds, name: bind}
        stranger = NodeProcess(settings | changes, self._directory)
        self._nodes[name] = stranger
        return stranger

    def add_worker(self, name: str) -> NodeProcess:
        """One more node, which lists the others as voters and has no vote. Closed with the rest."""
        return self.add_stranger(name, role="worker", peers=dict(self._binds))

    def start(self, *names: str) -> float:
        """Start *names*, or all, at the same instant; return when the last was started."""
        return max([self._nodes[name].start() for name in names or self.names])

    def wait_ready(self, *names: str, timeout_s: float = 30.0) -> None:
        """
        Return when each of *names*, or of all, has joined: it has applied all that was in the log before.

        Raises:
            RuntimeError: One of them ended.
            TimeoutError: One of them did not come so far.
        """
        deadline_s = time.monotonic() + timeout_s
        for name in names or self.names:
            node = self._nodes[name]
            while not self._ready(node):
                if not node.running:
                    raise RuntimeError(f"node {name} ended:\n{node.log_tail()}")
                if time.monotonic() > deadline_s:
                    raise TimeoutError(f"node {name} is not ready after {timeout_s} s:\n{node.log_tail()}")
                time.sleep(LOOK_EVERY_S)

    def leader(self) -> str:
        """The leader by the word of the first running node that knows one."""
        for name in self.running():
            status = self._nodes[name].status()
            if status is not None and status["leader"]:
                return str(status["leader"])
        raise RuntimeError(f"no running node knows a leader:\n{self.log_tails()}")

    def running(self) -> list[str]:
        return [name for name, node in self._nodes.items() if node.running]

    def log_tails(self, lines: int = 30) -> str:
        return "\n".join(node.log_tail(lines) for node in self._nodes.values())

    def close(self) -> None:
        """Kill what runs and clean up; safe to repeat."""
        for name in self.running():
            self._nodes[name].kill()
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _temporary_directory(self) -> Path:
        directory = Path(tempfile.mkdtemp(prefix="pydrm-"))
        self._closing.callback(shutil.rmtree, directory, ignore_errors=True)
        return directory

    def _ready(self, node: NodeProcess) -> bool:
        status = node.status()
        return status is not None and bool(status["lease"]["valid"])
