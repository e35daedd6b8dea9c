"""
One node as a process of the operating system: `pydrm run` with a configuration file of its own.

Whoever uses this sees the node as its operator does: signals, the command line, the log.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from pydrm.cli.client import Client
from pydrm.cli.exits import Failed

__all__ = ["Answer", "NodeProcess", "run_cli"]

PROGRAM = (sys.executable, "-m", "pydrm")
CLI_TIMEOUT_S = 30.0
STATUS_TIMEOUT_S = 5.0


@attrs.frozen
class Answer:
    """How a run of the command line ended."""

    exit_code: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        return json.loads(self.stdout)


class NodeProcess:
    """
    A node's configuration, data directory and log, and the process as long as one runs.

    Every method that does something to the process returns the moment just before it did, on
    `time.monotonic()`: the same clock as the third party's diary.

    Attributes:
        name: The node's.
        admin: The URL of its admin API.
        data_dir: Its data directory.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        directory: Path,
        *,
        data_dir: Path | None = None,
        program: Sequence[str] = PROGRAM,
    ) -> None:
        """
        Write the configuration file into *directory*, and nothing else yet.

        Args:
            settings: What the file says, with `peers` and `resources`; `data_dir` is filled in.
            data_dir: Without it, one in *directory*.
            program: What is run as `pydrm`.
        """
        self.name: str = settings["node"]
        self.admin = f"http://{settings['admin']}"
        self.data_dir = data_dir or directory / f"data-{self.name}"
        self._program = tuple(program)
        self._config_path = directory / f"{self.name}.toml"
        self._log_path = directory / f"{self.name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._config_path.write_text(_toml({"data_dir": str(self.data_dir)} | dict(settings)), encoding="utf-8")
        self._log_path.touch()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Of the process that runs, or ran last; 0 before the first."""
        return self._process.pid if self._process is not None else 0

    def start(self) -> float:
        """Start the process, and do not wait for anything."""
        if self.running:
            raise RuntimeError(f"node {self.name} runs already")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYDRM_")}
        started_s = time.monotonic()
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._program, "run", str(self._config_path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,  # Ctrl-C is for us alone; we stop our nodes ourselves
            )
        return started_s

    def kill(self) -> float:
        """SIGKILL; returns when the process is gone."""
        killed_at_s = self._signal(signal.SIGKILL)
        self.wait(timeout_s=10)
        return killed_at_s

    def terminate(self) -> float:
        """SIGTERM; `wait` tells when it was heeded."""
        return self._signal(signal.SIGTERM)

    def freeze(self) -> float:
        """SIGSTOP: it runs no further, and its sockets stay open."""
        return self._signal(signal.SIGSTOP)

    def wait_frozen(self, *, timeout_s: float = 10.0) -> None:
        """
        Return when none of its threads runs any more; what they had begun in the kernel is over.

        Raises:
            TimeoutError: Some still do.
        """
        deadline_s = time.monotonic() + timeout_s
        while any(_state(thread) != "T" for thread in Path(f"/proc/{self.pid}/task").iterdir()):
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"node {self.name} still runs after {timeout_s} s")
            time.sleep(0.005)

    def thaw(self) -> float:
        return self._signal(signal.SIGCONT)

    def wait(self, *, timeout_s: float) -> int:
        """
        The exit code, once the process has ended; negative for a signal.

        Raises:
            TimeoutError: It still runs.
        """
        assert self._process is not None
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"node {self.name} still runs after {timeout_s} s:\n{self.log_tail()}") from None

    def wipe(self) -> None:
        """Lose the data directory, as with a new disk; the process must not run."""
        assert not self.running
        shutil.rmtree(self.data_dir)

    def cli(self, *arguments: str, stdin: str = "", timeout_s: float = CLI_TIMEOUT_S) -> Answer:
        """Run `pydrm` with *arguments* against this node's admin API."""
        return run_cli(*arguments, "--admin", self.admin, stdin=stdin, timeout_s=timeout_s)

    def status(self) -> dict[str, Any] | None:
        """How the node sees its cluster, as its admin API tells; None if that does not answer."""
        try:
            return Client(self.admin, timeout=STATUS_TIMEOUT_S).status()
        except Failed:
            return None

    def log(self) -> str:
        """All that its processes have logged so far."""
        return self._log_path.read_text(encoding="utf-8", errors="replace")

    def log_tail(self, lines: int = 30) -> str:
        return "\n".join(f"[{self.name}] {line}" for line in self.log().splitlines()[-lines:])

    def _signal(self, number: signal.Signals) -> float:
        if not self.running or self._process is None:
            raise RuntimeError(f"node {self.name} does not run:\n{self.log_tail()}")
        now_s = time.monotonic()
        self._process.send_signal(number)
        return now_s


def run_cli(*arguments: str, stdin: str = "", timeout_s: float = CLI_TIMEOUT_S) -> Answer:
    """Run `pydrm` with *arguments*, and wait for it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYDRM_")}
    done = subprocess.run(
        [*PROGRAM, *arguments],
        check=False,
        input=stdin,
        capture_output=True,
        text=True,
        env=environment,
        timeout=timeout_s,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def _state(thread: Path) -> str:
    """One letter, see proc_pid_stat(5)."""
    return (thread / "stat").read_text().rpartition(")")[2].split()[0]


def _toml(settings: Mapping[str, Any]) -> str:
    """The configuration file that says *settings*."""
    plain = {name: value for name, value in settings.items() if name not in ("peers", "resources")}
    lines = ["[pydrm]", *_pairs(plain)]
    if "peers" in settings:
        lines += ["", "[pydrm.peers]", *_pairs(settings["peers"])]
    for resource in settings.get("resources", ()):
        lines += ["", "[[pydrm.resources]]", *_pairs(resource)]
    return "\n".join(lines) + "\n"


def _pairs(values: Mapping[str, Any]) -> Iterable[str]:
    return (f"{_value(name)} = {_value(value)}" for name, value in values.items())


def _value(value: Any) -> str:
    """TOML strings, numbers, booleans and arrays are written as JSON writes them; tables are not."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(_pairs(value)) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)
