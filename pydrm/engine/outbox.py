"""
`Outbox`: nothing leaves the node before what it depends on is on disk.

A message may say "I have this entry" or "you have my vote"; so it waits until one fdatasync has covered all that
was noted in the journal before it was made. Messages leave in the order in which they were made. While
one sync runs, the next batch gathers: that is the group commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor

from pydrm.engine.frames import Frame
from pydrm.engine.journal import Journal

__all__ = ["Outbox"]

Message = tuple[str, Frame]  # (peer, what is sent)


class Outbox:
    """Belongs to the engine's loop; only the writing itself runs on *disk*, one batch at a time."""

    def __init__(
        self,
        journal: Journal,
        disk: Executor,
        *,
        send: Callable[[str, Frame], None],
        synced: Callable[[], None],
        failed: Callable[[OSError], None],
    ) -> None:
        """
        Args:
            synced: Called whenever the disk has caught up with a batch.
            failed: Called at the first error, after which nothing is written and nothing leaves any more: what a
                failed sync has left on the disk cannot be known.
        """
        self._journal = journal
        self._disk = disk
        self._send = send
        self._synced = synced
        self._failed = failed
        self._waiting: list[Message] = []
        self._closed = False
        self.syncing = False

    def put(self, messages: list[Message]) -> None:
        """Send *messages* as soon as all that is noted in the journal now is on disk."""
        self._waiting += messages
        if not self.syncing and not self._closed:
            self._flush()

    def close(self) -> None:
        """Nothing leaves any more."""
        self._closed = True

    def _flush(self) -> None:
        held, self._waiting = self._waiting, []
        if not self._journal.dirty:
            self._leave(held)
            return
        self.syncing = True
        batch = self._journal.take_batch()
        written = asyncio.get_running_loop().run_in_executor(self._disk, self._journal.write, batch)
        written.add_done_callback(lambda future: self._written(future, held))

    def _written(self, written: asyncio.Future[None], held: list[Message]) -> None:
        self.syncing = False
        if self._closed:
            return
        try:
            written.result()
        except OSError as error:
            self._closed = True
            self._failed(error)
            return
        self._leave(held)
        self._synced()
        if not self.syncing and (self._waiting or self._journal.dirty):
            self._flush()

    def _leave(self, messages: list[Message]) -> None:
        for peer, frame in messages:
            self._send(peer, frame)
