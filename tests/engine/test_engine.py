"""
Whole engines on real sockets and disks, in one process: few, and slow for unit tests.

Their participant forms the cluster and joins, and no more; what leases do is tested in tests/agent.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path

import pytest

from pydrm.core.answers import Answer, Done, Reason, Refused
from pydrm.core.commands import AddResources, Drain, Form, Join, RemoveResources, Request
from pydrm.core.machine import Outcome
from pydrm.core.protocol import SINCE
from pydrm.core.records import Definition
from pydrm.core.state import State
from pydrm.engine import REQUEST_BYTES_MAX, Engine, EngineConfig, EngineStatus, Footing, Membership, Port, SystemHost
from pydrm.engine.codec import encode_entry, encode_request
from pydrm.engine.disk import AppendFile
from pydrm.engine.frames import (
    Append,
    Forward,
    Hello,
    NextIndex,
    PreVote,
    PreVoteAnswer,
    RequestVote,
    Vote,
)
from pydrm.engine.journal import open_journal
from pydrm.engine.local_disk import LocalDisk
from pydrm.errors import ClusterRefused, ConfigurationError, DiskFailed, DrmError, Unavailable
from pydrm.testing.ports import Ports
from tests.engine.loops import on_a_loop, until
from tests.engine.strangers import Addresses, Stranger, hello

PATIENCE_S = 30.0
LEASE_TTL_MS = 600_000
_AGAIN_S = 0.2


@pytest.fixture
def addresses() -> Iterator[Addresses]:
    with Ports() as ports:
        yield Addresses(ports)


class Member:
    """A participant that forms the cluster and joins it."""

    _nonces = count()

    def __init__(self, name: str) -> None:
        self.name = name
        self.thread = 0
        self.applied_at: list[float] = []
        self.bug: Exception | None = None
        self.restored_count = 0
        self.stopped_while_locked: bool | None = None
        self._nonce = ""
        self._asked_at = float("-inf")

    def formed(self, port: Port, membership: Membership) -> None:
        self._port = port
        self._membership = membership
        self.thread = threading.get_ident()

    def applied(self, request: Request, outcome: Outcome, now: float) -> None:
        assert threading.get_ident() == self.thread
        self.applied_at.append(now)
        command = request.command
        if isinstance(command, Join) and command.nonce == self._nonce and isinstance(outcome.answer, Done):
            self._port.speak_as((self.name, outcome.answer.number))
            self._asked_at = float("inf")

    def restored(self, now: float) -> None:
        self.restored_count += 1

    def tick(self, now: float, footing: Footing) -> None:
        if self.bug is not None:
            raise self.bug
        if footing.leader is None or now - self._asked_at < _AGAIN_S:
            return
        self._asked_at = now
        if self._port.state.settings is None:
            if footing.leads_since is not None:
                self._port.submit(Form(self._membership.cluster_id, self._membership.voters, LEASE_TTL_MS))
            return
        former = self._port.state.nodes.get(self.name)
        self._nonce = f"{self.name}-{next(self._nonces)}"
        replaces = former.incarnation if former else 0
        self._port.submit(Join(self.name, self._nonce, replaces, LEASE_TTL_MS, self._membership.directory))

    def next_at(self, now: float) -> float:
        return now

    async def stopped(self) -> None:
        if self.directory is not None:
            try:
                LocalDisk().lock(self.directory).release()
                self.stopped_while_locked = False
            except ConfigurationError:
                self.stopped_while_locked = True

    directory: Path | None = None


class FailingDisk(LocalDisk):
    """A disk that does what it should until it is broken."""

    def __init__(self) -> None:
        self.broken = False

    def open(self, file: Path) -> AppendFile:
        opened = super().open(file)
        append = opened.append

        def may_fail(data: bytes) -> None:
            if self.broken:
                raise OSError(5, "Input/output error")
            append(data)

        opened.append = may_fail
        return opened


class Node:
    """
    One engine.

    Attributes:
        failures: What `on_failure` was called with.
    """

    def __init__(self, name: str, addresses: Addresses, voters: str, data_dir: Path | None) -> None:
        self.name = name
        self.member = Member(name)
        self.member.directory = data_dir
        self.disk = FailingDisk()
        self.failures: list[DrmError] = []
        host = SystemHost()
        host.disk = self.disk
        config = EngineConfig(
            cluster="orders",
            node=name,
            bind=addresses[name],
            advertise=addresses[name],
            voters={voter: addresses[voter] for voter in voters},
            data_dir=data_dir,
            nonce=host.new_id(),
        )
        self.engine = Engine(config, self.member, host=host, on_failure=self.failures.append)

    @property
    def status(self) -> EngineStatus:
        return self.engine.status()

    @property
    def records(self) -> set[str]:
        return set(self.engine.state.records)

    async def add(self, *ids: str, size: int = 10, timeout: float = PATIENCE_S) -> Answer:
        return await self.engine.propose(add(*ids, size=size), timeout=timeout)


class Scene:
    """Nodes that can be started, stopped and started again on the same disk."""

    def __init__(self, addresses: Addresses, directory: Path, voters: str) -> None:
        self.directory = directory
        self.nodes: dict[str, Node] = {}
        self._addresses = addresses
        self._voters = voters

    async def start(self, *names: str) -> list[Node]:
        for name in names:
            self.nodes[name] = Node(name, self._addresses, self._voters, self.directory / name)
            await self.nodes[name].engine.start()
        return [self.nodes[name] for name in names]

    async def stop(self, *names: str) -> None:
        for name in names:
            await self.nodes.pop(name).engine.stop()

    async def agree(self, *names: str) -> None:
        """Return once these nodes have the same state."""
        async with asyncio.timeout(PATIENCE_S):
            while len({await self.nodes[name].engine.read(digest) for name in names}) > 1:
                await asyncio.sleep(0.01)


def digest(state: State) -> int:
    return state.digest


def add(*ids: str, size: int = 10) -> AddResources:
    return AddResources(tuple(Definition(id, "websocket", bytes(size)) for id in ids))


@asynccontextmanager
async def scene(addresses: Addresses, directory: Path, voters: str) -> AsyncIterator[Scene]:
    made = Scene(addresses, directory, voters)
    try:
        yield made
    finally:
        await made.stop(*made.nodes)


# --- alone -----------------------------------------------------------------------------------------------------------


@on_a_loop
async def test_a_node_alone_in_memory_does_what_it_is_asked(addresses: Addresses):
    """It needs no disk, no port and no peers."""
    node = Node("a", addresses, "", None)
    await node.engine.start()
    answers = [
        await node.add("x", "y"),
        await node.add("x"),
        await node.engine.propose(remove("x"), timeout=PATIENCE_S),
    ]

    assert answers == [Done(created=2), Done(unchanged=1), Done(removed=1)]
    assert node.records == {"x", "y"}
    await until(lambda: node.status.leader == "a" and node.status.has_majority)
    assert node.status.formed
    assert node.status.problem == ""
    await node.engine.stop()
    assert node.failures == []


@on_a_loop
async def test_a_node_alone_in_memory_waits_for_no_tick(addresses: Addresses, monkeypatch: pytest.MonkeyPatch):
    """What it has put into the log is committed at once: nobody has to answer, and there is no disk to wait for."""
    node = Node("a", addresses, "", None)
    await node.engine.start()
    try:
        await node.add("joined")
        for seldom in ("TICK_S", "IDLE_S"):
            monkeypatch.setattr(f"pydrm.engine.replica.{seldom}", 10.0)
        for number in range(5):
            await asyncio.sleep(0.1)  # so that nothing else is under way
            await node.add(f"r{number}", timeout=8)
    finally:
        await node.engine.stop()


def remove(*ids: str) -> RemoveResources:
    return RemoveResources(ids)


@on_a_loop
async def test_a_node_alone_on_disk_has_after_a_restart_what_it_acknowledged(addresses: Addresses, tmp_path: Path):
    """And the same state as before, to the bit."""
    async with scene(addresses, tmp_path, "a") as it:
        (a,) = await it.start("a")
        for number in range(20):
            await a.add(f"r{number}")
        records = a.records
        await it.stop("a")
        (a,) = await it.start("a")
        await until(lambda: a.records == records)

        assert await a.add("one more") == Done(created=1)


@on_a_loop
async def test_requests_that_come_together_are_all_answered(addresses: Addresses):
    """Each with its own answer, whatever they are batched with."""
    node = Node("a", addresses, "", None)
    await node.engine.start()
    requests = [node.add(f"r{number}") for number in range(300)]
    answers = await asyncio.gather(*requests, node.add("r0", "r0"), node.add("new", "r1"))
    await node.engine.stop()

    assert answers[:300] == [Done(created=1)] * 300
    assert answers[301] == Done(created=1, unchanged=1)


@on_a_loop
async def test_a_small_and_a_large_request_that_come_together_go_through(addresses: Addresses):
    """Each fits into an entry of the log, and both do not fit into one."""
    node = Node("a", addresses, "", None)
    await node.engine.start()
    large = add(*(f"large {number}" for number in range(8)), size=65_000)
    requests = [add("small", size=30_000), large, add("another"), add("third", size=30_000), add("fourth", size=30_000)]
    answers = await asyncio.gather(*(node.engine.propose(request, timeout=PATIENCE_S) for request in requests))
    await node.engine.stop()

    assert len(encode_request(Request(large))) > REQUEST_BYTES_MAX - 5000
    assert [answer.created for answer in answers] == [1, 8, 1, 1, 1]
    assert node.failures == []


@on_a_loop
async def test_a_request_that_fits_into_no_entry_is_refused(addresses: Addresses):
    """Before anything is sent; it is the caller's to split it."""
    node = Node("a", addresses, "", None)
    await node.engine.start()
    with pytest.raises(ClusterRefused, match=f"one request may have {REQUEST_BYTES_MAX} bytes") as refusal:
        await node.engine.propose(add(*(f"{number}" for number in range(9)), size=65_000), timeout=PATIENCE_S)
    await node.engine.stop()

    assert refusal.value.reason == "too-large"
    assert node.records == set()


@on_a_loop
async def test_what_is_newer_than_the_protocol_in_force_is_refused_and_not_sent(
    addresses: Addresses, monkeypatch: pytest.MonkeyPatch
):
    """In the log it would stop every node that does not know it."""
    monkeypatch.setitem(SINCE, RemoveResources, 2)
    node = Node("a", addresses, "", None)
    await node.engine.start()
    await node.add("x")
    applied = len(node.member.applied_at)
    answer = await node.engine.propose(RemoveResources(("x",)), timeout=PATIENCE_S)
    await node.engine.stop()

    detail = "RemoveResources needs protocol 2; it is raised once all nodes are up to date"
    assert answer == Refused(Reason.UNSUPPORTED, detail)
    assert len(node.member.applied_at) == applied
    assert node.records == {"x"}


@on_a_loop
async def test_a_read_sees_one_state_and_gives_its_errors_to_the_caller(addresses: Addresses):
    """It runs between two applies, on the engine's thread."""
    node = Node("a", addresses, "", None)
    await node.engine.start()
    await node.add("x")
    thread = await node.engine.read(lambda state: threading.get_ident())
    with pytest.raises(KeyError, match="nobody"):
        await node.engine.read(lambda state: state.records["nobody"])
    await node.engine.stop()

    assert thread == node.member.thread != threading.get_ident()
    assert node.failures == []


@on_a_loop
async def test_a_caller_who_gives_up_does_no_harm(addresses: Addresses):
    """Its answer comes to nobody."""
    node = Node("a", addresses, "", None)
    await node.engine.start()
    with suppress(TimeoutError):
        await asyncio.wait_for(node.add("x"), 0)
    await node.add("y")
    await node.engine.stop()

    assert "y" in node.records
    assert node.failures == []


# --- beginning and end -----------------------------------------------------------------------------------------------


@on_a_loop
async def test_before_and_after_its_life_an_engine_is_unavailable(addresses: Addresses, tmp_path: Path):
    """Stopping twice is stopping once; a caller under way is told that nothing is known."""
    node = Node("a", addresses, "ab", tmp_path)
    await node.engine.stop()
    with pytest.raises(Unavailable, match="does not run"):
        await node.add("x")

    await node.engine.start()
    under_way = asyncio.ensure_future(node.add("x"))
    await asyncio.sleep(0)
    await asyncio.gather(node.engine.stop(), node.engine.stop())

    with pytest.raises(Unavailable, match="was stopped; the outcome is unknown"):
        await under_way
    with pytest.raises(Unavailable, match="does not run"):
        await node.engine.read(digest)
    assert node.failures == []


@on_a_loop
async def test_the_participant_ends_its_part_while_the_directory_is_still_locked(addresses: Addresses, tmp_path: Path):
    """Who gets the lock next may take over at once what this node held."""
    node = Node("a", addresses, "", tmp_path)
    await node.engine.start()
    await until(lambda: node.status.leader)

    await node.engine.stop()

    assert node.member.stopped_while_locked is True
    LocalDisk().lock(tmp_path).release()


@on_a_loop
async def test_an_engine_that_cannot_start_says_why_and_leaves_nothing_behind(addresses: Addresses, tmp_path: Path):
    """The directory's lock, or the port, is another's."""
    first = Node("a", addresses, "ab", tmp_path / "one")
    await first.engine.start()
    same_directory = Node("a", addresses, "ab", tmp_path / "one")
    with pytest.raises(ConfigurationError, match="in use by process"):
        await same_directory.engine.start()
    same_port = Node("a", addresses, "ab", tmp_path / "two")
    with pytest.raises(ConfigurationError, match="cannot listen on") as refusal:
        await same_port.engine.start()
    await first.engine.stop()
    await same_port.engine.stop()

    again = Node("a", addresses, "ab", tmp_path / "two")
    await again.engine.start()
    await again.engine.stop()
    assert refusal.value.field == "bind"
    assert first.failures + same_directory.failures + same_port.failures == []


# --- three nodes -----------------------------------------------------------------------------------------------------


@on_a_loop
async def test_three_nodes_agree_lose_one_and_then_their_majority(addresses: Addresses, tmp_path: Path):
    """Each may ask; two of three go on; one alone neither says yes nor no. Back together they have all of it."""
    async with scene(addresses, tmp_path, "abc") as it:
        a, b, c = await it.start("a", "b", "c")
        answers = await asyncio.gather(a.add("from a"), b.add("from b"), c.add("from c"))
        assert answers == [Done(created=1)] * 3
        assert all(f"from {node.name}" in node.records for node in (a, b, c))
        await it.agree("a", "b", "c")
        assert len({node.status.leader for node in (a, b, c)}) == 1
        assert sorted(a.status.linked) == ["b", "c"]

        leader = a.status.leader
        others = sorted({"a", "b", "c"} - {leader})
        await it.stop(leader)
        left = [it.nodes[name] for name in others]
        assert await left[0].add("without its leader") == Done(created=1)

        await it.stop(others[1])
        with pytest.raises(Unavailable, match="within the deadline"):
            await left[0].add("alone", timeout=1.5)
        await until(lambda: not left[0].status.has_majority)

        await it.start(leader, others[1])
        await until(lambda: all("without its leader" in node.records for node in it.nodes.values()))
        await left[0].add("together")
        await it.agree("a", "b", "c")


@on_a_loop
async def test_all_that_was_acknowledged_survives_a_restart_of_all(addresses: Addresses, tmp_path: Path):
    """And they find together again whoever of them comes first."""
    async with scene(addresses, tmp_path, "abc") as it:
        for round in range(2):
            nodes = await it.start(*("abc" if round else "cba"))
            ids = [f"round {round} number {number}" for number in range(10)]
            await asyncio.gather(*(nodes[number % 3].add(id) for number, id in enumerate(ids)))
            await it.stop("a", "b", "c")
        a, b, c = await it.start("a", "b", "c")
        expected = {f"round {round} number {number}" for round in range(2) for number in range(10)}
        await until(lambda: a.records == b.records == c.records == expected)


@on_a_loop
async def test_a_node_whose_disk_fails_stops_and_says_so_and_the_others_go_on(addresses: Addresses, tmp_path: Path):
    """Nothing it says from then on could be trusted. Even if it leads."""
    async with scene(addresses, tmp_path, "abc") as it:
        a, b, c = await it.start("a", "b", "c")
        await a.add("before")
        sick = it.nodes[a.status.leader]
        well = next(node for node in (a, b, c) if node is not sick)
        sick.disk.broken = True

        with pytest.raises(DiskFailed):
            await sick.add("on a broken disk")
        await well.add("after")

        (failure,) = sick.failures
        assert isinstance(failure, DiskFailed)
        assert str(failure).startswith(f"writing to {tmp_path / sick.name} failed: [Errno 5] Input/output error")
        with pytest.raises(DiskFailed):
            await sick.engine.read(digest)
        assert well.failures == []


@on_a_loop
async def test_a_disk_that_hangs_does_not_hold_up_the_loop(
    addresses: Addresses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The engine hears its peers and looks after leases meanwhile; only what needs the disk waits for it."""
    hangs, goes_on = threading.Event(), threading.Event()
    fdatasync = os.fdatasync

    def slow(descriptor: int) -> None:
        hangs.set()
        assert goes_on.wait(PATIENCE_S)
        fdatasync(descriptor)

    async with scene(addresses, tmp_path, "a") as it:
        (a,) = await it.start("a")
        await a.add("first")
        monkeypatch.setattr(os, "fdatasync", slow)
        adding = asyncio.ensure_future(a.add("second"))
        await until(hangs.is_set)

        assert await asyncio.wait_for(a.engine.read(lambda state: len(state.records)), PATIENCE_S) == 1
        assert not adding.done()

        goes_on.set()
        assert await adding == Done(created=1)


@on_a_loop
async def test_a_bug_of_the_participant_stops_this_node_alone(addresses: Addresses, caplog: pytest.LogCaptureFixture):
    """What it has half done is not known."""
    node = Node("a", addresses, "", None)
    await node.engine.start()
    await node.add("x")
    node.member.bug = ZeroDivisionError("a bug")
    await until(lambda: node.failures)
    with pytest.raises(DrmError, match="the engine failed"):
        await node.add("y")
    await node.engine.stop()

    (failure,) = node.failures
    assert failure.__cause__ is node.member.bug
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        "a bug in the engine of node a"
    ]


@on_a_loop
async def test_a_voter_that_comes_back_empty_is_refused_and_does_not_vote(addresses: Addresses, tmp_path: Path):
    """It may have forgotten what it voted and acknowledged, so with it alone there is no majority."""
    async with scene(addresses, tmp_path, "abc") as it:
        a, _, _ = await it.start("a", "b", "c")
        await a.add("x")
        await it.stop("c")
        (tmp_path / "c").rename(tmp_path / "the old disk")
        (c,) = await it.start("c")
        await until(lambda: "may have forgotten votes" in c.status.problem)
        assert await a.add("without it") == Done(created=1)

        await it.stop("b")
        with pytest.raises(Unavailable):
            await a.add("with it alone", timeout=1.5)

        assert not c.status.formed
        assert c.status.linked == ()
        assert c.records == set()
        await it.stop("c")
        (tmp_path / "c").rename(tmp_path / "the empty disk")
        (tmp_path / "the old disk").rename(tmp_path / "c")
        (c,) = await it.start("c")
        await until(lambda: "without it" in c.records)


# --- a peer that is not what it should be ----------------------------------------------------------------------------


async def follow(b: Stranger) -> None:
    """Form the cluster, vote for whoever asks and acknowledge whatever comes, until the connection is closed."""
    b.send(hello("b", voters=("a", "b")))
    with suppress(EOFError, ConnectionError):
        while True:
            match await b.receive():
                case Hello(cluster_id=cluster_id, members=members) if cluster_id:
                    b.send(hello("b", voters=("a", "b"), cluster_id=cluster_id, members=members))
                case PreVote(term=term):
                    b.send(PreVoteAnswer(term, granted=True))
                case RequestVote(term=term):
                    b.send(Vote(term))
                case Append(term=term, previous_index=previous, entries=entries):
                    b.send(NextIndex(term, previous + len(entries) + 1, reset=False, success=True))


@pytest.mark.parametrize("bad", [b"\x00no entry", b"\x00", b"", b"\x02a change of members", b"\x01"])
@on_a_loop
async def test_a_bad_request_of_a_peer_closes_the_link_and_is_not_logged(
    addresses: Addresses, tmp_path: Path, bad: bytes
):
    """Once it is in the log, what cannot be read stops every replica, and at each start again."""
    good = b"\x00" + encode_entry([encode_request(Request(Drain("a", 1)))])
    async with scene(addresses, tmp_path, "ab") as it:
        (a,) = await it.start("a")
        async with Stranger.dial(addresses["a"]) as b:
            following = asyncio.ensure_future(follow(b))
            await until(lambda: a.status.leader == "a" and "a" in a.engine.state.nodes)
            b.send(Forward(good))
            await until(lambda: a.engine.state.nodes["a"].state.value == "draining")
            b.send(Forward(bad))
            await following
        await until(lambda: a.status.linked == ())
        failures = a.failures
        await it.stop("a")

    commands = [command for command, _, _ in open_journal(tmp_path / "a", LocalDisk(), begun=True, base=None)[:]]
    assert good in commands
    assert commands.count(b"\x01") == sum(len(command) == 1 for command in commands)
    assert bad == b"\x01" or bad not in commands
    assert failures == []


# --- snapshots -------------------------------------------------------------------------------------------------------


@pytest.fixture
def _short_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Snapshots come every few requests."""
    for name, size in (("segment_bytes", 8192), ("log_bytes", 8192), ("tail_bytes", 1024)):
        monkeypatch.setattr(LocalDisk, name, size)


def snapshots(directory: Path) -> list[Path]:
    return sorted(directory.glob("snapshot-*"))


@on_a_loop
@pytest.mark.usefixtures("_short_logs")
async def test_the_log_is_cut_and_a_restart_reads_the_snapshot(addresses: Addresses, tmp_path: Path):
    """What is older goes from the disk, and nothing is lost."""
    async with scene(addresses, tmp_path, "a") as it:
        (a,) = await it.start("a")
        for number in range(60):
            await a.add(f"r{number}", size=1000)
        await until(lambda: len(snapshots(tmp_path / "a")) == 2)
        await until(lambda: not (tmp_path / "a" / "journal-00000000000000000001").exists())
        await it.stop("a")
        (a,) = await it.start("a")
        assert a.member.restored_count == 1
        await until(lambda: len(a.records) == 60)

        assert await a.add("r0", size=1000) == Done(unchanged=1)


@on_a_loop
@pytest.mark.usefixtures("_short_logs")
async def test_a_damaged_snapshot_is_passed_over(
    addresses: Addresses, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """The older one and the log since tell the same."""
    async with scene(addresses, tmp_path, "a") as it:
        (a,) = await it.start("a")
        for number in range(60):
            await a.add(f"r{number}", size=1000)
        await until(lambda: len(snapshots(tmp_path / "a")) == 2)
        await it.stop("a")
        newest = snapshots(tmp_path / "a")[-1]
        newest.write_bytes(newest.read_bytes()[:-1])
        (a,) = await it.start("a")
        await until(lambda: len(a.records) == 60)

        assert f"{newest} is damaged at offset" in caplog.text


@on_a_loop
@pytest.mark.usefixtures("_short_logs")
async def test_who_comes_back_with_a_damaged_snapshot_and_lags_has_the_leaders(addresses: Addresses, tmp_path: Path):
    """It begins with its older one and its own log, and is given a newer one, which it has from then on."""
    async with scene(addresses, tmp_path, "abc") as it:
        nodes = await it.start("a", "b", "c")
        for number in range(60):
            await nodes[0].add(f"r{number}", size=1000)
        await it.agree("a", "b", "c")
        await until(lambda: len(snapshots(tmp_path / "c")) == 2)
        await it.stop("c")
        newest = snapshots(tmp_path / "c")[-1]
        newest.write_bytes(newest.read_bytes()[:-1])
        for number in range(60, 120):
            await nodes[0].add(f"r{number}", size=1000)

        (c,) = await it.start("c")
        await it.agree("a", "b", "c")
        assert len(c.records) == 120
        assert c.member.restored_count >= 2, "once at the start, once from the leader"
        await it.stop("c")
        await it.start("c")
        await it.agree("a", "b", "c")


@on_a_loop
@pytest.mark.usefixtures("_short_logs")
async def test_without_any_good_snapshot_it_does_not_start(addresses: Addresses, tmp_path: Path):
    """It would be a voter that has forgotten what it acknowledged."""
    async with scene(addresses, tmp_path, "a") as it:
        (a,) = await it.start("a")
        for number in range(60):
            await a.add(f"r{number}", size=1000)
        await until(lambda: not (tmp_path / "a" / "journal-00000000000000000001").exists())
        await it.stop("a")
        for file in snapshots(tmp_path / "a"):
            file.unlink()

        with pytest.raises(ConfigurationError, match=r"the snapshot that it goes on from, of entry \d+, is missing"):
            await it.start("a")


@on_a_loop
@pytest.mark.usefixtures("_short_logs")
async def test_who_was_away_for_long_is_given_a_snapshot_and_goes_on(addresses: Addresses, tmp_path: Path):
    """It has to restore the state while it runs, and then follows the log; after a restart it still has all."""
    async with scene(addresses, tmp_path, "abc") as it:
        nodes = await it.start("a", "b", "c")
        await nodes[0].add("first")
        await it.agree("a", "b", "c")
        await it.stop("c")
        for number in range(60):
            await nodes[0].add(f"r{number}", size=1000)
        (c,) = await it.start("c")
        await until(lambda: len(c.records) == 61)
        assert c.member.restored_count >= 1

        assert await c.add("of c") == Done(created=1)
        await it.agree("a", "b", "c")
        await it.stop("c")
        (c,) = await it.start("c")
        await it.agree("a", "b", "c")


@on_a_loop
@pytest.mark.usefixtures("_short_logs")
async def test_a_list_of_peers_that_differs_makes_no_second_majority(addresses: Addresses, tmp_path: Path):
    """Who votes is in the state; a node that is told that it is alone waits for the others all the same."""
    async with scene(addresses, tmp_path, "abc") as it:
        nodes = await it.start("a", "b", "c")
        await nodes[0].add("first")
        await it.stop("a", "b", "c")
        alone = Node("a", addresses, "a", tmp_path / "a")
        it.nodes["a"] = alone
        await alone.engine.start()

        with pytest.raises(Unavailable):
            await alone.add("second", timeout=2.0)
        assert alone.status.leader is None
        assert alone.status.voters == ("a", "b", "c")
