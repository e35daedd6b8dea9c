"""Who does not belong to the cluster, or has forgotten that it does, holds nothing and is told so."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pydrm.address import split_address
from tests.acceptance.scene import LEASE_TTL_S, PATIENCE_S, Scene, on_stage

GROWTH_BYTES_MAX = 48 * 1024 * 1024
BARRAGE_S = 6.0


def refusals(scene: Scene, name: str, other: str) -> list[str]:
    """The lines in *name*'s log which say that one of the two refuses the other."""
    return [
        line
        for line in scene.cluster[name].log().splitlines()
        if f"refused {other!r}" in line or f"{other} refuses this node" in line
    ]


def wait_refused(scene: Scene, name: str, others: str) -> None:
    """Until *name* and each of *others* have said so: how soon a process has started is the machine's affair."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not all(refusals(scene, other, name) and refusals(scene, name, other) for other in others):
        assert time.monotonic() < deadline_s, f"{name} is not refused after {PATIENCE_S:.0f} s"
        time.sleep(0.05)


def test_an_empty_voter_that_comes_back_is_refused_and_counts_for_nothing(tmp_path: Path) -> None:
    """It may have voted before it forgot; with it as a majority, an acknowledged entry could be lost."""
    with on_stage(tmp_path, resources=300) as scene:
        scene.start_all()
        killed_s = scene.cluster["c"].kill()
        scene.settle("ab", killed_s)
        scene.cluster["c"].wipe()

        returned_s = scene.cluster.start("c")
        wait_refused(scene, "c", "ab")
        scene.witness.watch(2 * LEASE_TTL_S)

        assert scene.diary.stays(since_s=returned_s, nodes="c") == []
        assert scene.diary.ended(returned_s) == []
        for other in "ab":
            for [line] in (refusals(scene, other, "c"), refusals(scene, "c", other)):
                assert "data directory is not the one that the cluster knows" in line

        scene.cluster["b"].kill()
        assert scene.witness.wait_until(lambda diary: not diary.held(), timeout_s=2 * LEASE_TTL_S)
        scene.witness.watch(LEASE_TTL_S)
        assert scene.diary.held() == {}
        assert scene.add(["late"], at="a", timeout_s=2).exit_code == 4
        scene.verify()


def test_a_stranger_is_refused_with_one_clear_line_on_both_sides(tmp_path: Path) -> None:
    with on_stage(tmp_path, resources=30) as scene:
        scene.start_all()
        stranger = scene.cluster.add_stranger("x", cluster="invoices")

        started_s = stranger.start()
        wait_refused(scene, "x", "abc")
        scene.witness.watch(2 * LEASE_TTL_S)

        assert scene.diary.stays(nodes="x") == []
        assert scene.diary.ended(started_s) == []
        for voter in "abc":
            [line] = refusals(scene, voter, "x")
            assert "belongs to cluster" in line
            assert len(refusals(scene, "x", voter)) == 1
        scene.verify()


# --- who only wants to do harm ---------------------------------------------------------------------------------------


def says_garbage(one: socket.socket) -> Iterator[None]:
    """As much of it as is taken."""
    while True:
        one.send(os.urandom(64 * 1024))
        yield


def promises_a_long_frame(one: socket.socket) -> Iterator[None]:
    """Of 4 GiB, and begins to send it."""
    one.send(b"\xff\xff\xff\xff")
    while True:
        one.send(bytes(256 * 1024))
        yield


def promises_what_may_be(one: socket.socket) -> Iterator[None]:
    """The longest that is read before somebody has said who it is, all but its last byte."""
    one.send((16 * 1024).to_bytes(4, "little") + bytes(16 * 1024 - 1))
    while True:
        yield


def drips(one: socket.socket) -> Iterator[None]:
    """A byte now and then, of a frame that is never whole (slow loris)."""
    one.send((1000).to_bytes(4, "little"))
    while True:
        one.send(b"\x99")
        yield


def opens_half(one: socket.socket) -> Iterator[None]:
    """It says that it will say nothing more, and stays."""
    one.shutdown(socket.SHUT_WR)
    while True:
        yield


HARM: list[Callable[[socket.socket], Iterator[None]]] = [
    says_garbage,
    promises_a_long_frame,
    promises_what_may_be,
    drips,
    opens_half,
]


class Intruder:
    """Connects to *address*, does harm until it is thrown out, and comes again."""

    def __init__(self, address: str, harm: Callable[[socket.socket], Iterator[None]]) -> None:
        self._address = split_address(address)
        self._harm = harm
        self._one: socket.socket | None = None
        self.thrown_out = 0

    def go_on(self) -> None:
        try:
            if self._one is None:
                self._one = socket.create_connection(self._address, timeout=1.0)
                self._one.setblocking(False)
                self._steps = self._harm(self._one)
            if self._is_closed(self._one):
                raise ConnectionResetError
            next(self._steps, None)
        except BlockingIOError:
            pass  # the node does not take it as fast
        except OSError:
            self.thrown_out += 1
            self.leave()

    def leave(self) -> None:
        if self._one is not None:
            self._one.close()
            self._one = None

    def _is_closed(self, one: socket.socket) -> bool:
        """By the node. What that says is read and forgotten."""
        try:
            return one.recv(64 * 1024) == b""
        except BlockingIOError:
            return False


def memory_bytes(pid: int) -> int:
    """What the process has of physical memory now, see proc_pid_statm(5)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_who_only_wants_to_do_harm_costs_real_nodes_no_resource_and_little_memory(tmp_path: Path) -> None:
    """Garbage, frames without end, slow ones and half-open ones, ten of each at every node at once, again and again."""
    with on_stage(tmp_path, resources=60) as scene:
        scene.start_all()
        nodes = [scene.cluster[name] for name in "abc"]
        before = [memory_bytes(node.pid) for node in nodes]
        addresses = [scene.cluster.settings(name)["bind"] for name in "abc"]
        intruders = [Intruder(address, harm) for address in addresses for harm in HARM for _ in range(10)]
        growth = 0

        begun_s = time.monotonic()
        while time.monotonic() < begun_s + BARRAGE_S:
            for intruder in intruders:
                intruder.go_on()
            growth = max(growth, *(memory_bytes(node.pid) - was for node, was in zip(nodes, before, strict=True)))
            time.sleep(0.02)  # so that they are as many as they are, and not as fast as this machine lets them be
        added = scene.add(["meanwhile"], at="b")
        for intruder in intruders:
            intruder.leave()

        assert added.exit_code == 0, added.stderr
        assert all(node.running for node in nodes)
        assert scene.diary.ended(begun_s) == []
        assert growth < GROWTH_BYTES_MAX
        assert sum(intruder.thrown_out for intruder in intruders) > len(intruders)
        scene.settle("abc", begun_s, [*scene.ids, "meanwhile"])
        scene.verify()
