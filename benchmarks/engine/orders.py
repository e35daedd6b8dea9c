"""
A child's end of its two pipes: a line of JSON in, a line of JSON out.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from typing import Any

__all__ = ["answer", "orders"]


def orders() -> queue.Queue[dict[str, Any]]:
    """What comes in. Once nobody is there any more to send anything this process ends, whatever it is doing."""
    coming: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=_read, args=(coming,), daemon=True).start()
    return coming


def answer(value: object) -> None:
    print(json.dumps(value), flush=True)


def _read(coming: queue.Queue[dict[str, Any]]) -> None:
    for line in sys.stdin:
        coming.put(json.loads(line))
    os._exit(0)
