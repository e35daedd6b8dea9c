"""
`Snapshotter`: takes snapshots, gives them to who lags behind, fetches one when this node does; and cuts the log.

A snapshot is taken when the log since the last has become longer than the state that it would save reading again:
by bytes, of which each entry counts some besides its command (see `entries`). The picture is taken between two
entries; it is written while the log goes on. When it is on disk, what is older goes: in memory but for a tail that
spares peers that are a little behind a whole snapshot, on disk up to the older of the two snapshots that are kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor

from pydrm.core.picture import take
from pydrm.core.state import State
from pydrm.engine.disk import NewFile
from pydrm.engine.frames import (
    SnapshotDone,
    SnapshotOffer,
    SnapshotPiece,
    SnapshotWant,
)
from pydrm.engine.journal import Journal
from pydrm.engine.raft import Raft
from pydrm.engine.restore import restored
from pydrm.engine.snapshots import Heading, SnapshotDamaged, Snapshots, encoded
from pydrm.engine.transfer import Receiving, Send, Sending
from pydrm.errors import Outdated

__all__ = ["SnapshotFrame", "Snapshotter"]

_log = logging.getLogger(__name__)

SnapshotFrame = SnapshotOffer | SnapshotWant | SnapshotPiece | SnapshotDone

_TAIL_IN_USE_BYTES_MAX = 256 * 1024 * 1024
_AGAIN_S = 10.0


class Snapshotter:
    """Belongs to the engine's loop; files are written and read on a thread of its own."""

    def __init__(
        self,
        snapshots: Snapshots,
        journal: Journal,
        journal_disk: Executor,
        send: Send,
        *,
        log_bytes_min: int,
        tail_bytes: int,
        arrived: Callable[[Heading, State], None],
        outdated: Callable[[Outdated], None],
        now: Callable[[], float],
    ) -> None:
        """
        Args:
            journal_disk: Where the journal is written; its segments are removed there.
            log_bytes_min: How long the log becomes at least before a snapshot is taken.
            tail_bytes: How much of the log before a snapshot stays in memory.
            arrived: Gets the state that another node had, read and checked, to be put in force at once.
            outdated: Is told if that state is past what this version can apply.
        """
        self._snapshots = snapshots
        self._journal = journal
        self._journal_disk = journal_disk
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="pydrm-snapshots")
        self._send = send
        self._log_bytes_min = log_bytes_min
        self._tail_bytes = tail_bytes
        self._arrived = arrived
        self._outdated = outdated
        self._now = now
        self._sending = Sending(snapshots, self._disk, send, failed=self._try_again)
        self._receiving = Receiving(snapshots, self._disk, send, complete=self._complete)
        self._task: asyncio.Task[None] | None = None
        self._installing: asyncio.Task[None] | None = None
        self._not_before = float("-inf")
        self._wanted = False
        self._again_at: dict[str, float] = {}  # when whom the last one was of no use to is tried anew
        self._postponed: tuple[str, SnapshotOffer] | None = None  # what came while another was being installed

    def close(self) -> None:
        """Nothing is taken or fetched any more. Idempotent."""
        for task in (self._task, self._installing):
            if task is not None:
                task.cancel()
        self._receiving.abandon()

    def shut(self) -> None:
        """Wait for the thread. Not on the engine's loop."""
        self._disk.shutdown()

    # --- on the loop, from `Replica` ---------------------------------------------------------------------------------

    def tick(self, raft: Raft, state: State) -> None:
        """Take a snapshot if one is due; offer the newest to who lags."""
        if not raft.is_leader:
            self._sending.forget_all()
            self._again_at.clear()
        for peer in [peer for peer, at in self._again_at.items() if at <= self._now()]:
            del self._again_at[peer]
            raft.caught_up(peer, 0)  # the log is tried first, and found too short
        lagging, raft.lagging = raft.lagging, []
        for peer in lagging:
            newest = self._snapshots.newest
            if newest is not None and raft.is_leader:
                self._sending.offer(peer, newest, term=raft.term)
        if self._postponed is not None and self._installing is None:
            peer, offer = self._postponed
            self._offered(peer, offer, raft)
        if self._task is None and self._now() >= self._not_before and self._due(raft):
            self._wanted = False
            self._take(raft, state)

    def receive(self, peer: str, frame: SnapshotFrame, raft: Raft) -> None:
        match frame:
            case SnapshotOffer():
                if raft.heard_leader(peer, frame.term):
                    self._offered(peer, frame, raft)
            case SnapshotPiece():
                if raft.heard_leader(peer, frame.term):
                    self._receiving.arrived(peer, frame)
            case SnapshotWant():
                if frame.term == raft.term:
                    raft.heard_from(peer)
                    self._sending.wanted(peer, frame)
            case SnapshotDone():
                if frame.term == raft.term and self._sending.ended(peer, frame.index):
                    self._ended(peer, frame, raft)

    def unlinked(self, peer: str) -> None:
        self._sending.forget(peer)
        self._again_at.pop(peer, None)

    # --- taking ------------------------------------------------------------------------------------------------------

    def _due(self, raft: Raft) -> bool:
        newest = self._snapshots.newest
        done = newest.index if newest is not None else 0
        if raft.applied <= done or self._installing is not None:
            return False
        size = newest.size if newest is not None else 0
        return self._wanted or self._journal.bytes_after(done) > max(self._log_bytes_min, size)

    def _take(self, raft: Raft, state: State) -> None:
        if state.settings is None:
            return
        index = raft.applied
        term = self._journal[index - self._journal.base[0]][2]
        picture = take(state)
        heading = Heading(state.settings.cluster_id, index, term, f"{state.digest:032x}", picture.head)
        pieces = encoded(heading, picture)
        self._task = asyncio.get_running_loop().create_task(self._write(heading, pieces))

    async def _write(self, heading: Heading, pieces) -> None:  # type: ignore[no-untyped-def]
        loop = asyncio.get_running_loop()
        file: NewFile | None = None
        try:
            file = await loop.run_in_executor(self._disk, self._snapshots.create, heading.index, heading.term)
            for piece in pieces:
                await loop.run_in_executor(self._disk, file.write, piece)
            await loop.run_in_executor(self._disk, file.commit)
            self._is_there(heading.index, heading.term)
        except OSError as error:
            # The log goes on to hold what the snapshot would have; so it is no more than a log that grows.
            _log.error("cannot write a snapshot: %s. Look after the disk of this node; it will be tried again", error)
            self._not_before = self._now() + _AGAIN_S
        finally:
            self._task = None
            if file is not None:
                file.discard()

    def _is_there(self, index: int, term: int) -> None:
        snapshot = self._snapshots.add(index, term)
        _log.info("took a snapshot as of entry %d, %d bytes", index, snapshot.size)
        self._journal.compact(self._tail_from(index))
        self._tidy_up()

    def _tail_from(self, index: int) -> int:
        """The entry that the log in memory goes on after: not later than *index*."""
        base = self._journal.base[0]
        in_use = min(self._sending.in_use, default=index)
        if in_use < index and self._journal.bytes_after(in_use) <= _TAIL_IN_USE_BYTES_MAX:
            index = in_use
        longest = self._journal.bytes_after(index) + self._tail_bytes
        while index > base and self._journal.bytes_after(index) < longest:
            index -= 1
        return index

    def _tidy_up(self) -> None:
        loop = asyncio.get_running_loop()
        surplus = self._snapshots.surplus(self._sending.in_use)
        if surplus:
            loop.run_in_executor(self._disk, self._snapshots.remove, surplus).add_done_callback(_said)
        if len(self._snapshots.kept) < 2:
            return  # were it damaged, the log alone would still tell all
        oldest = self._snapshots.kept[0].index
        loop.run_in_executor(self._journal_disk, self._journal.free, oldest).add_done_callback(_said)

    # --- sending -----------------------------------------------------------------------------------------------------

    def _ended(self, peer: str, frame: SnapshotDone, raft: Raft) -> None:
        if not frame.problem:
            raft.caught_up(peer, frame.index)
            return
        _log.error("%s cannot use the snapshot as of entry %d: %s", peer, frame.index, frame.problem)
        self._try_again(peer)

    def _try_again(self, peer: str) -> None:
        """With a fresh one, in case that the last is damaged here."""
        self._wanted = True
        self._again_at[peer] = self._now() + _AGAIN_S

    # --- receiving ---------------------------------------------------------------------------------------------------

    def _offered(self, leader: str, offer: SnapshotOffer, raft: Raft) -> None:
        self._postponed = None
        if offer.term < raft.term:
            return  # it was postponed, and somebody else leads by now
        if raft.holds(offer.index, offer.index_term):
            self._send(leader, SnapshotDone(raft.term, offer.index))
        elif self._installing is None:
            self._receiving.offered(leader, offer)
        else:
            self._postponed = (leader, offer)  # it is not made again; with luck what is being installed will do

    def _complete(self, leader: str, offer: SnapshotOffer) -> None:
        self._installing = asyncio.get_running_loop().create_task(self._install(leader, offer))

    async def _install(self, leader: str, offer: SnapshotOffer) -> None:
        try:
            try:
                snapshot = self._snapshots.add(offer.index, offer.index_term)
                heading, state = await restored(self._snapshots, snapshot)
            except Outdated as error:
                self._outdated(error)
                return
            except (SnapshotDamaged, OSError) as error:
                _log.error("what %s sent is of no use: %s", leader, error)
                self._snapshots.forget(offer.index)
                self._send(leader, SnapshotDone(offer.term, offer.index, str(error)))
                return
            self._arrived(heading, state)
            self._tidy_up()
            self._send(leader, SnapshotDone(offer.term, offer.index))
            for _ in state.empty():  # what was here before, by now
                await asyncio.sleep(0)
        finally:
            self._installing = None


def _said(done: asyncio.Future[None]) -> None:
    if not done.cancelled() and (error := done.exception()) is not None:
        _log.warning("cannot remove what is not needed any more: %s", error)
