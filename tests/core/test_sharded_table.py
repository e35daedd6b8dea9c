"""The tables of which there may be a million rows: like any `Table`, and out of the collector's sight."""

from __future__ import annotations

import gc
import threading
from random import Random

import pytest

from pydrm.core.records import Assignment, Definition, Phase, Record
from pydrm.core.sharded_table import AssignmentTable, RecordTable
from pydrm.core.table import Table
from tests.core.build import add, cluster, numbered


def record(id: str, revision: int = 1) -> Record:
    return Record(Definition(id, "websocket", b"{}"), revision)


def waiting(id: str, slot: int, ticket: int) -> Assignment:
    return Assignment(id, slot, Phase.WAITING, ticket=ticket)


@pytest.mark.parametrize("seed", range(5))
def test_it_does_what_a_table_does_with_the_same_writes(seed: int):
    """Where the records lie makes no difference to anything but the order in which all are given."""
    random = Random(seed)
    table: Table[tuple[str, int], Assignment] = Table()
    sharded = AssignmentTable()
    for ticket in range(2000):
        key = (f"r{random.randrange(300)}", random.choice([0, 0, 0, 1]))
        assert sharded.get(key) == table.get(key)
        assert (key in sharded) == (key in table)
        if random.random() < 0.6:
            table.put(key, waiting(*key, ticket))
            sharded.put(key, waiting(*key, ticket))
        else:
            table.drop(key)
            sharded.drop(key)

        assert sharded.digest == table.digest
    assert dict(sharded.items()) == dict(table)
    assert sorted(sharded) == sorted(sharded.keys()) == sorted(table)
    assert len(sharded.values()) == len(sharded) == len(table)


def test_a_write_returns_what_it_replaced():
    """The index has to know what was there."""
    table = RecordTable()

    assert table.put("r1", record("r1")) is None
    assert table.put("r1", record("r1", 2)) == record("r1", 1)
    assert table.drop("r1") == record("r1", 2)
    assert table.drop("r1") is None


def test_what_is_not_there_is_missed_as_in_a_dict():
    """Whatever the id is, also one that no encoding has."""
    table = RecordTable()

    assert table.get("\udc80") is None
    with pytest.raises(KeyError, match="r1"):
        table["r1"]


def test_numbered_resources_lie_evenly():
    """No dict is so large that its growth would be felt."""
    table = RecordTable()
    for id in numbered(20480, prefix="resource-"):
        table.put(id, record(id))

    assert max(map(len, table.share())) < 3 * 10


def test_what_was_shared_is_what_was_there_then():
    """However the table goes on, also where it is shared a second time."""
    table = RecordTable()
    for id in numbered(100):
        table.put(id, record(id))

    first = table.share()
    table.put("r0001", record("r0001", 2))
    table.drop("r0002")
    second = table.share()
    table.put("r0001", record("r0001", 3))
    table.put("r0100", record("r0100"))

    assert sorted(row.definition.id for shard in first for row in shard.values()) == numbered(100)
    assert {row.revision for shard in first for row in shard.values()} == {1}
    assert sum(map(len, second)) == 99
    assert {row.revision for shard in second for row in shard.values()} == {1, 2}
    assert (len(table), table["r0001"].revision) == (100, 3)


def test_what_is_loaded_is_there_and_the_digest_is_anothers_business():
    """Restoring knows it already."""
    table = RecordTable()

    assert table.load("r1", record("r1"))
    assert not table.load("r1", record("r1", 2))
    assert table["r1"] == record("r1")
    assert table.digest == 0


def test_it_is_emptied_in_steps():
    """A million records that go at once would stop the node."""
    table = RecordTable()
    for id in numbered(100):
        table.put(id, record(id))
    shards = len(table.share())

    assert len(list(table.empty())) == shards
    assert (len(table), table.digest) == (0, 0)


def test_all_can_be_read_while_another_thread_writes():
    """Each list is of one moment; the moments of two lists differ."""
    table = RecordTable()
    done = threading.Event()

    def write() -> None:
        for round in range(300):
            for id in numbered(100):
                table.put(id, record(id, round)) if round % 3 else table.drop(id)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        assert all(name == row.definition.id for name, row in table.items())
        assert len(table.values()) <= 100
    writer.join()


def test_more_resources_are_no_more_work_for_the_collector():
    """It would look at each object that it knows of, and the node would stand still meanwhile."""
    house = cluster("a", "b", "c", resources=numbered(100), checked=False)

    def seen() -> int:
        gc.collect()
        return len(gc.get_objects())

    few = seen()
    for start in range(0, 5000, 500):
        house.apply(add(*(f"more-{number}" for number in range(start, start + 500))))

    assert seen() - few < 100
