"""
`Journal` in random lives: what was synced is there after a crash, in line with the snapshot, and damage is found.

A simple picture of what should be there is kept beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pydrm.engine.entries import ENTRY_BYTES
from pydrm.engine.journal import Entry, Journal
from pydrm.engine.replay import read_journal
from pydrm.errors import ConfigurationError
from tests.engine.journals import DATA, NO_OP, contents, opened, segment, segments
from tests.engine.memory_disk import MemoryDisk

ADD, CUT, TERM, COMMIT, SYNC = "add", "cut", "term", "commit", "sync"
SNAPSHOT, INSTALL, FREE, REOPEN, CRASH = "snapshot", "install", "free", "reopen", "crash"

share = st.floats(0, 1)
steps = st.lists(
    st.one_of(
        st.tuples(st.just(ADD), st.binary(max_size=40)),
        st.tuples(st.just(ADD), st.binary(max_size=40)),
        st.tuples(st.just(CUT), st.integers(1, 4)),
        st.tuples(st.just(TERM), st.sampled_from(["", "a", "b"])),
        st.tuples(st.just(COMMIT), share),
        st.tuples(st.just(SYNC), st.none()),
        st.tuples(st.just(SYNC), st.none()),
        st.tuples(st.just(SNAPSHOT), share),
        st.tuples(st.just(INSTALL), st.integers(1, 4)),
        st.tuples(st.just(FREE), st.none()),
        st.tuples(st.just(REOPEN), st.none()),
        st.tuples(st.just(CRASH), st.integers(0, 300)),
    ),
    min_size=15,
    max_size=80,
)


@attrs.frozen
class Picture:
    """What a journal should hold; *log* begins with its base, as soon as there is a first entry."""

    log: tuple[Entry, ...] = ()
    term: int = 0
    voted_for: str | None = None
    committed: int = 1

    @property
    def last(self) -> int:
        return self.log[-1][1] if self.log else 0

    def at(self, index: int) -> Entry | None:
        return next((entry for entry in self.log if entry[1] == index), None)

    def based_on(self, base: tuple[int, int] | None) -> Picture:
        """What is left of it beside the snapshot of entry *base*."""
        if base is None:
            return self
        index, term = base
        had = self.at(index)
        after = tuple(entry for entry in self.log if entry[1] > index) if had and had[2] == term else ()
        voted_for = self.voted_for if self.term >= term else None
        committed = max(self.committed, index) if after else index
        return Picture(((NO_OP, *base), *after), max(self.term, term), voted_for, committed)


class Life:
    """
    Attributes:
        now: What is noted.
        synced: What was noted up to each batch that is on disk, by its number.
        newest: (index, term) of the newest snapshot.
        removed: Segments that a power cut may bring back, because nothing was synced since in their directory.
    """

    def __init__(self, segment_bytes: int) -> None:
        self.disk = MemoryDisk(segment_bytes=segment_bytes)
        self.journal = opened(self.disk)
        self.now = Picture()
        self.synced = {0: self.now}
        self.newest: tuple[int, int] | None = None
        self.removed: list[tuple[Path, bytes]] = []

    def live(self, steps: list[tuple[str, Any]]) -> None:
        for step, value in steps:
            getattr(self, step)(value)
            self.check(self.journal, self.now)

    def check(self, journal: Journal, picture: Picture) -> None:
        assert contents(journal) == (list(picture.log), picture.term, picture.voted_for)
        assert journal.getRaftCommitIndex() == picture.committed
        assert journal.base == (picture.log[0][1:] if picture.log else (0, 0))
        assert journal.bytes == sum(ENTRY_BYTES + len(command) for command, _, _ in picture.log[1:])

    def add(self, command: bytes) -> None:
        entry = (command, self.now.last + 1, self.now.term)
        self.now = attrs.evolve(self.now, log=(*self.now.log, entry))
        self.journal.add(*entry)

    def cut(self, count: int) -> None:
        left = len(self.now.log) - count
        if left < 1 or self.now.log[left - 1][1] < self.now.committed:
            return
        self.now = attrs.evolve(self.now, log=self.now.log[:left])
        self.journal.deleteEntriesFrom(left)

    def term(self, voted_for: str) -> None:
        self.now = attrs.evolve(self.now, term=self.now.term + 1, voted_for=voted_for or None)
        self.journal.setCurrentTerm(self.now.term, self.now.voted_for)

    def commit(self, share: float) -> None:
        if self.now.log:
            index = self.now.committed + round(share * (self.now.last - self.now.committed))
            self.now = attrs.evolve(self.now, committed=index)
            self.journal.setRaftCommitIndex(index)

    def sync(self, _: None) -> None:
        if self.journal.dirty:
            batch = self.journal.take_batch()
            self.journal.write(batch)
            self.synced[len(self.synced)] = self.now
            if batch.begins is not None:
                self.removed.clear()

    def snapshot(self, share: float) -> None:
        """A snapshot is made of an entry that is committed, though perhaps not on this disk, and the log cut short."""
        if not self.now.log:
            return
        first = self.now.log[0][1]
        entry = self.now.at(first + round(share * (self.now.committed - first)))
        assert entry is not None
        self.newest = entry[1:]
        self.now = self.now.based_on(self.newest)
        self.journal.compact(entry[1])

    def install(self, step: int) -> None:
        """A snapshot comes from a leader; what the log had there and after it, nobody else has."""
        self.newest = (self.now.committed + step, self.now.term + 1)
        self.now = Picture(((NO_OP, *self.newest),), self.newest[1], None, self.newest[0])
        self.journal.reset(*self.newest)

    def free(self, _: None) -> None:
        if self.newest is not None:
            before = dict(self.disk.files)
            self.journal.free(self.newest[0])
            self.removed += [(path, before[path]) for path in sorted(before) if path not in self.disk.files]

    def reopen(self, _: None) -> None:
        """What was not synced is gone."""
        self.removed.clear()
        self.now = self.synced[len(self.synced) - 1].based_on(self.newest)
        self.journal = opened(self.disk, self.newest, begun=True)

    def crash(self, room: int) -> None:
        """
        The power goes. Of the batch that is being written, and of the segment that is begun for it, so many bytes are
        on disk; and the latest of the segments that were removed may be there again.
        """
        if self.journal.dirty:
            self.disk.fails_after = room
            try:
                self.sync(None)
            except OSError:
                assert self.disk.fails_after == 0
            self.disk.fails_after = None
        self.disk.files.update(self.removed[len(self.removed) - room % (len(self.removed) + 1) :])
        self.reopen(None)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(steps=steps, segment_bytes=st.sampled_from([1, 150, 400, 10**6]))
def test_what_was_synced_is_there_after_any_life_in_line_with_the_newest_snapshot(
    steps: list[tuple[str, Any]], segment_bytes: int
):
    """Whatever was torn, cut off, compacted, replaced and removed meanwhile; and nothing else is there."""
    life = Life(segment_bytes)

    life.live(steps)
    life.reopen(None)

    life.check(life.journal, life.now)


def flipped(data: bytes, share: float) -> tuple[bytes, int]:
    """*data* with one bit of one byte changed, and which byte that is."""
    bit = round(share * (8 * len(data) - 1))
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed), bit // 8


@settings(derandomize=True, deadline=None, max_examples=300)
@given(steps=steps, which=share, where=share)
def test_a_changed_byte_is_found_or_is_in_the_last_batch_which_is_cut_off(
    steps: list[tuple[str, Any]], which: float, where: float
):
    """Whatever segment it is in, its header included. What is in the last batch may have been torn by a crash."""
    life = Life(100)
    life.live(steps)
    life.sync(None)
    _, read = read_journal(DATA, life.disk)
    changed = read[round(which * (len(read) - 1))]
    life.disk.files[changed.path], offset = flipped(life.disk.files[changed.path], where)
    torn = changed is read[-1] and offset >= changed.last_batch_at

    if torn:
        del life.synced[len(life.synced) - 1]
        life.reopen(None)
        life.check(life.journal, life.now)
    else:
        with pytest.raises(ConfigurationError, match=str(changed.path)):
            life.reopen(None)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(steps=steps, which=share)
def test_a_missing_segment_is_found_or_the_newest_snapshot_has_all_that_was_in_it(
    steps: list[tuple[str, Any]], which: float
):
    """It could have been removed as well."""
    life = Life(1)
    life.live([(ADD, b"one"), (SYNC, None), (ADD, b"two"), (SYNC, None), *steps, (ADD, b"last"), (SYNC, None)])
    numbers = segments(life.disk)
    assume(len(numbers) > 1)
    missing = round(which * (len(numbers) - 2))
    del life.disk.files[segment(numbers[missing])]

    refusal = None
    try:
        life.reopen(None)
    except ConfigurationError as error:
        refusal = str(error)

    if refusal is None:
        assert missing == 0
        life.check(life.journal, life.now)
    else:
        assert str(segment(numbers[missing + 1])) in refusal
