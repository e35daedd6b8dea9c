"""
Real servers of Debian's packages, as subprocesses on free ports of loopback with all their files in a directory given.

A test that needs one is skipped where it is not installed, unless PYDRM_SERVERS is "required", as CI sets it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pydrm.testing.ports import Ports

__all__ = ["Server", "mosquitto", "nginx", "postgres", "program", "redis_server"]

START_TIMEOUT_S = 20.0

# Debian keeps servers where an ordinary user's PATH does not look.
PLACES = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


def program(name: str, package: str, *places: str) -> str:
    """The path of *name*; skips the test if there is none."""
    found = shutil.which(name, path=os.pathsep.join([*places, PLACES]))
    if found is None:
        message = f"{name} is not installed (apt-get install {package})"
        if os.environ.get("PYDRM_SERVERS") == "required":
            pytest.fail(message)
        pytest.skip(message)
    return found


class Server:
    """One that listens on a port; it can be killed and started again on the same one."""

    def __init__(
        self, command: Sequence[str], port: int, directory: Path, *, user: str, stop_signal: signal.Signals
    ) -> None:
        self.port = port
        self._stop_signal = stop_signal
        self._command = command
        self._user = user
        self._log_path = directory / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it lets connections in."""
        with self._log_path.open("ab") as log:
            # As root, some refuse to run; elsewhere there is nobody else to be.
            user = self._user if self._user and os.getuid() == 0 else None
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=user, start_new_session=True
            )
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            log_text = self._log_path.read_text(errors="replace")
            assert self._process.poll() is None, f"it ended by itself:\n{log_text}"
            assert time.monotonic() < deadline_s, f"it does not listen:\n{log_text}"
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL; returns when it is gone, and all that it has forked."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def stop(self) -> None:
        """As its operator would, so that nothing of it is left anywhere."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(self._stop_signal)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()


@contextlib.contextmanager
def running(
    command: Sequence[str], port: int, directory: Path, *, user: str = "", stop_signal: signal.Signals = signal.SIGTERM
) -> Iterator[Server]:
    server = Server(command, port, directory, user=user, stop_signal=stop_signal)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def nginx(directory: Path) -> Iterator[Server]:
    """Serves the files in *directory* / "www"; its log, one line a request, is *directory* / "access.log"."""
    binary = program("nginx", "nginx-light")
    (directory / "www").mkdir(exist_ok=True)
    with Ports() as ports:
        port = ports.reserve()
        temporary = "\n".join(
            f"    {name}_temp_path {directory}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (directory / "nginx.conf").write_text(
            f"""
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{}}
http {{
{temporary}
    log_format diary '$msec $status $request_uri "$http_if_none_match" "$http_if_modified_since"';
    access_log {directory}/access.log diary;
    server {{
        listen 127.0.0.1:{port};
        root {directory}/www;
    }}
}}
"""
        )
        with running([binary, "-c", str(directory / "nginx.conf"), "-p", str(directory)], port, directory) as server:
            yield server


@contextlib.contextmanager
def redis_server(directory: Path) -> Iterator[Server]:
    """With an append-only file in *directory*, so that its streams survive a kill."""
    binary = program("redis-server", "redis-server")
    with Ports() as ports:
        port = ports.reserve()
        options = f"--port {port} --bind 127.0.0.1 --dir {directory} --save '' --appendonly yes --appendfsync always"
        command = [binary, *options.replace("''", "").split()]
        with running(command, port, directory) as server:
            yield server


@contextlib.contextmanager
def mosquitto(directory: Path) -> Iterator[Server]:
    """A broker that lets everybody in."""
    binary = program("mosquitto", "mosquitto")
    with Ports() as ports:
        port = ports.reserve()
        (directory / "mosquitto.conf").write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n")
        with running([binary, "-c", str(directory / "mosquitto.conf")], port, directory) as server:
            yield server


@contextlib.contextmanager
def postgres(directory: Path) -> Iterator[Server]:
    """With a superuser `postgres`, who needs no password from this machine."""
    places = [str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    initdb, binary = (program(name, "postgresql", *places) for name in ("initdb", "postgres"))
    # It refuses to run as root, and a pytest directory is nobody's but root's.
    user = "postgres" if os.getuid() == 0 else ""
    with Ports() as ports, tempfile.TemporaryDirectory(prefix="pydrm-postgres-") as name:
        data = Path(name) / "data"
        if user:
            shutil.chown(name, user)
        subprocess.run(
            [initdb, "-D", str(data), "-U", "postgres", "-A", "trust", "--no-sync"],
            check=True,
            capture_output=True,
            user=user or None,
            cwd=name,
        )
        port = ports.reserve()
        command = [binary, "-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", name, "-F"]
        with running(command, port, directory, user=user, stop_signal=signal.SIGINT) as server:
            wait_until([program("pg_isready", "postgresql", *places), "-q", "-h", "127.0.0.1", "-p", str(port)])
            yield server


def wait_until(command: Sequence[str]) -> None:
    """Return when *command* succeeds."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while subprocess.run(command, check=False, capture_output=True).returncode != 0:
        assert time.monotonic() < deadline_s, f"{command} does not succeed"
        time.sleep(0.05)
