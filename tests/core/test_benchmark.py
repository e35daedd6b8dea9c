"""The benchmark of the core runs; what it prints is for people, on a machine at rest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pydrm


def test_the_benchmark_prints_each_of_its_figures():
    """The documents quote them, so a change that breaks it must be seen."""
    script = Path(__file__).parents[2] / "benchmarks" / "core.py"

    ran = subprocess.run(
        [sys.executable, str(script), "--size", "1200"],
        env=os.environ | {"PYTHONPATH": str(Path(pydrm.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert (ran.returncode, ran.stderr) == (0, "")
    for what in ("adds", "renewals", "collection", "a picture taken", "a state restored", "taken over", "handed over"):
        assert what in ran.stdout
