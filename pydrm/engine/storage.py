"""
`Storage`: what a node reads when it starts, and what it writes from then on: the log, snapshots, and its identity.

Files of the log are read and written on one thread, those of snapshots on another; everything else is on the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pydrm.core.state import State
from pydrm.engine.config import EngineConfig
from pydrm.engine.data_directory import DataDirectory
from pydrm.engine.frames import Frame
from pydrm.engine.host import Host
from pydrm.engine.outbox import Outbox
from pydrm.engine.restore import restore_newest
from pydrm.engine.snapshots import Heading
from pydrm.engine.snapshotter import Snapshotter
from pydrm.errors import DiskFailed

__all__ = ["Storage"]


class Storage:
    """
    Belongs to the engine's loop.

    Attributes:
        outbox: What leaves once the log is on disk. From `open` on.
        snapshotter: From `open` on.
    """

    outbox: Outbox
    snapshotter: Snapshotter

    def __init__(self, config: EngineConfig, host: Host) -> None:
        """
        Locks the data directory.

        Raises:
            ConfigurationError: It is in use, another's or damaged.
            DiskFailed: It cannot be read or written.
        """
        self._path = config.data_dir
        self._host = host
        self._is_open = False
        self.directory = DataDirectory(config.data_dir, config.cluster, config.node, disk=host.disk, new_id=host.new_id)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"pydrm-{config.node}-disk")

    async def open(
        self,
        state: State,
        *,
        send: Callable[[str, Frame], None],
        synced: Callable[[], None],
        arrived: Callable[[Heading, State], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        """
        Have *state* become what the newest good snapshot holds, and the log what came after it.

        Args:
            send, synced: As with `Outbox`.
            arrived: As with `Snapshotter`.
            failed: Called when nothing can be written, or a snapshot not be read, and the node must stop.

        Raises:
            ConfigurationError: The data directory is damaged.
            DiskFailed: It cannot be read or written.
        """
        base = await restore_newest(self.directory, state)
        await asyncio.get_running_loop().run_in_executor(self._thread, self.directory.open_journal, base)
        self.outbox = Outbox(
            self.directory.journal,
            self._thread,
            send=send,
            synced=synced,
            failed=lambda error: failed(self.failure(error)),
        )
        self.snapshotter = Snapshotter(
            self.directory.snapshots,
            self.directory.journal,
            self._thread,
            send=lambda peer, frame: self.outbox.put([(peer, frame)]),
            log_bytes_min=self._host.disk.log_bytes,
            tail_bytes=self._host.disk.tail_bytes,
            arrived=arrived,
            outdated=failed,
            now=self._host.clock.now,
        )
        self._is_open = True

    def failure(self, error: OSError) -> DiskFailed:
        """What *error* means for the node."""
        failure = DiskFailed(f"writing to {self._path} failed: {error}. This node stops; look after its disk")
        failure.__cause__ = error
        return failure

    def silence(self) -> None:
        """Nothing leaves any more. Idempotent."""
        if self._is_open:
            self.outbox.close()

    def stop(self) -> None:
        """Nor is any snapshot taken or fetched. Idempotent."""
        self.silence()
        if self._is_open:
            self.snapshotter.close()

    async def close(self) -> None:
        """After `stop`: wait for what is being written, and give the lock back. Idempotent."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._thread.shutdown)
        if self._is_open:
            await loop.run_in_executor(None, self.snapshotter.shut)
        self.directory.close()
