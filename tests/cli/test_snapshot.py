"""`pydrm snapshot`: what is shown of good snapshots, of damaged ones, and of those that contradict themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pydrm.cli.exits import Exit
from pydrm.cli.main import main
from pydrm.core.picture import Section, take
from pydrm.core.state import State
from pydrm.engine.local_disk import LocalDisk
from pydrm.engine.snapshots import Heading, Snapshots, encoded
from tests.core.build import Cluster, add, cluster


def write(directory: Path, state: State, index: int, *, digest: str = "") -> Path:
    snapshots = Snapshots(directory, LocalDisk())
    picture = take(state)
    file = snapshots.create(index, 2)
    for piece in encoded(Heading("orders-1", index, 2, digest or f"{state.digest:032x}", picture.head), picture):
        file.write(piece)
    file.commit()
    return snapshots.add(index, 2).path


@pytest.fixture
def house() -> Cluster:
    return cluster("a", "b", resources=["r1", "r2"])


@pytest.fixture
def directory(tmp_path: Path, house: Cluster) -> Path:
    """There are two, and one that is being written."""
    write(tmp_path, house.state, 7)
    house.apply(add("r3"))
    write(tmp_path, house.state, 9)
    (tmp_path / "snapshot-00000000000000000011-2.new").write_bytes(b"pyd")
    return tmp_path


def older(directory: Path) -> Path:
    return directory / "snapshot-00000000000000000007-2"


def newer(directory: Path) -> Path:
    return directory / "snapshot-00000000000000000009-2"


def test_snapshots_are_shown_one_a_line(directory: Path, house: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(directory.iterdir())

    assert main(["snapshot", str(directory)]) == Exit.OK

    lines = capsys.readouterr().out.splitlines()
    head = "INDEX  TERM  BYTES  STATE  CLUSTER   VOTERS       PROTOCOL  NODES  RESOURCES  DIGEST"
    assert lines[0].split() == head.split()
    assert [line.split()[:2] for line in lines[1:3]] == [["7", "2"], ["9", "2"]]
    size, digest = newer(directory).stat().st_size, f"{house.digest:032x}"[:8]
    assert lines[2].split()[2:] == [str(size), "good", "orders-1", *"abcdef", "1", "2", "3", digest]
    assert lines[3:] == ["", f"in {directory}: {older(directory).name}, {newer(directory).name}"]
    assert sorted(directory.iterdir()) == before


def test_json_has_all_of_it(directory: Path, house: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["snapshot", str(directory), "--json"]) == Exit.OK

    shown = json.loads(capsys.readouterr().out)
    assert list(shown) == ["snapshots"]
    assert shown["snapshots"][1] == {
        "file": newer(directory).name,
        "index": 9,
        "term": 2,
        "bytes": newer(directory).stat().st_size,
        "good": True,
        "damage": "",
        "cluster_id": "orders-1",
        "voters": {name: f"replica-{name}" for name in "abcdef"},
        "protocol": 1,
        "recovering": False,
        "nodes": 2,
        "resources": 3,
        "digest": f"{house.digest:032x}",
    }


def test_records_are_those_of_the_newest_good_one(
    directory: Path, house: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    house.apply(add("r4"))
    damaged = write(directory, house.state, 10)
    damaged.write_bytes(damaged.read_bytes()[:-1])

    assert main(["snapshot", str(directory), "--records", "--json"]) == Exit.INVALID
    records = json.loads(capsys.readouterr().out)["records"]
    assert main(["snapshot", str(directory), "--records"]) == Exit.INVALID
    lines = capsys.readouterr().out.splitlines()

    r3 = {"id": "r3", "kind": "websocket", "holder": "a", "token": house.token("r3"), "phase": "held"}
    assert [record["id"] for record in records] == ["r1", "r2", "r3"]
    assert records[2] == r3
    assert lines[0].split() == ["ID", "KIND", "HOLDER", "TOKEN", "PHASE"]
    assert lines[3].split() == [str(value) for value in r3.values()]


def test_a_damaged_one_is_shown_among_the_others_and_named_with_its_offset(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newer(directory).write_bytes(newer(directory).read_bytes()[:-1])

    assert main(["snapshot", str(directory)]) == Exit.INVALID

    shown = capsys.readouterr()
    assert [line.split()[3] for line in shown.out.splitlines()[1:3]] == ["good", "DAMAGED"]
    assert shown.err.startswith(f"pydrm snapshot: {newer(directory)} is damaged at offset ")


@pytest.mark.parametrize("what", ["records", "whole"])
def test_one_whose_digests_are_not_those_of_its_content_is_not_good(
    directory: Path, house: Cluster, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    """Every checksum of the file is right; what was written was wrong already."""
    if what == "records":
        house.state.records.digest += 1
        bad = write(directory, house.state, 10)
        told = f"the digest of {Section.RECORDS.value} does not follow from its records"
    else:
        bad = write(directory, house.state, 10, digest="0" * 32)
        told = "the digest of the whole is another"

    assert main(["snapshot", str(directory)]) == Exit.INVALID

    assert capsys.readouterr().err == f"pydrm snapshot: {bad} contradicts itself: {told}\n"


def test_where_there_is_none_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["snapshot", str(tmp_path)]) == Exit.INVALID
    assert main(["snapshot", str(tmp_path / "nothing")]) == Exit.INVALID

    assert capsys.readouterr().err.splitlines() == [
        f"pydrm snapshot: there is no snapshot in {tmp_path}",
        f"pydrm snapshot: {tmp_path / 'nothing'} cannot be read: No such file or directory",
    ]
