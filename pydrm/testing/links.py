"""
TCP links between nodes that can be cut, in user space: no root, no firewall.

For each ordered pair of nodes there is a port: what *a* dials instead of *b*'s own address. Bytes
that would go over a cut link are held back, as TCP does when the network drops its segments, and go
on when it is healed: nothing is lost, reset or told to either end meanwhile. A dial over a cut link
is accepted and stays silent.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Self

__all__ = ["Links"]

CHUNK_BYTES = 64 * 1024
START_TIMEOUT_S = 10.0
ACCEPT_S = 0.02

Direction = tuple[str, str]  # (from, to)


class Links:
    """
    Runs its own loop in its own thread; all methods may be called from any other thread.

    A context manager: on exit every port and connection is closed.
    """

    def __init__(self, addresses: Mapping[str, str]) -> None:
        """*addresses*: where each node really listens, as host:port."""
        self._addresses = dict(addresses)
        self._pairs = [(one, other) for one in addresses for other in addresses if one != other]
        self._ports: dict[Direction, int] = {}
        self._flowing: dict[Direction, asyncio.Event] = {}
        self._carriers: dict[asyncio.Task[None], asyncio.StreamWriter] = {}  # with the near end of each
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="pydrm-links", daemon=True)

    def start(self) -> None:
        self._thread.start()
        if not self._started.wait(START_TIMEOUT_S):
            raise RuntimeError("the links did not start")

    def address(self, dialler: str, dialled: str) -> str:
        """What *dialler* has to dial to reach *dialled*."""
        return f"127.0.0.1:{self._ports[dialler, dialled]}"

    def cut(self, source: str, target: str, *, one_way: bool = False) -> None:
        """Hold back what *source* sends to *target*, and unless *one_way* what *target* sends to *source*."""
        self._loop.call_soon_threadsafe(self._flowing[source, target].clear)
        if not one_way:
            self._loop.call_soon_threadsafe(self._flowing[target, source].clear)

    def isolate(self, *nodes: str) -> None:
        """Cut every link between *nodes* and the others."""
        for node in nodes:
            for other in self._addresses:
                if other not in nodes:
                    self.cut(node, other)

    def heal(self) -> None:
        """Let everything through again, beginning with what was held back."""
        for flowing in self._flowing.values():
            self._loop.call_soon_threadsafe(flowing.set)

    def close(self) -> None:
        if not self._thread.is_alive():
            self._loop.close()
            return
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # On the loop.

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        async with asyncio.TaskGroup() as carriers:
            servers = [await self._listen(pair, carriers) for pair in self._pairs]
            self._started.set()
            await self._over.wait()
            # One that was accepted just now has no carrier yet, and asyncio loses it when its server closes.
            await asyncio.sleep(ACCEPT_S)
            for server in servers:
                server.close()
            for carrier, near in self._carriers.items():
                carrier.cancel()
                near.transport.abort()  # a carrier that has not begun yet would not close it

    async def _listen(self, pair: Direction, carriers: asyncio.TaskGroup) -> asyncio.Server:
        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            carrier = carriers.create_task(self._carry(pair, reader, writer))
            self._carriers[carrier] = writer
            carrier.add_done_callback(self._carriers.pop)

        self._flowing[pair] = asyncio.Event()
        self._flowing[pair].set()
        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self._ports[pair] = server.sockets[0].getsockname()[1]
        return server

    async def _carry(self, pair: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dialler, dialled = pair
        ends = [writer]
        try:
            await self._flowing[dialler, dialled].wait()
            host, _, port = self._addresses[dialled].rpartition(":")
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
            ends.append(far_writer)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(_pump(reader, far_writer, self._flowing[dialler, dialled]))
                pumps.create_task(_pump(far_reader, writer, self._flowing[dialled, dialler]))
        except* OSError:
            pass  # the far node is not there, or one end went: the other end sees its connection close
        finally:
            for end in ends:
                end.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flowing: asyncio.Event) -> None:
    """Copy until the end of *reader*, which is then passed on; both only while *flowing*."""
    while data := await reader.read(CHUNK_BYTES):
        await flowing.wait()
        writer.write(data)
        await writer.drain()
    await flowing.wait()
    if writer.can_write_eof():
        writer.write_eof()
