"""Overlap, where a resource asks for it: open at the new holder first, then close at the old one."""

from __future__ import annotations

from pydrm.core.answers import Done
from pydrm.core.commands import Place
from pydrm.core.records import Phase
from tests.core.build import add, begun, cluster, numbered


def test_with_overlap_the_target_counts_and_the_holder_does_not():
    """The load is what it will be, so a move that takes long is not begun twice."""
    house = cluster("a", resources=numbered(10), overlap=True)

    house.join("b")

    assert house.loads() == {"a": 5, "b": 5}
    assert len(begun(house)) == 5
    assert house.apply(Place()).changes == ()


def test_with_overlap_a_move_ends_with_the_same_counts_as_without():
    """Opening first changes the order of events, not where things go."""
    counts = []
    for overlap in (False, True):
        house = cluster("a", "b", resources=numbered(31), overlap=overlap)
        house.join("c")
        moved = house.settle()
        counts.append((house.counts(), len(moved)))

    assert counts[0] == counts[1] == ([11, 10, 10], 10)


def test_with_overlap_an_update_opens_the_new_definition_beside_the_old_one():
    """The same node, two tokens: the old handle is closed when the new one is open."""
    house = cluster("a", "b", resources=["r1", "r2"], url="ws://one", overlap=True)
    old = house.claim("r1")

    answer = house.do(add("r1", url="ws://two", overlap=True))

    assert answer == Done(updated=1)
    assert (house.phase("r1"), house.claim("r1")) == (Phase.OPENING, old)
    new = house.target("r1")
    assert (new.node, new.incarnation, new.revision) == ("a", 1, house.record("r1").revision)
    house.open_target("r1")
    assert house.phase("r1") is Phase.RELEASING
    house.release("r1")
    assert (house.phase("r1"), house.token("r1")) == (Phase.HELD, new.token)


def test_with_overlap_an_update_at_a_draining_node_is_an_ordinary_release():
    """There is no point in opening anything new on a node that leaves."""
    house = cluster("a", "b", resources=["r1"], url="ws://one", overlap=True)
    house.drain("a")
    assert house.phase("r1") is Phase.OPENING
    house.expire("b")
    assert house.phase("r1") is Phase.RELEASING

    house.apply(add("r1", url="ws://two", overlap=True))

    assert (house.phase("r1"), house.assignment("r1").target) == (Phase.RELEASING, None)


def test_with_overlap_a_new_weight_counts_once_its_handle_is_the_only_one():
    """However the new definition came to be held, its weight is the one that counts."""
    house = cluster("a", "b", resources=["r1", "r2"], overlap=True)

    house.apply(add("r1", overlap=True, weight=5))
    house.settle()

    assert house.assignment("r1").weight == 5
    assert house.loads() == {"a": 5, "b": 1}


def test_with_overlap_a_new_handle_that_is_given_up_does_not_leave_the_old_definition_held():
    """It is released and opened anew, at the revision that counts."""
    house = cluster("a", resources=["r1"], url="ws://one", overlap=True, checked=False)
    house.apply(add("r1", url="ws://two", overlap=True))

    house.release_target("r1")
    house.settle()

    assert house.phase("r1") is Phase.HELD
    assert house.claim("r1").revision == house.record("r1").revision
