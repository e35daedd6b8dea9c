"""
`Nginx`: Debian's nginx on a port of its own, which serves files, and whose access log tells who asked for what.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import pytest

from pydrm.testing.ports import Ports

_CONF = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{}}
http {{
    log_format entries escape=json '{{"at": $msec, "status": $status, "method": "$request_method", '
        '"uri": "$request_uri", "if_none_match": "$http_if_none_match", '
        '"if_modified_since": "$http_if_modified_since", "key": "$http_x_key", "body": "$request_body"}}';
    access_log {directory}/access.log entries;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    default_type application/json;
    server {{
        listen 127.0.0.1:{port};
        root {directory}/www;
        {locations}
    }}
}}
"""


def nginx_program() -> str:
    """Its path. Skips the test if it is not installed, unless PYDRM_SERVERS=required."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None and os.environ.get("PYDRM_SERVERS") != "required":
        pytest.skip("nginx is not installed (apt-get install nginx)")
    assert program is not None, "nginx is not installed, and PYDRM_SERVERS=required"
    return program


class Nginx:
    """
    A context manager; blocks for the moment in which it starts.

    Args:
        locations: What stands in its configuration's server block, besides its files; PORT is its port.
    """

    def __init__(self, locations: str = "") -> None:
        self._program = nginx_program()
        self._locations = locations
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._directory = Path(self._closing.enter_context(tempfile.TemporaryDirectory(prefix="pydrm-nginx-")))
        self.port = self._closing.enter_context(Ports()).reserve()
        (self._directory / "www").mkdir()
        locations = self._locations.replace("PORT", str(self.port))
        conf = _CONF.format(directory=self._directory, port=self.port, locations=locations)
        (self._directory / "nginx.conf").write_text(conf)
        self.start()
        self._closing.callback(self.stop)
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.close()

    def start(self) -> None:
        arguments = [self._program, "-c", str(self._directory / "nginx.conf"), "-p", str(self._directory)]
        arguments += ["-e", str(self._directory / "error.log")]
        self._process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            assert self._process.poll() is None, (self._directory / "error.log").read_text()
            assert time.monotonic() < deadline, "nginx does not listen"
            time.sleep(0.01)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(10)

    def url(self, path: str = "list.json") -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def put(self, content: Any, path: str = "list.json", *, age_s: float = 0) -> None:
        """Serve *content* there; text as it is, anything else as JSON. It was written *age_s* ago."""
        target = self._directory / "www" / path
        temporary = target.with_suffix(".new")
        temporary.write_text(content if isinstance(content, str) else json.dumps(content))
        written_at = time.time() - age_s
        os.utime(temporary, (written_at, written_at))
        temporary.replace(target)

    def remove(self, path: str = "list.json") -> None:
        (self._directory / "www" / path).unlink()

    def requests(self) -> list[dict[str, Any]]:
        """What it was asked for, in order; a request is there once it is answered."""
        lines = (self._directory / "access.log").read_text().splitlines()
        return [json.loads(line) for line in lines]
