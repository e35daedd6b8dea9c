"""
A world for tests of `Raft` and `Journal`: members on one virtual clock, links that break, disks that forget.

Nothing happens by itself: a test, or a dice roll, says when a member ticks, when a message arrives and when a disk
has caught up. Messages leave a member as `Outbox` lets them leave: once all that was noted before is on disk.
Whatever any member applies is compared with what the others applied at that index, at once.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from itertools import combinations, permutations
from pathlib import Path

import attrs
import msgspec

from pydrm.engine.codec import changes_voters, voter_to_change
from pydrm.engine.frames import (
    Frame,
    SnapshotDone,
    SnapshotOffer,
    decode_frame,
    encode_frame,
)
from pydrm.engine.journal import Batch, open_journal
from pydrm.engine.raft import Raft
from tests.engine.memory_disk import MemoryDisk

Message = tuple[str, Frame]

_DIRECTORY = Path("/data")
_SEGMENT_BYTES = 2048  # so few that each life has many


class WorldClock:
    """One clock for all; a little passes whenever somebody looks at it, so that loops with a deadline end."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> float:
        self.seconds += 0.0001
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nobody waits here")


Applied = tuple[int, bytes]  # (index, command)


@attrs.frozen
class Snapshot:
    """It is on disk as soon as it is there."""

    index: int
    term: int
    applied: list[Applied]


class Member:
    """
    One process and the disk that outlives it.

    Attributes:
        raft: None while the process is down.
        applied: What this process has applied, or has from a snapshot, in order.
        apply_s: How long it takes to apply one entry.
        snapshots: The newest two.
    """

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self.disk = MemoryDisk(segment_bytes=_SEGMENT_BYTES)
        self.raft: Raft | None = None
        self.applied: list[Applied] = []
        self.apply_s = 0.0
        self.snapshots: list[Snapshot] = []
        self.starts = 0
        self._world = world
        self._held: list[Message] = []
        self._writing: tuple[Batch, list[Message]] | None = None

    @property
    def running(self) -> Raft:
        assert self.raft is not None
        return self.raft

    @property
    def voters(self) -> list[str]:
        """As of what is applied here; a change that names another revision than the one in force does nothing."""
        voters, revision = set(self._world.first_voters), 1
        for _, command in self.applied:
            if changes_voters(command) and f"revision {revision} ".encode() in command:
                name, goes = voter_to_change(command)
                voters = voters - {name} if goes else voters | {name}
                revision += 1
        return sorted(voters)

    @property
    def revision(self) -> int:
        revision = 1
        for _, command in self.applied:
            revision += changes_voters(command) and f"revision {revision} ".encode() in command
        return revision

    def start(self) -> None:
        newest = self.snapshots[-1] if self.snapshots else None
        self.applied = list(newest.applied) if newest else []
        self.starts += 1
        base = (newest.index, newest.term) if newest else None
        self.journal = open_journal(_DIRECTORY, self.disk, begun=self.starts > 1, base=base)
        self._take_part(self.journal.base[0])

    def _take_part(self, applied: int) -> None:
        self._revision = self.revision
        self.raft = Raft(
            self.name,
            self.voters,
            self.journal,
            self._apply,
            applied=applied,
            clock=self._world.clock,
            random=self._world.random,
        )
        for one, other in self._world.linked:
            if self.name in (one, other):
                self.raft.connected(other if one == self.name else one)

    def _follow_voters(self) -> None:
        if self._world.voters_change_late or self._revision == self.revision:
            return
        if self.running.votes == (self.name in self.voters):
            self._revision = self.revision
            self.running.set_voters(self.voters)
        else:
            self._take_part(self.running.applied)

    def take_snapshot(self, tail: int) -> None:
        """Of all that is applied; *tail* entries before it stay in memory."""
        index = self.running.applied
        first = self.journal.base[0]
        if (self.snapshots and self.snapshots[-1].index == index) or index == first:
            return
        snapshot = Snapshot(index, self.journal[index - first][2], list(self.applied))
        self.snapshots = [*self.snapshots[-1:], snapshot]
        self.journal.compact(max(index - tail, first))
        if len(self.snapshots) > 1:
            self.journal.free(self.snapshots[0].index)

    def _offered(self, leader: str, offer: SnapshotOffer) -> None:
        if not self.running.heard_leader(leader, offer.term):
            return
        if not self.running.holds(offer.index, offer.index_term):
            found = [s for s in self._world.members[leader].snapshots if s.index == offer.index]
            if not found:
                return
            self.snapshots = [*self.snapshots[-1:], found[0]]
            self.applied = list(found[0].applied)
            self.journal.reset(offer.index, offer.index_term)
            self._take_part(offer.index)
        self.running.outbox.append((leader, SnapshotDone(offer.term, offer.index)))

    def crash(self) -> None:
        """The process is gone, and the power with it: of what was being written, any part may be on disk."""
        if self._writing is not None:
            batch, size = self._writing[0], len(self._writing[0].data)
            self.disk.fails_after = self._world.random.choice((0, size // 2, size - 1, size))
            with suppress(OSError):
                self.journal.write(batch)
            self.disk.fails_after = None
        self._writing = None
        self._held = []
        self.raft = None

    def tick(self) -> None:
        self.running.tick()
        self._follow_voters()
        lagging, self.running.lagging = self.running.lagging, []
        for peer in lagging:
            newest = self.snapshots[-1]
            self.running.outbox.append((peer, SnapshotOffer(self.running.term, newest.index, newest.term, 0)))
        self._flush()

    def receive(self, peer: str, frame: Frame) -> None:
        match frame:
            case SnapshotOffer():
                self._offered(peer, frame)
            case SnapshotDone():
                if frame.term == self.running.term:
                    self.running.caught_up(peer, frame.index)
            case _:
                self.running.receive(peer, frame)
        self._follow_voters()
        last = self.journal[-1][1]
        if last < self.running.applied:
            self._world.wrong.append(f"{self.name}'s log ends at {last}, and it has applied {self.running.applied}")

    def disk_catches_up(self) -> None:
        """The write under way is on disk; what waited for it leaves, and the next begins."""
        if self._writing is None:
            return
        batch, messages = self._writing
        self._writing = None
        self.journal.write(batch)
        self._leave(messages)
        self._flush()

    def _flush(self) -> None:
        self._held += self.running.outbox
        self.running.outbox = []
        if self._writing is not None:
            return
        held, self._held = self._held, []
        if not self.journal.dirty:
            self._leave(held)
            return
        self._writing = (self.journal.take_batch(), held)
        if not self._world.disks_are_honest:
            self._leave(held)
            self._writing = (self._writing[0], [])

    def _leave(self, messages: Iterable[Message]) -> None:
        for peer, frame in messages:
            self._world.carry(self.name, peer, frame)

    def _apply(self, command: bytes, index: int) -> None:
        self._world.clock.seconds += self.apply_s
        self.applied.append((index, command))
        self._world.check(self.name, index, command)


class World:
    """
    Attributes:
        log: What was applied at each index, by whoever was first.
        wrong: What must not be, in words.
        disks_are_honest: False lets messages leave before the disk has what they say.
        voters_change_late: True has members go on counting the voters that they began with.
    """

    def __init__(
        self,
        names: str,
        *,
        seed: int = 0,
        disks_are_honest: bool = True,
        voters: str = "",
    ) -> None:
        """*voters*: who votes at first, if not all do."""
        self.clock = WorldClock()
        self.random = random.Random(seed)
        self.disks_are_honest = disks_are_honest
        self.log: dict[int, bytes] = {}
        self.wrong: list[str] = []
        self.first_voters = voters or names
        self.voters_change_late = False
        self.members = {name: Member(self, name) for name in names}
        self.pairs = list(combinations(names, 2))
        self.ways = list(permutations(names, 2))
        self.under_way: dict[tuple[str, str], deque[bytes]] = {way: deque() for way in self.ways}
        self.linked: set[tuple[str, str]] = set()
        self.stalled: dict[tuple[str, str] | str, float] = {}
        self.submitted = 0
        self.disk_speed = self.random.choice((0.1, 0.4, 0.8))

    # --- what can happen

    def start(self, *names: str) -> None:
        for name in names or self.members:
            self.members[name].start()
        for pair in self.pairs:
            self.link(*pair)

    def link(self, one: str, other: str) -> None:
        pair = (min(one, other), max(one, other))
        if pair in self.linked or self.members[one].raft is None or self.members[other].raft is None:
            return
        self.linked.add(pair)
        self.members[one].running.connected(other)
        self.members[other].running.connected(one)

    def cut(self, one: str, other: str) -> None:
        """What is under way between them is lost."""
        pair = (min(one, other), max(one, other))
        if pair not in self.linked:
            return
        self.linked.remove(pair)
        for here, there in (pair, pair[::-1]):
            self.under_way[here, there].clear()
            if self.members[here].raft is not None:
                self.members[here].running.disconnected(there)

    def isolate(self, name: str) -> None:
        for other in self.members:
            if other != name:
                self.cut(name, other)

    def crash(self, name: str) -> None:
        self.isolate(name)
        self.members[name].crash()

    def stall(self, what: tuple[str, str] | str, seconds: float) -> None:
        """One way of a link, or one member's disk, does nothing for so long; nothing of it is lost."""
        self.stalled[what] = self.clock.seconds + seconds

    def flows(self, what: tuple[str, str] | str) -> bool:
        return self.stalled.get(what, 0.0) <= self.clock.seconds

    def submit(self, name: str, command: bytes = b"") -> bytes:
        """A command that nobody else submits."""
        self.submitted += 1
        command = command or b"command %d" % self.submitted
        self.members[name].running.submit(command)
        return command

    def change_voters(self, name: str, voter: str) -> None:
        """Have *name* ask for *voter* to get a vote, or to lose the one that it has."""
        member = self.members[name]
        self.submitted += 1
        goes = voter in member.voters
        if goes and len(member.voters) <= 2:
            return
        what = f"revision {member.revision} {self.submitted}"
        member.running.submit(msgspec.msgpack.encode([(14 if goes else 13, None, {"name": voter, "what": what})]))

    def carry(self, here: str, there: str, frame: Frame) -> None:
        if (min(here, there), max(here, there)) in self.linked:
            self.under_way[here, there].append(encode_frame(frame))

    def deliver(self, here: str, there: str, most: int = 1_000_000) -> int:
        """The next messages of that way arrive; how many."""
        arrived = 0
        queue = self.under_way[here, there]
        while queue and arrived < most:
            self.members[there].receive(here, decode_frame(queue.popleft()))
            arrived += 1
        return arrived

    def check(self, name: str, index: int, command: bytes) -> None:
        first = self.log.setdefault(index, command)
        if first != command:
            self.wrong.append(f"{name} applied {command!r} at {index}, and somebody {first!r}")

    # --- what a test asks for

    @property
    def up(self) -> list[str]:
        return [name for name, member in self.members.items() if member.raft is not None]

    @property
    def leaders(self) -> list[str]:
        return [name for name in self.up if self.members[name].running.is_leader]

    def calm(self, seconds: float, *, step_s: float = 0.02) -> None:
        """Let everything work as it should for a while."""
        end = self.clock.seconds + seconds
        while self.clock.seconds < end:
            self.clock.seconds += step_s
            for name in self.up:
                self.members[name].disk_catches_up()
                self.members[name].tick()
                self.members[name].disk_catches_up()
            for way in self.ways:
                self.deliver(*way)

    def elect(self, name: str) -> None:
        """Have *name* lead: until it does, the others' clocks stand still."""
        for _ in range(200):
            self.clock.seconds += 0.05
            self.members[name].tick()
            self.members[name].disk_catches_up()
            for here, there in self.ways:
                if name in (here, there):
                    self.deliver(here, there)
            for other in self.up:
                if other != name:
                    self.members[other].running._core._SyncObj__raftElectionDeadline = self.clock.seconds + 0.3
                    self.members[other].tick()
                    self.members[other].disk_catches_up()
            if self.leaders == [name] and self.members[name].running.applied == self.members[name].journal[-1][1]:
                return
        raise AssertionError(f"{name} does not get to lead")

    def verify(self) -> None:
        """At the end, with everybody up and linked again: the same log everywhere, and nothing applied is lost."""
        problems = list(self.wrong)
        commands = [command for _, command in sorted(self.log.items())]
        doubled = {command for command in commands if commands.count(command) > 1} if problems else set()
        if len(set(commands)) != len(commands):
            problems.append(f"applied at two indexes: {sorted(doubled)}")
        expected = sorted(self.log.items())
        for name, member in self.members.items():
            if member.applied != expected:
                missing = set(expected) - set(member.applied)
                problems.append(f"{name} has applied {len(member.applied)} of {len(expected)}, lacks {len(missing)}")
        assert problems == []


def random_life(world: World, *, steps: int) -> None:
    """Break links, crash, restart, submit and deliver by the world's dice; then heal everything and verify."""
    world.start()
    world.calm(1.0)
    for _ in range(steps):
        if world.wrong:
            break
        _something_happens(world)
        _some_time_passes(world)
    for name, member in world.members.items():
        if member.raft is None:
            world.members[name].start()
    for _ in range(15):
        for pair in world.pairs:
            world.link(*pair)
        world.calm(2.0)
        if len({member.running.applied for member in world.members.values()}) == 1 and world.leaders:
            break
    world.verify()


def _something_happens(world: World) -> None:
    dice = world.random
    chance = dice.random()
    if chance < 0.15 and world.up:
        name = dice.choice(world.up)
        for _ in range(dice.choice((1, 3, 30))):
            world.submit(name)
    elif chance < 0.165:
        world.cut(*dice.choice(world.pairs))
    elif chance < 0.195:
        world.link(*dice.choice(world.pairs))
    elif chance < 0.199:
        world.isolate(dice.choice(list(world.members)))
    elif chance < 0.205 and world.up:
        world.crash(dice.choice(world.up))
    elif chance < 0.209:
        for name in world.up:  # the power goes everywhere at once
            world.crash(name)
    elif chance < 0.217:
        world.stall(dice.choice(world.ways), dice.choice((0.2, 1.0, 2.5)))
    elif chance < 0.222:
        world.stall(dice.choice(list(world.members)), dice.choice((0.2, 1.0)))
    elif chance < 0.24 and world.up:
        world.members[dice.choice(world.up)].take_snapshot(dice.choice((0, 0, 5, 50)))
    elif chance < 0.26 and world.up and world.first_voters != "".join(world.members):
        world.change_voters(dice.choice(world.up), dice.choice(list(world.members)))
    elif chance < 0.28:
        for name, member in world.members.items():
            if member.raft is None and dice.random() < 0.5:
                world.start(name)


def _some_time_passes(world: World) -> None:
    dice = world.random
    world.clock.seconds += dice.choice((0.002, 0.005, 0.02, 0.04))
    for _ in range(dice.randint(1, len(world.ways))):
        way = dice.choice(world.ways)
        if world.members[way[1]].raft is not None and world.flows(way):
            world.deliver(*way, most=dice.choice((1, 1, 2, 8)))
    for name in dice.sample(list(world.members), len(world.members) - 1):
        if world.members[name].raft is not None:
            world.members[name].tick()
            if dice.random() < world.disk_speed and world.flows(name):
                world.members[name].disk_catches_up()
