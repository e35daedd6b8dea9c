"""
Raw connections to a node, on loopback: what anybody may say, frame by frame.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from pydrm.engine.frames import (
    Frame,
    Hello,
    decode_frame,
    encode_frame,
)
from pydrm.testing.ports import Ports

HELLO = Hello(
    version=1,
    cluster="orders",
    node="?",
    role="voter",
    replica_id="?",
    cluster_id="",
    boot=3,
    nonce="?",
    address="",
    voters=("a", "b", "c"),
)


def hello(node: str, **fields: object) -> Hello:
    own = {"node": node, "replica_id": f"replica-{node}", "nonce": f"nonce-{node}", **fields}
    return msgspec.structs.replace(HELLO, **own)


class Addresses(dict[str, str]):
    """Where each node listens: reserved when it is first asked for."""

    def __init__(self, ports: Ports) -> None:
        super().__init__()
        self._ports = ports

    def __missing__(self, name: str) -> str:
        self[name] = f"127.0.0.1:{self._ports.reserve()}"
        return self[name]


class Stranger:
    """Whoever connects, and sends what the test says."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    @asynccontextmanager
    async def dial(cls, address: str) -> AsyncIterator[Stranger]:
        host, _, port = address.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            yield cls(reader, writer)
        finally:
            writer.close()

    def send(self, *frames: Frame) -> None:
        for frame in frames:
            data = encode_frame(frame)
            self.send_bytes(len(data).to_bytes(4, "little") + data)

    def send_bytes(self, data: bytes) -> None:
        self._writer.write(data)

    async def receive(self) -> Frame:
        """The next frame. Raises EOFError or OSError when the connection is closed."""
        length = int.from_bytes(await self._reader.readexactly(4), "little")
        return decode_frame(await self._reader.readexactly(length))

    async def rest(self) -> list[Frame]:
        """Whatever comes until the other side closes the connection."""
        frames = []
        try:
            while True:
                frames.append(await self.receive())
        except (EOFError, ConnectionError):
            return frames
