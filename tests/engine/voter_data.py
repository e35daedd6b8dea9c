"""What tests of recovery build: the data directory of node a, one of three voters, the other two of which are lost."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

from pydrm.core.commands import AddResources, Command, Form, Join, Request
from pydrm.core.records import Definition
from pydrm.core.settings import Voter
from pydrm.engine.codec import encode_entry, encode_request
from pydrm.engine.data_directory import DataDirectory
from pydrm.engine.disk import Disk

LOST_ID = "orders-lost"
TTL_MS = 2000
VOTERS = (Voter("a", "id-1", "a:7000"), Voter("b", "id-of-b", "b:7000"), Voter("c", "id-of-c", "c:7000"))


def numbered() -> Callable[[], str]:
    numbers = count(1)
    return lambda: f"id-{next(numbers)}"


def add(*ids: str) -> AddResources:
    return AddResources(tuple(Definition(id, "held", b"") for id in ids))


LOG: tuple[Command, ...] = (
    Form(LOST_ID, VOTERS, TTL_MS),
    Join("a", "nonce-a", 0, TTL_MS),
    Join("b", "nonce-b", 0, TTL_MS),
    add("r1", "r2"),
    add("r3"),
)


def opened_as_a(path: Path, disk: Disk) -> DataDirectory:
    return DataDirectory(path, "orders", "a", disk=disk, new_id=numbered())


def lay_out(path: Path, disk: Disk, *commands: Command, committed: int = 5) -> None:
    """Node a has voted in term 3; its log is the first entry and one for each of *commands*, or of `LOG`."""
    directory = opened_as_a(path, disk)
    directory.open_journal(None)
    directory.form(LOST_ID, {voter.name: voter.replica_id for voter in VOTERS})
    journal = directory.journal
    journal.add(b"\x01", 1, 0)
    for index, command in enumerate(commands or LOG, start=2):
        journal.add(b"\x00" + encode_entry([encode_request(Request(command))]), index, 2)
    journal.setCurrentTerm(3, "b")
    journal.setRaftCommitIndex(committed)
    journal.write(journal.take_batch())
    directory.close()
