"""
What the nodes of test_redis.py run: each message that is delivered goes into one diary, a line in one write.

PYDRM_TEST_DIARY would be taken for a setting of the node, so the file's name is in the environment as REDIS_DIARY.
"""

from __future__ import annotations

import json
import os
import time

from pydrm import ResourceManager
from pydrm.handlers.redis.pubsub import ChannelMessage
from pydrm.handlers.redis.stream import Entry


def set_up(drm: ResourceManager) -> None:
    diary = os.open(os.environ["REDIS_DIARY"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(resource: str, token: int, number: int) -> None:
        line = json.dumps({"at_s": time.monotonic(), "resource": resource, "token": token, "number": number})
        os.write(diary, f"{line}\n".encode())

    @drm.on_message("entries")
    async def on_entry(entry: Entry) -> None:
        write(entry.resource.id, entry.token, int(entry.data["n"]))

    @drm.on_message("channels")
    async def on_channel(message: ChannelMessage) -> None:
        write(message.resource.id, message.token, int(message.data))
