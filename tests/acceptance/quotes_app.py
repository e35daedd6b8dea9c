"""
What the nodes that ask `Quotes` run: a callback that writes down each change that it is told of.

A line of JSON each, in one write, so that it is there although the process is killed right after it. PYDRM_TEST_LEDGER
would be taken for a setting of the node, so the file's name is in the environment as QUOTES_LEDGER.
"""

from __future__ import annotations

import json
import os
import time

from pydrm import ResourceManager, Response


def set_up(drm: ResourceManager) -> None:
    ledger = os.open(os.environ["QUOTES_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    @drm.on_message("write down")
    async def write_down(response: Response) -> None:
        line = {
            "at_s": time.monotonic(),
            "resource": response.resource.id,
            "token": response.token,
            "quote": response.data,
        }
        os.write(ledger, json.dumps(line).encode() + b"\n")
