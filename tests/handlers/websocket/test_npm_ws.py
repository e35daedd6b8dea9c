"""
The websocket kind against npm's `ws`, which shares no code with the library that pydrm is built on.

It needs Node and `ws`: Debian's packages `nodejs` and `node-ws`, or `npm install --prefix DIRECTORY ws@8` with
PYDRM_NODE_MODULES=DIRECTORY/node_modules.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from pydrm.agent.message import Message
from pydrm.core.records import Condition
from pydrm.core.resource import Resource
from pydrm.engine.codec import decode_checkpoint
from pydrm.errors import Temporary
from pydrm.handlers.callbacks import Callbacks
from pydrm.handlers.websocket.kind import Websocket
from pydrm.testing.held import Held, until

SERVER = Path(__file__).with_name("ws_server.js")

pytestmark = pytest.mark.usefixtures("each_transport")


def _environment() -> dict[str, str]:
    places = [os.environ.get("PYDRM_NODE_MODULES", ""), os.environ.get("NODE_PATH", ""), "/usr/share/nodejs"]
    return {**os.environ, "NODE_PATH": os.pathsep.join(filter(None, places))}


def _is_there() -> bool:
    if shutil.which("node") is None:
        return False
    found = subprocess.run(
        ["node", "-e", "require('ws').WebSocketServer || process.exit(1)"],
        env=_environment(),
        capture_output=True,
        timeout=60,
    )
    return found.returncode == 0


@pytest.fixture(scope="module", autouse=True)
def _needs_ws() -> None:
    if not _is_there():
        why = "needs Node with ws: apt-get install nodejs node-ws, or PYDRM_NODE_MODULES"
        if os.environ.get("PYDRM_SERVERS") == "required":
            pytest.fail(why)
        pytest.skip(why)


class Counterpart:
    """
    The server, in a process of its own.

    Attributes:
        saw: What it says that it saw.
    """

    def __init__(self) -> None:
        self.saw: list[dict[str, Any]] = []
        self.url = ""
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Counterpart:
        self._process = await asyncio.create_subprocess_exec(
            "node", str(SERVER), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_environment(), limit=2**20
        )
        assert self._process.stdout is not None
        port = json.loads(await self._process.stdout.readline())["port"]
        self.url = f"ws://127.0.0.1:{port}"
        self._reading = asyncio.create_task(self._read(self._process.stdout))
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._reading is not None
        self._process.stdin.close()
        await self._process.wait()
        await self._reading

    async def _read(self, stream: asyncio.StreamReader) -> None:
        async for line in stream:
            self.saw.append(json.loads(line))


class Inbox:
    def __init__(self) -> None:
        self.data: list[Any] = []
        callbacks = Callbacks()
        callbacks.register("inbox", self.receive)
        self.kind = Websocket(callbacks)

    async def receive(self, message: Message) -> None:
        self.data.append(message.data)


def play(scene: Callable[[Counterpart], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60), Counterpart() as counterpart:
            await scene(counterpart)

    asyncio.run(limited())


def resource(url: str, **fields: Any) -> Resource:
    return Resource("r1", kind="websocket", url=url, on_message="inbox", **fields)


@pytest.mark.parametrize("compression", ["off", "deflate"])
def test_text_and_binary_go_there_and_come_back(compression: str) -> None:
    async def scene(counterpart: Counterpart) -> None:
        inbox = Inbox()
        fields = {"headers": {"X-Key": "{token}"}, "subprotocols": ["v9", "v1"], "compression": compression}
        held = Held(inbox.kind, resource(f"{counterpart.url}/echo", **fields))
        await held.until_open()

        for data in ("täxt", b"\x00\xff", "", "x" * 100_000):
            await held.hold.send(data)
        await until(lambda: len(inbox.data) == 4)
        await held.release()
        await until(lambda: "closed" in counterpart.saw[-1])

        assert inbox.data == ["täxt", b"\x00\xff", "", "x" * 100_000]
        deflates = "permessage-deflate" if compression == "deflate" else ""
        assert counterpart.saw[0] == {"connected": "/echo", "key": "7", "protocol": "v1", "deflates": deflates}
        assert counterpart.saw[-1] == {"closed": 1000, "reason": ""}

    play(scene)


def test_a_message_in_fragments_is_one_message() -> None:
    async def scene(counterpart: Counterpart) -> None:
        inbox = Inbox()
        held = Held(inbox.kind, resource(f"{counterpart.url}/fragments"))
        await until(lambda: len(inbox.data) == 2)
        await held.release()

        assert inbox.data == ["one text", b"\x00\xff"]

    play(scene)


def test_it_goes_on_where_it_was_and_shows_the_code_with_which_it_was_sent_away() -> None:
    async def scene(counterpart: Counterpart) -> None:
        inbox = Inbox()
        subject = resource(f"{counterpart.url}/feed?last_id={{checkpoint}}", decode="json", checkpoint_field="id")
        held = Held(inbox.kind, subject)
        await until(lambda: len(inbox.data) == 9)
        await held.release()

        assert inbox.data == [{"id": number} for number in range(1, 10)]
        assert decode_checkpoint(held.checkpoint) == 9
        assert "received 4000 (private use) come again" in str(held.told)

    play(scene)


def test_it_is_pinged_and_answers() -> None:
    async def scene(counterpart: Counterpart) -> None:
        held = Held(Inbox().kind, resource(f"{counterpart.url}/echo", ping_interval=0.1, ping_timeout=5))
        await until(lambda: counterpart.saw.count({"ping": True}) >= 3)

        assert held.conditions == [Condition.OPEN]
        await held.release()

    play(scene)


def test_one_that_is_cut_off_is_opened_again() -> None:
    async def scene(counterpart: Counterpart) -> None:
        held = Held(Inbox().kind, resource(f"{counterpart.url}/terminate"))
        await until(lambda: len([event for event in counterpart.saw if "connected" in event]) == 3)
        await held.release()

        assert "connection lost: no close frame received or sent" in str(held.told)

    play(scene)


def test_its_retry_after_is_heard() -> None:
    async def scene(counterpart: Counterpart) -> None:
        held = Held(Inbox().kind, resource(f"{counterpart.url}/busy"))
        held.task.cancel()
        with pytest.raises(Temporary, match="503") as raised:
            await Inbox().kind.run(held.hold)

        assert raised.value.delay is not None
        assert 7 <= raised.value.delay <= 7.7

    play(scene)
