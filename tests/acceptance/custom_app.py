"""
What the nodes of test_custom.py run: the kinds of the examples, whatever they receive written down in one diary.

Each line is one write, so that processes that are killed leave whole ones. The file's name is in the environment as
CUSTOM_DIARY, because PYDRM_... would be taken for a setting of the node.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from examples.mqtt import hold_mqtt
from examples.nightly import hold_nightly
from examples.postgres_listen import hold_listen
from pydrm import Hold, ResourceManager


def set_up(drm: ResourceManager) -> None:
    diary = os.open(os.environ["CUSTOM_DIARY"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    class Lines:
        """What the examples take for a queue of lines."""

        def __init__(self, hold: Hold) -> None:
            self._hold = hold

        async def put(self, text: str) -> None:
            hold = self._hold
            line = {
                "at_s": time.monotonic(),
                "node": hold.node,
                "resource": hold.resource.id,
                "token": hold.token,
                "text": text,
            }
            os.write(diary, f"{json.dumps(line)}\n".encode())

    @drm.handler("mqtt")
    async def mqtt(hold: Hold) -> None:
        lines: Any = Lines(hold)
        await hold_mqtt(hold, lines)

    @drm.handler("listen")
    async def listen(hold: Hold) -> None:
        lines: Any = Lines(hold)
        await hold_listen(hold, lines)

    @drm.handler("nightly")
    async def nightly(hold: Hold) -> None:
        lines = Lines(hold)

        async def job(night: int, node: str, again: bool) -> None:
            await lines.put(f"{night} {'again' if again else 'anew'}")

        await hold_nightly(hold, job)
