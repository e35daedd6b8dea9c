"""A picture is of one moment, goes through bytes, and becomes a state like the one it was taken of."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from msgspec import Struct
from msgspec.structs import replace

from pydrm.core.commands import Form, Place, RequestId
from pydrm.core.invariants import check, verify
from pydrm.core.picture import CHUNK_ITEMS, SECTION_TYPES, Head, Section, take
from pydrm.core.placement import unfinished
from pydrm.core.records import Assignment, Condition, Phase
from pydrm.core.restoring import Restoring
from pydrm.core.settings import Voter
from pydrm.core.state import State
from tests.core.build import LEASE_TTL_MS, Cluster, add, cluster, numbered, opening_at_b, remove, through_bytes

Chunks = dict[Section, list[Struct]]


def house() -> Cluster:
    """Something in every section."""
    built = opening_at_b()
    built.apply(add("r3", "r4", "r5"), RequestId("a", 1, sequence=1, floor=1))
    built.apply(remove("r3"), RequestId("a", 1, sequence=2, floor=2))
    built.force("r1")
    built.limit("api.example.com", connections=3, connects_per_s=2.5)
    built.apply(add("r6", group="api.example.com"))
    assert built.take("r6", group="api.example.com")
    built.hold_back("feed.example.com", 1_000)
    return built


def sections(state: State) -> tuple[Head, Chunks]:
    picture = take(state)
    return picture.head, {section: [item for chunk in picture.chunks(section) for item in chunk] for section in Section}


def restore(head: Head, items: Chunks) -> State:
    restoring = Restoring(head)
    for section in Section:
        restoring.add(section, items[section])
    for _ in restoring.finish():
        pass
    return restoring.state


def test_a_picture_becomes_an_equal_state():
    """Records, digests and index, through the bytes of a file."""
    original = house().state

    restored = through_bytes(original)

    assert restored.digest == original.digest
    assert check(restored) == check(original) == []
    assert take(restored).head == take(original).head
    assert dict(restored.assignments.items()) == dict(original.assignments.items())
    assert restored.index.dead == original.index.dead


def test_an_unformed_state_has_a_picture_too():
    """A voter may be asked for one before anything happened."""
    assert through_bytes(State()).digest == State().digest


def test_a_picture_is_of_the_moment_at_which_it_was_taken():
    """The state goes on while somebody writes it down."""
    original = house()
    digest, count = original.digest, len(original.state.records)
    picture = take(original.state)

    original.apply(add(*numbered(50)))
    original.release("r2")
    original.apply(remove("r5"))

    items = {section: [item for chunk in picture.chunks(section) for item in chunk] for section in Section}
    restored = restore(picture.head, items)
    assert (restored.digest, len(restored.records)) == (digest, count)
    assert check(restored) == []
    assert check(original.state) == []


def test_a_section_is_given_in_chunks():
    """One chunk is what may be encoded, sent, decoded and added without a pause that would be felt."""
    state = cluster("a", resources=numbered(2 * CHUNK_ITEMS + 1), checked=False).state

    chunks = list(take(state).chunks(Section.RECORDS))

    assert [len(chunk) for chunk in chunks] == [CHUNK_ITEMS, CHUNK_ITEMS, 1]
    assert {type(item) for chunk in chunks for item in chunk} == {SECTION_TYPES[Section.RECORDS]}


def test_restored_records_share_the_strings_they_have_in_common():
    """A million ids in two records each, and a million names of three nodes."""
    built = Cluster()
    built.apply(Form("orders", (Voter("node-a", "replica-a"),), LEASE_TTL_MS))
    built.join("node-a")
    built.apply(add("resource-1"))

    restored = through_bytes(built.state)

    assignment = restored.assignments["resource-1", 0]
    assert assignment.holder is not None
    assert assignment.resource is restored.records["resource-1"].definition.id
    assert assignment.holder.node is restored.nodes["node-a"].name


def test_the_dead_are_buried_by_a_state_that_was_restored_meanwhile():
    """That an incarnation ended with claims is not in the picture; it follows from it."""
    built = cluster("a", "b", resources=numbered(1200), checked=False)
    while unfinished(built.state):
        built.apply(Place())
    built.expire("a")
    restored = through_bytes(built.state)

    assert list(restored.index.dead) == list(built.state.index.dead) == [("a", 1)]
    other = Cluster()
    other.state = restored
    assert other.apply(Place()) == built.apply(Place())


WRONG: dict[str, tuple[Callable[[Chunks], object], str]] = {
    "a record missing": (lambda c: c[Section.RECORDS].pop(), "is assigned and not defined"),
    "an answer missing": (lambda c: c[Section.ANSWERS].pop(), "answers were read"),
    "a node twice": (lambda c: c[Section.NODES].append(c[Section.NODES][0]), "node a is there twice"),
    "a record twice": (lambda c: c[Section.RECORDS].append(c[Section.RECORDS][0]), "is there twice"),
    "an assignment twice": (lambda c: c[Section.ASSIGNMENTS].append(c[Section.ASSIGNMENTS][0]), "is there twice"),
    "a floor twice": (lambda c: c[Section.FLOORS].append(c[Section.FLOORS][0]), "the floor of"),
    "an answer twice": (lambda c: c[Section.ANSWERS].append(c[Section.ANSWERS][0]), "the answer to request"),
    "an audit entry twice": (lambda c: c[Section.AUDIT].append(c[Section.AUDIT][0]), "audit entry 1"),
    "a budget twice": (lambda c: c[Section.BUDGETS].append(c[Section.BUDGETS][0]), "the budget of"),
    "an assignment of nothing": (
        lambda c: c[Section.ASSIGNMENTS].insert(0, Assignment("z", 0, Phase.WAITING, ticket=1)),
        "z is assigned and not defined",
    ),
    "another node": (
        lambda c: c[Section.NODES].insert(0, replace(c[Section.NODES].pop(0), nonce="x")),
        "the nodes are not those",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_no_picture_has_is_refused_by_name(name: str):
    """The bytes were as written; so somebody wrote them wrongly, and a state of them must not be used."""
    damage, words = WRONG[name]
    head, items = sections(house().state)

    damage(items)

    with pytest.raises(ValueError, match=words):
        restore(head, items)


def test_a_token_that_is_there_twice_is_refused():
    """Two holders under one token are what the whole machine is there to prevent."""
    head, items = sections(cluster("a", resources=["r1", "r2"]).state)
    one, other = items[Section.ASSIGNMENTS]
    assert isinstance(one, Assignment) and isinstance(other, Assignment)

    items[Section.ASSIGNMENTS] = [one, replace(other, holder=one.holder)]

    with pytest.raises(ValueError, match="token or ticket is there twice"):
        restore(head, items)


def test_a_holder_that_never_joined_is_refused():
    """Nodes are never forgotten."""
    head, items = sections(cluster("a", resources=["r1"]).state)
    items[Section.NODES].clear()

    with pytest.raises(ValueError, match="r1 is held by a, which is not there"):
        restore(head, items)


def test_what_restoring_takes_on_trust_is_found_by_verify():
    """It believes the digests of the head; somebody with more time need not."""
    head, items = sections(cluster("a", resources=["r1", "r2"]).state)
    one, other = items[Section.ASSIGNMENTS]
    assert isinstance(other, Assignment) and other.holder is not None
    other = replace(other, holder=replace(other.holder, condition=Condition.STUCK))

    state = restore(head, items | {Section.ASSIGNMENTS: [one, other]})

    assert verify(state) == ["the digest of assignments does not follow from its records"]
    assert verify(restore(replace(head, next_number=1), items)) != []


def test_a_state_becomes_another_in_place_and_the_other_what_it_was():
    """Other threads have the object, and go on reading it."""
    shared, restored = house().state, through_bytes(cluster("a", resources=["r9"]).state)
    before, after = shared.digest, restored.digest

    shared.become(restored)

    assert (shared.digest, restored.digest) == (after, before)
    assert list(shared.records) == ["r9"]
    assert check(shared) == check(restored) == []


def test_a_state_is_emptied_in_steps():
    """It takes as long to give up a million records as to read them."""
    state = cluster("a", resources=numbered(1200), checked=False).state

    steps = sum(1 for _ in state.empty())

    assert steps > 100
    assert (len(state.records), len(state.assignments)) == (0, 0)
    assert all(len(queue) == 0 for queue in state.index.queues())


def test_a_head_of_a_version_with_another_section_is_refused():
    """What it says is not known here, so nobody can say that it does not matter."""
    head, _ = sections(house().state)
    written = msgspec.msgpack.encode(msgspec.to_builtins(head) | {"counts": {"plans": 1}, "digests": {}})

    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(written, type=Head)
