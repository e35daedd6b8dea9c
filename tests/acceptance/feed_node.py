"""
What runs as `pydrm` in the tests of websockets: with a callback that writes down each message that it is given.

A line of JSON each in FEED_DIARY/NODE.jsonl: when, which resource, under which token, which id. It is written by one
system call, so it is there although the process is killed right after it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from pydrm import Message, ResourceManager
from pydrm.cli.main import main

APP = f"{Path(__file__).stem}:set_up"


def set_up(drm: ResourceManager) -> None:
    node = drm.status()["node"]
    path = Path(os.environ["FEED_DIARY"]) / f"{node}.jsonl"
    diary = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    @drm.on_message("write_down")
    async def write_down(message: Message) -> None:
        line = {
            "at_s": time.monotonic(),
            "node": node,
            "resource": message.resource.id,
            "token": message.token,
            "id": message.data["id"],
        }
        os.write(diary, json.dumps(line).encode() + b"\n")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.exit(main([*arguments, "--app", APP] if arguments[0] == "run" else arguments))
