from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def printed(example: str, *arguments: str) -> list[str]:
    """The lines that the example printed before it ended well."""
    run = subprocess.run(
        [sys.executable, ROOT / "examples" / example, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def test_the_ticker_gets_prices_in_order_and_leaves_by_itself() -> None:
    *prices, last = printed("ticker.py", "--prices", "3")

    token = prices[0].split()[-1]
    assert prices == [f"btc {price} under token {token}" for price in (100, 101, 102)]
    assert last == "handed over and left"


def test_a_kind_of_ones_own_holds_its_resource() -> None:
    *lines, last = printed("lines.py")

    token = lines[0].split()[-1]
    assert lines == [f"line {number} of greeting for token {token}" for number in (1, 2, 3)]
    assert last == "handed over and left"
