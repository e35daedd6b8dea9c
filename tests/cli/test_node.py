from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pydrm
from pydrm.cli.exits import Exit
from pydrm.testing.ports import Ports

WELL = {"detail": "", "next_try": None, "source": None}

APP = """
import asyncio

def set_up(drm):
    @drm.handler("quiet")
    async def quiet(hold):
        hold.ready()
        await asyncio.Event().wait()

    @drm.handler("stubborn")
    async def stubborn(hold):
        hold.ready()
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                print("asked to close", flush=True)

async def set_up_later(drm):
    pass
"""

PATIENCE_S = 20.0


class Node:
    """`pydrm run` of a cluster of one in memory, with APP beside it."""

    def __init__(self, directory: Path, port: int) -> None:
        (directory / "myapp.py").write_text(APP)
        (directory / "a.toml").write_text('[pydrm]\ncluster = "orders"\nnode = "a"\ndrain_timeout = 60\n')
        self.directory = directory
        self._admin = f"127.0.0.1:{port}"
        self._process: subprocess.Popen[str] | None = None

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pydrm", "run", "a.toml", "--admin", self._admin, *arguments],
            cwd=self.directory,
            env=self.environment(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        return self._process

    def ask(self, *arguments: str, stdin: str = "") -> Any:
        """What the command prints as JSON; tried until the node listens."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            asked = subprocess.run(
                [sys.executable, "-m", "pydrm", *arguments, "--json", "--admin", self._admin],
                cwd=self.directory,
                env=self.environment(),
                text=True,
                input=stdin,
                capture_output=True,
                check=False,
                timeout=PATIENCE_S,
            )
            if asked.returncode != Exit.UNREACHABLE or time.monotonic() > deadline:
                assert asked.returncode == Exit.OK, asked.stderr
                return json.loads(asked.stdout)

    def hold(self, kind: str) -> dict[str, Any]:
        """Add a resource of *kind* and return how it shows once it is open."""
        self.ask("add", "-", stdin=json.dumps({"id": "r1", "kind": kind}))
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            shown: dict[str, Any]
            [shown] = self.ask("resources")
            if shown["state"] == "open":
                return shown
        raise TimeoutError(f"r1 is {shown['state']}")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def environment(self) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PYDRM_")}
        return ours | {"PYTHONPATH": str(Path(pydrm.__file__).parents[1])}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with Ports() as ports:
        node = Node(tmp_path, ports.reserve())
        yield node
        node.kill()


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """(exit code, stdout, stderr), once it has."""
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out, err


def test_a_node_runs_an_app_and_is_asked_from_outside(node: Node) -> None:
    """The whole way: definition in, open under a token, listed, removed, stopped."""
    process = node.start("--app", "myapp:set_up")

    shown = node.hold("quiet")
    status = node.ask("status")
    node.ask("remove", "r1")
    after = node.ask("resources")
    process.send_signal(signal.SIGTERM)

    assert shown == {"id": "r1", "kind": "quiet", "state": "open", "holder": "a", "token": shown["token"]} | WELL
    assert shown["token"] > 0
    assert (status["node"], status["cluster"], status["leader"], status["has_majority"]) == ("a", "orders", "a", True)
    counts = {"total": 1, "held": 1, "open": 1, "failing": 0, "unheld": 0, "moving": 0, "parked": 0}
    assert status["resources"] == counts
    assert [(seen["node"], seen["state"], seen["held"]) for seen in status["nodes"]] == [("a", "alive", 1)]
    assert after == []
    code, out, _ = ended(process)
    assert (code, out) == (Exit.OK, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_node_with_success(node: Node, number: signal.Signals) -> None:
    process = node.start("--app", "myapp:set_up")
    node.hold("quiet")

    process.send_signal(number)

    assert ended(process)[0] == Exit.OK


def test_a_second_signal_exits_now(node: Node) -> None:
    """The first one waits for a handler that does not let go; the second one does not."""
    process = node.start("--app", "myapp:set_up")
    node.hold("stubborn")
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert process.stdout.readline() == "asked to close\n"

    process.send_signal(signal.SIGTERM)

    assert ended(process)[0] == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    ("app", "problem"),
    [
        ("myapp", "--app: must be MODULE:ATTR"),
        ("nowhere:set_up", "--app: there is no module 'nowhere'"),
        ("myapp:nothing", "--app: the module 'myapp' has no 'nothing'"),
        ("myapp:set_up_later", "--app: 'myapp:set_up_later' must be a plain function"),
    ],
)
def test_an_app_that_cannot_be_used_is_a_configuration_error(node: Node, app: str, problem: str) -> None:
    code, _, err = ended(node.start("--app", app))

    assert code == Exit.INVALID
    assert problem in err
    assert "Traceback" not in err


def test_a_configuration_that_cannot_be_used_is_told_in_one_line(node: Node) -> None:
    code, _, err = ended(node.start("--bind", "nowhere"))

    assert code == Exit.INVALID
    assert "bind: must be host:port" in err
    assert len(err.splitlines()) == 1


def test_an_admin_address_in_use_stops_the_node_before_it_joins(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, err = ended(Node(tmp_path, taken.getsockname()[1]).start())

    assert code == Exit.INVALID
    assert "admin: cannot listen" in err


def test_a_second_node_on_a_data_directory_in_use_says_whose_it_is(node: Node) -> None:
    """Two processes that write one log would be two voters with one vote. The first one is not disturbed."""
    first = node.start("--app", "myapp:set_up", "--data-dir", "data")
    node.hold("quiet")

    second = subprocess.run(
        [sys.executable, "-m", "pydrm", "run", "a.toml", "--data-dir", "data"],
        cwd=node.directory,
        env=node.environment(),
        text=True,
        capture_output=True,
        check=False,
        timeout=PATIENCE_S,
    )

    assert second.returncode == Exit.INVALID
    assert f"data is in use by process {first.pid}; give each node a directory of its own" in second.stderr
    assert "Traceback" not in second.stderr
    assert [shown["state"] for shown in node.ask("resources")] == ["open"]


def test_the_log_is_json_if_asked_for(node: Node) -> None:
    process = node.start("--log-json")
    node.ask("status")
    process.send_signal(signal.SIGTERM)

    _, _, err = ended(process)

    messages = [json.loads(line)["message"] for line in err.splitlines()]
    assert "SIGTERM: handing over; once more exits now" in messages
