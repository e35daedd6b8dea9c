"""
`Sending` and `Receiving`: a snapshot on its way from the leader to a node that is too far behind for its log.

    leader      Offer(index, size)            again whenever the link is new
    follower    Want(offset)                  at once Done, if its log reaches so far already (defect S6)
    leader      Piece(offset, data)           one at a time: the follower writes it, then wants the next
    follower    Done(index)                   once it is on disk, read, and in force

A leader that cannot read on, or is told that what came is of no use, begins again with another Offer.

Every frame has its sender's term; what is of another term is not answered. The follower that has received all of it
checks all of it before anything of its own is given up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor

import attrs

from pydrm.engine.disk import NewFile
from pydrm.engine.frames import (
    Frame,
    SnapshotDone,
    SnapshotOffer,
    SnapshotPiece,
    SnapshotWant,
)
from pydrm.engine.snapshots import Snapshot, Snapshots

__all__ = ["Receiving", "Sending"]

_log = logging.getLogger(__name__)

PIECE_BYTES = 256 * 1024

Send = Callable[[str, Frame], None]


class Sending:
    """The leader's side. Belongs to the engine's loop; files are read on *disk*."""

    def __init__(self, snapshots: Snapshots, disk: Executor, send: Send, *, failed: Callable[[str], None]) -> None:
        """*failed* is told who will not get the rest of what it was offered, because that cannot be read here."""
        self._snapshots = snapshots
        self._disk = disk
        self._send = send
        self._failed = failed
        self._under_way: dict[str, Snapshot] = {}

    @property
    def in_use(self) -> set[int]:
        """The indexes of the snapshots that are being sent."""
        return {snapshot.index for snapshot in self._under_way.values()}

    def offer(self, peer: str, snapshot: Snapshot, *, term: int) -> None:
        _log.info("sending %s the state as of entry %d, %d bytes", peer, snapshot.index, snapshot.size)
        self._under_way[peer] = snapshot
        self._send(peer, SnapshotOffer(term, snapshot.index, snapshot.term, snapshot.size))

    def wanted(self, peer: str, frame: SnapshotWant) -> None:
        snapshot = self._under_way.get(peer)
        if snapshot is None or snapshot.index != frame.index:
            return
        loop = asyncio.get_running_loop()
        part = loop.run_in_executor(self._disk, self._snapshots.read, snapshot, frame.offset, PIECE_BYTES)
        part.add_done_callback(lambda read: self._read(peer, snapshot, frame, read))

    def ended(self, peer: str, index: int) -> bool:
        """The peer needs that one no more; whether it was on its way there."""
        snapshot = self._under_way.get(peer)
        if snapshot is None or snapshot.index != index:
            return False
        del self._under_way[peer]
        return True

    def forget(self, peer: str) -> None:
        """The link is gone, and what was under way with it."""
        self._under_way.pop(peer, None)

    def forget_all(self) -> None:
        """This node does not lead any more."""
        self._under_way.clear()

    def _read(self, peer: str, snapshot: Snapshot, frame: SnapshotWant, read: asyncio.Future[bytes]) -> None:
        if self._under_way.get(peer) is not snapshot:
            return
        try:
            data = read.result()
        except OSError as error:
            _log.error("cannot read %s: %s", snapshot.path, error)
            data = b""
        if data:
            self._send(peer, SnapshotPiece(frame.term, snapshot.index, frame.offset, data))
        else:
            del self._under_way[peer]
            self._failed(peer)


@attrs.define
class _Incoming:
    leader: str
    offer: SnapshotOffer
    file: NewFile
    received: int = 0
    writing: bool = False


class Receiving:
    """The follower's side. Belongs to the engine's loop; files are written on *disk*."""

    def __init__(
        self,
        snapshots: Snapshots,
        disk: Executor,
        send: Send,
        *,
        complete: Callable[[str, SnapshotOffer], None],
    ) -> None:
        """*complete* is called with the leader and its offer when the file is on disk, unread as yet."""
        self._snapshots = snapshots
        self._disk = disk
        self._send = send
        self._complete = complete
        self._incoming: _Incoming | None = None

    def offered(self, leader: str, offer: SnapshotOffer) -> None:
        """Begin to fetch it, in place of any other."""
        self.abandon()
        try:
            file = self._snapshots.create(offer.index, offer.index_term)
        except OSError as error:
            self._refuse(leader, offer, error)
            return
        _log.info("%s sends the state as of entry %d, %d bytes", leader, offer.index, offer.size)
        self._incoming = _Incoming(leader, offer, file)
        self._send(leader, SnapshotWant(offer.term, offer.index, 0))

    def arrived(self, leader: str, piece: SnapshotPiece) -> None:
        incoming = self._incoming
        if incoming is None or incoming.writing or incoming.leader != leader:
            return
        if (piece.index, piece.offset) != (incoming.offer.index, incoming.received):
            return
        incoming.writing = True
        last = incoming.received + len(piece.data) >= incoming.offer.size
        written = asyncio.get_running_loop().run_in_executor(self._disk, _write, incoming.file, piece.data, last)
        written.add_done_callback(lambda done: self._written(incoming, len(piece.data), done))

    def abandon(self) -> None:
        """Whatever is under way is of no use any more."""
        incoming, self._incoming = self._incoming, None
        if incoming is not None and not incoming.writing:
            incoming.file.discard()

    def _written(self, incoming: _Incoming, size: int, done: asyncio.Future[None]) -> None:
        incoming.writing = False
        incoming.received += size
        if self._incoming is not incoming:
            done.exception()
            incoming.file.discard()
            return
        offer = incoming.offer
        try:
            done.result()
        except OSError as error:
            self.abandon()
            self._refuse(incoming.leader, offer, error)
            return
        if incoming.received < offer.size:
            self._send(incoming.leader, SnapshotWant(offer.term, offer.index, incoming.received))
            return
        self._incoming = None
        self._complete(incoming.leader, offer)

    def _refuse(self, leader: str, offer: SnapshotOffer, error: OSError) -> None:
        _log.error("cannot keep the snapshot that %s sends: %s", leader, error)
        self._send(leader, SnapshotDone(offer.term, offer.index, f"it cannot be written: {error}"))


def _write(file: NewFile, data: bytes, last: bool) -> None:
    file.write(data)
    if last:
        file.commit()
