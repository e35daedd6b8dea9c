"""The digest, reading while another thread writes, and what `State` promises beside."""

from __future__ import annotations

from itertools import permutations

import pytest
from msgspec import Struct
from msgspec.structs import replace

from pydrm.core.answers import Done, Reason, Refused
from pydrm.core.budget_records import Budget, Holdback
from pydrm.core.records import Condition, Definition, Record
from pydrm.core.sessions import Floor, Remembered
from pydrm.core.settings import Settings, Voter
from pydrm.core.state import State
from pydrm.core.table import ShortTable, Table, fingerprint
from tests.core.build import add, cluster, remove


def record(id: str, revision: int = 1) -> Record:
    return Record(Definition(id, "websocket", b"{}"), revision)


@pytest.mark.parametrize("kind", [Table, ShortTable])
def test_a_tables_digest_does_not_depend_on_the_order_in_which_records_came(kind: type[Table[str, Record]]):
    """A replica that read a snapshot has them in another order than one that replayed the log."""
    digests = set()
    for order in permutations(["r1", "r2", "r3"]):
        table = kind()
        for id in order:
            table.put(id, record(id))
        digests.add(table.digest)

    assert len(digests) == 1


@pytest.mark.parametrize("kind", [Table, ShortTable])
def test_a_tables_digest_depends_on_what_is_in_it_and_not_on_what_was(kind: type[Table[str, Record]]):
    """Replaced and dropped records leave no trace."""
    table = kind()
    table.put("r1", record("r1"))
    alone = table.digest

    table.put("r2", record("r2"))
    table.put("r1", record("r1", revision=9))
    assert table.digest != alone
    table.put("r1", record("r1"))
    table.drop("r2")
    table.drop("r2")

    assert table.digest == alone
    table.drop("r1")
    assert table.digest == 0


def test_every_field_of_a_record_is_in_its_fingerprint():
    """What the digest does not see may differ between replicas for ever."""
    house = cluster("a", resources=["r1"], overlap=True)
    house.join("b")
    house.force("r1")
    house.apply(remove("r1"))
    house.apply(add("r1"))
    records: list[Struct] = [
        Settings("orders", (Voter("a", "1", "a.example:7000"),), 2000),
        house.record("r1"),
        house.record("r1").definition,
        house.assignment("r1"),
        house.claim("r1"),
        house.state.nodes["a"],
        house.state.audit[1],
        Budget("g", 1.0, 2, 3.0, 4, (5,), 6, (Holdback(7, 8, "429"),)),
        Holdback(7, 8, "429"),
        Floor(("a", 1), 7),
        Remembered(("a", 1), 8, Done(missing=("r1",))),
        Remembered(("a", 1), 8, Refused(Reason.STALE)),
        Done(missing=("r1",)),
        Refused(Reason.STALE),
    ]

    for original in records:
        for name in original.__struct_fields__:
            changed = replace(original, **{name: _another(getattr(original, name))})
            assert fingerprint(changed) != fingerprint(original), f"{type(original).__name__}.{name}"


def _another(value: object) -> object:
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return value + "x"
        case bytes():
            return value + b"x"
        case tuple():
            return value[1:] if value else (cluster("f", resources=["r9"]).claim("r9"),)
        case None:
            return cluster("f", resources=["r9"]).claim("r9")
        case Definition():
            return replace(value, id="another")
        case Condition():
            return Condition.STUCK if value is not Condition.STUCK else Condition.OPEN
        case Done() | Refused():
            return Refused(Reason.BUG)
        case Struct():
            return None
        case _:
            return next(member for member in type(value) if member is not value)  # type: ignore[attr-defined]


def test_states_that_came_by_the_same_log_have_equal_digests_and_others_have_not():
    """Each command that changes something changes the digest."""
    digests = []
    house = cluster("a", "b")
    for command in (add("r1"), add("r2"), remove("r1"), add("r1", url="ws://x")):
        house.apply(command)
        digests.append(house.digest)

    assert len(set(digests)) == 4
    assert cluster("a", "b", resources=["r1"]).digest == digests[0]


def test_an_empty_state_has_a_digest_too():
    """It is compared at index 0 like at any other."""
    assert State().digest == State().digest
    assert 0 <= State().digest < 2**128


def test_held_by_names_all_that_an_incarnation_may_have_a_handle_for_oldest_token_first():
    """Holder, target or taken from by force: wherever a handle may be."""
    house = cluster("a", resources=["r1", "r2", "r3"], overlap=True)
    house.join("b")
    assert house.target("r3").node == "b"
    house.force("r1")

    assert house.state.held_by("a", 1) == [("r1", 0), ("r2", 0), ("r3", 0)]
    assert house.state.held_by("b", 2) == [("r3", 0), ("r1", 0)]
    assert house.state.held_by("b", 1) == []
    assert [house.state.held_count(*who) for who in (("a", 1), ("b", 2), ("b", 1))] == [3, 2, 0]


def test_only_the_newest_incarnation_whose_lease_has_not_ended_is_current():
    """Anybody else's word is refused."""
    house = cluster("a", "b")
    house.restart("a")
    house.expire("b")

    assert house.state.is_current(("a", 3))
    assert not house.state.is_current(("a", 1))
    assert not house.state.is_current(("b", 2))
    assert not house.state.is_current(("c", 0))
