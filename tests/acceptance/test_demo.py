"""`pydrm demo` without a terminal, and what it leaves behind: nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest


def begin(directory: Path) -> subprocess.Popen[str]:
    """The demo in a process of its own, with a directory of its own for temporary files."""
    return subprocess.Popen(
        [sys.executable, "-m", "pydrm", "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(directory)},
    )


def left_behind(directory: Path) -> list[str]:
    """Files in *directory*, and processes whose command line names it."""
    processes = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [str(path) for path in directory.iterdir()] + [
        line for line in processes.splitlines() if str(directory) in line
    ]


def test_it_shows_that_nothing_is_held_twice_and_leaves_nothing_behind(tmp_path: Path) -> None:
    demo = begin(tmp_path)

    stdout, stderr = demo.communicate(timeout=120)

    assert (demo.returncode, stderr) == (0, "")
    assert [line.split()[-1] for line in stdout.splitlines() if line.endswith("never")] == ["never"] * 4, stdout
    assert "\x1b" not in stdout
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_that_it_started(tmp_path: Path, number: signal.Signals) -> None:
    demo = begin(tmp_path)
    assert demo.stdout is not None
    for line in demo.stdout:
        if "held once" in line:
            break
    assert len(left_behind(tmp_path)) > 4  # the third party, three nodes and their files

    demo.send_signal(number)
    demo.communicate(timeout=30)

    assert demo.returncode == 128 + number
    assert left_behind(tmp_path) == []
