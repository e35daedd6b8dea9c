"""
`Outbox`: nothing leaves before its sync.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path

from pydrm.engine.frames import Frame, Vote
from pydrm.engine.journal import Journal, open_journal
from pydrm.engine.outbox import Outbox
from tests.engine.loops import on_a_loop
from tests.engine.memory_disk import MemoryDisk

DATA = Path("/data")


class SlowDisk(Executor):
    """Writes when the test says so; one at a time, as a pool of one thread would."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[..., None], tuple[object, ...], Future[None]]] = []

    def submit(self, call: Callable[..., None], /, *arguments: object) -> Future[None]:
        future: Future[None] = Future()
        self.waiting.append((call, arguments, future))
        return future

    async def catches_up(self) -> None:
        """The write under way ends."""
        call, arguments, future = self.waiting.pop(0)
        try:
            future.set_result(call(*arguments))
        except OSError as error:
            future.set_exception(error)
        for _ in range(5):
            await asyncio.sleep(0)


class Scene:
    """
    An outbox, its journal and its disk.

    Attributes:
        left: Messages that left, with how many entries were on disk at that moment.
    """

    def __init__(self) -> None:
        self.memory = MemoryDisk()
        self.journal = self._opened()
        self.disk = SlowDisk()
        self.left: list[tuple[str, int, int]] = []
        self.failures: list[OSError] = []
        self.syncs = 0
        self.outbox = Outbox(self.journal, self.disk, send=self._send, synced=self._synced, failed=self.failures.append)

    @property
    def on_disk(self) -> int:
        return len(self._opened())

    def _opened(self) -> Journal:
        return open_journal(DATA, self.memory, begun=False, base=None)

    def note(self) -> None:
        self.journal.add(b"entry", len(self.journal) + 1, 1)

    def put(self, *numbers: int) -> None:
        """Messages that are told apart by their number."""
        self.outbox.put([("b", Vote(number)) for number in numbers])

    def _send(self, peer: str, frame: Frame) -> None:
        assert isinstance(frame, Vote)
        self.left.append((peer, frame.term, self.on_disk))

    def _synced(self) -> None:
        self.syncs += 1


@on_a_loop
async def test_a_message_that_depends_on_nothing_new_leaves_at_once():
    """There is nothing to wait for."""
    scene = Scene()

    scene.put(1, 2)

    assert scene.left == [("b", 1, 0), ("b", 2, 0)]
    assert (scene.disk.waiting, scene.syncs) == ([], 0)


@on_a_loop
async def test_a_message_waits_for_what_was_noted_before_it():
    """It may say "I have this entry" or "you have my vote"."""
    scene = Scene()
    scene.note()

    scene.put(1)
    before = list(scene.left)
    await scene.disk.catches_up()

    assert before == []
    assert scene.left == [("b", 1, 1)]
    assert scene.syncs == 1


@on_a_loop
async def test_what_comes_during_a_sync_goes_with_the_next_in_one_batch():
    """That is the group commit: one sync for all of it."""
    scene = Scene()
    scene.note()
    scene.put(1)
    for number in (2, 3, 4):
        scene.note()
        scene.put(number)

    under_way = len(scene.disk.waiting)
    await scene.disk.catches_up()
    after_first = list(scene.left)
    await scene.disk.catches_up()

    assert under_way == 1
    assert after_first == [("b", 1, 1)]
    assert scene.left == [("b", 1, 1), ("b", 2, 4), ("b", 3, 4), ("b", 4, 4)]
    assert (scene.disk.waiting, scene.syncs) == ([], 2)


@on_a_loop
async def test_a_message_does_not_overtake_one_that_waits():
    """Although it depends on nothing new itself: order is what PySyncObj relies on."""
    scene = Scene()
    scene.note()
    scene.put(1)

    scene.put(2)
    before = list(scene.left)
    await scene.disk.catches_up()

    assert before == []
    assert scene.left == [("b", 1, 1), ("b", 2, 1)]


@on_a_loop
async def test_notes_without_messages_are_written_too():
    """A leader alone has nobody to tell; it still must have them on disk."""
    scene = Scene()
    scene.note()
    scene.put()
    scene.note()

    await scene.disk.catches_up()
    await scene.disk.catches_up()

    assert (scene.on_disk, scene.syncs, scene.left) == (2, 2, [])


@on_a_loop
async def test_it_says_whether_it_is_syncing():
    """Alone, the next tick waits for that."""
    scene = Scene()
    before = scene.outbox.syncing
    scene.note()
    scene.put(1)
    during = scene.outbox.syncing

    await scene.disk.catches_up()

    assert (before, during, scene.outbox.syncing) == (False, True, False)


@on_a_loop
async def test_after_the_first_failure_nothing_leaves_and_nothing_is_written():
    """What a failed sync has left on the disk cannot be known; it is told once."""
    scene = Scene()
    scene.memory.fails_after = 10
    scene.note()
    scene.put(1)
    scene.note()
    scene.put(2)

    await scene.disk.catches_up()
    scene.memory.fails_after = None
    scene.put(3)
    scene.note()
    scene.put(4)

    assert [str(failure) for failure in scene.failures] == ["[Errno 28] No space left on device"]
    assert (scene.left, scene.disk.waiting, scene.syncs) == ([], [], 0)


@on_a_loop
async def test_once_closed_nothing_leaves():
    """What was being written ends, and tells nobody."""
    scene = Scene()
    scene.note()
    scene.put(1)

    scene.outbox.close()
    scene.put(2)
    await scene.disk.catches_up()

    assert (scene.left, scene.disk.waiting, scene.syncs) == ([], [], 0)
