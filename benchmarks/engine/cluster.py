"""
Three processes on loopback, each told what to do by a line of JSON, and answering by one.

Whatever ends this process, the children end too: in `close`, or because their standard input has ended.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydrm.testing.ports import Ports

__all__ = ["CHILD", "NAMES", "Cluster", "Node"]

CHILD = "child"  # the sub-command that nobody types
NAMES = ("a", "b", "c")
PATIENCE_S = 60.0

_SCRIPT = Path(__file__).resolve().parent.parent / "engine.py"


class Node:
    """One of the processes, as long as one runs under this name."""

    def __init__(self, settings: Mapping[str, Any], log: Path) -> None:
        self.name: str = settings["node"]
        self._settings = settings
        self._log = log
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str] = queue.Queue()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> float:
        """Start it; return when, on time.monotonic(). Its first answer says that it takes part."""
        started_s = time.monotonic()
        self._answers = queue.Queue()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(_SCRIPT), CHILD, self._settings["role"]],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # Ctrl-C is for us alone
            )
        threading.Thread(target=_read, args=(self._process, self._answers), daemon=True).start()
        self._write(self._settings)
        return started_s

    def ask(self, verb: str, *, timeout_s: float = PATIENCE_S, **arguments: Any) -> Any:
        self.tell(verb, **arguments)
        return self.answer(timeout_s=timeout_s)

    def tell(self, verb: str, **arguments: Any) -> None:
        """Have it begin; `answer` is to be called before it is told anything else."""
        self._write({"verb": verb, **arguments})

    def answer(self, *, timeout_s: float = PATIENCE_S) -> Any:
        try:
            line = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            line = ""
        if not line:
            raise SystemExit(f"node {self.name} does not answer:\n{self._log.read_text()[-4000:]}")
        return json.loads(line)

    def kill(self) -> float:
        """SIGKILL; return the moment just before."""
        assert self._process is not None
        killed_s = time.monotonic()
        self._process.kill()
        self._process.wait()
        return killed_s

    def close(self) -> None:
        """Idempotent."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()

    def cpu_s(self) -> float:
        """The CPU time of all its threads so far (proc_pid_stat(5): utime and stime)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self) -> int:
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def _write(self, message: Mapping[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()


class Cluster:
    """A context manager: its processes run, and have found each other, inside."""

    def __init__(self, directory: Path, role: str, **settings: Any) -> None:
        """*settings* are for the child of that *role*; each gets its name, its directory and all addresses besides."""
        directory.mkdir()
        self._ports = Ports()
        self._directory = directory
        self._addresses = {name: f"127.0.0.1:{self._ports.reserve()}" for name in NAMES}
        self._guests: list[Node] = []
        self.nodes = {name: self._node(name, role, settings) for name in NAMES}

    def invite(self, name: str, role: str, **settings: Any) -> None:
        """One more process, which is none of `nodes`; returns when it takes part."""
        guest = self._node(name, role, settings)
        self._guests.append(guest)
        guest.start()
        guest.answer()

    def leader(self) -> Node:
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            leading = [node for node in self.nodes.values() if node.ask("leads")]
            if len(leading) == 1:
                return leading[0]
            time.sleep(0.05)
        raise SystemExit("the nodes do not agree on a leader")

    def followers(self) -> list[Node]:
        leader = self.leader()
        return [node for node in self.nodes.values() if node is not leader]

    def ask_all(self, verb: str, **arguments: Any) -> list[Any]:
        for node in self.nodes.values():
            node.tell(verb, **arguments)
        return [node.answer() for node in self.nodes.values()]

    def __enter__(self) -> Self:
        try:
            for node in self.nodes.values():
                node.start()
            for node in self.nodes.values():
                node.answer()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        for node in [*self._guests, *self.nodes.values()]:
            node.close()
        self._ports.close()

    def _node(self, name: str, role: str, settings: Mapping[str, Any]) -> Node:
        own = {"role": role, "node": name, "addresses": self._addresses, "directory": str(self._directory / name)}
        return Node({**settings, **own}, self._directory / f"{name}.log")


def _read(process: subprocess.Popen[str], answers: queue.Queue[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        answers.put(line)
    answers.put("")
