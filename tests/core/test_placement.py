"""Placement: the least loaded, as few moves as can be, and none without a cause."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydrm.core.changes import AssignmentChanged, Cause
from pydrm.core.commands import Expire, Place, RemoveResources
from pydrm.core.handle_commands import HandleReport, Report
from pydrm.core.loads import pour
from pydrm.core.placement import unfinished
from pydrm.core.records import Condition
from tests.core.build import add, begun, changed_by, cluster, join, numbered, remove, renew

# --- who gets it -----------------------------------------------------------------------------------------------------


def test_what_has_no_holder_goes_to_the_least_loaded_and_of_equals_to_the_first_by_name():
    """The same on every node, whatever order the nodes joined in."""
    house = cluster("c", "a", "b")

    house.apply(add("r1", "r2", "r3", "r4"))

    assert house.held() == {"r1": "a", "r2": "b", "r3": "c", "r4": "a"}


def test_of_equals_the_one_that_held_it_last_gets_it_back():
    """A connection that has to be opened anew is opened where its neighbours are."""
    house = cluster("a", "b", "c", resources=["r1", "r2", "r3"], url="ws://one")

    house.apply(add("r3", url="ws://two"))
    house.release("r3")

    assert house.holder("r3") == "c"


def test_the_one_that_held_it_last_does_not_get_it_if_it_is_more_loaded():
    """Even load comes first, or an update would undo what placement had done."""
    house = cluster("a", resources=["r1", "r2", "r3"], url="ws://one")
    house.apply(add("r3", url="ws://two"))

    house.join("b")
    house.release("r3")

    assert house.holder("r3") == "b"


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 100, 101])
@pytest.mark.parametrize("names", ["a", "abc", "abcde"])
def test_an_add_leaves_the_load_even_at_once(names: str, count: int):
    """Most and least loaded are one apart at the most, without a move."""
    house = cluster(*names)

    house.apply(add(*numbered(count)))

    counts = house.counts()
    assert sum(counts) == count
    assert counts[0] - counts[-1] <= 1
    assert begun(house) == []


def test_removals_are_evened_out():
    """What is left is even again, by as few moves as that takes."""
    house = cluster("a", "b", "c", resources=numbered(9))
    gone = [name for name, node in house.held().items() if node == "a"]

    house.apply(remove(*gone))
    moved = set(house.settle()) - set(gone)

    assert house.counts() == [2, 2, 2]
    assert len(moved) == 2


# --- a node joins or leaves ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 12, 30, 31, 32, 33, 100])
@pytest.mark.parametrize("names", ["a", "ab", "abc", "abcd"])
def test_a_node_that_joins_gets_its_share_by_the_least_number_of_moves(names: str, count: int):
    """Its share of the whole, rounded down, is what has to move; nothing moves between the others."""
    house = cluster(*names, resources=numbered(count))
    before = house.held()

    house.join("e")
    moved = house.settle()

    after = house.held()
    assert len(moved) == count // (len(names) + 1)
    assert {name for name in before if after[name] != before[name]} == set(moved)
    assert {after[name] for name in moved} <= {"e"}
    assert house.counts()[0] - house.counts()[-1] <= 1


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 12, 30, 31, 32, 33, 100])
@pytest.mark.parametrize("names", ["ab", "abc", "abcd"])
def test_when_a_node_dies_only_what_it_held_changes_hands(names: str, count: int):
    """The other nodes' connections are not touched, and the load is even in the same step."""
    house = cluster(*names, resources=numbered(count))
    before = house.held()
    tokens = {name: house.token(name) for name in before}

    house.expire("b")

    after = house.held()
    assert {name for name in before if house.token(name) != tokens[name]} == {
        name for name, node in before.items() if node == "b"
    }
    assert all(after[name] == node for name, node in before.items() if node != "b")
    assert begun(house) == []
    assert house.counts()[0] - house.counts()[-1] <= 1


def test_a_node_that_comes_back_takes_its_share_and_no_more():
    """Gone and back again: as many moves as its share, twice, and everything else stays."""
    house = cluster("a", "b", "c", "d", resources=numbered(40))
    house.expire("d")

    house.join("d")
    moved = house.settle()

    assert len(moved) == 10
    assert house.counts() == [10, 10, 10, 10]


def test_two_nodes_that_join_at_once_get_their_shares_by_the_least_number_of_moves():
    """What is on its way counts already, so the second join asks for no more than is missing."""
    house = cluster("a", "b", resources=numbered(40))

    house.join("c")
    house.join("d")
    moved = house.settle()

    assert house.counts() == [10, 10, 10, 10]
    assert len(moved) == 20


def test_a_join_in_the_middle_of_the_moves_of_another_counts_what_is_on_its_way():
    """Half of it has arrived, the rest has not, and the sum is still the least."""
    house = cluster("a", "b", resources=numbered(30))
    house.join("c")
    first = begun(house)
    house.release(*first[:5])

    house.join("d")
    moved = house.settle()

    assert house.counts()[0] - house.counts()[-1] <= 1
    assert len(first[:5]) + len(moved) <= 17


def test_a_node_that_leaves_in_the_middle_of_its_moves_leaves_the_load_even():
    """What was on its way to it goes where the load is least."""
    house = cluster("a", "b", resources=numbered(30))
    house.join("c")
    house.release(*begun(house)[:4])

    house.expire("c")
    house.settle()

    assert house.counts() == [15, 15]


def test_what_is_being_released_counts_as_placed_so_an_add_begins_no_further_moves():
    """Commands that come during a move do not make it larger."""
    house = cluster("a", "b", resources=numbered(20))
    house.join("c")
    first = begun(house)

    house.apply(add("more"))
    house.apply(Place())
    house.renew("a")

    assert begun(house) == first


# --- nothing moves without a cause -----------------------------------------------------------------------------------


def test_nothing_moves_in_a_settled_cluster_whatever_is_said():
    """Renewals, reports, repetitions, refusals and `Place` itself leave every assignment as it is."""
    house = cluster("a", "b", "c", resources=numbered(10))
    token = house.token("r0000")
    commands = [
        renew("a", count=1),
        renew("b", incarnation=7),
        join("a", nonce="other"),
        Expire("a", 1, 99),
        add(*numbered(10)),
        remove("nothing"),
        RemoveResources(()),
        Report("a", 1, (HandleReport("r0000", 0, token, Condition.OPEN),)),
        Place(),
    ]
    held = {name: (house.holder(name), house.token(name)) for name in numbered(10)}

    for command in commands:
        house.apply(command)
        assert {name: (house.holder(name), house.token(name)) for name in numbered(10)} == held
        assert not unfinished(house.state)


def test_every_change_of_an_assignment_says_its_cause():
    """A join is a reason to balance, and balancing is what the changes say."""
    house = cluster("a", resources=["r1", "r2"])

    changes = house.join("b").changes

    assert [(c.assignment.resource, c.cause) for c in changes if isinstance(c, AssignmentChanged)] == [
        ("r2", Cause.BALANCED)
    ]


def test_the_newest_is_moved_first():
    """It has been where it is for the shortest time."""
    house = cluster("a", resources=numbered(9))

    assert changed_by(house.join("b")) == ["r0008", "r0007", "r0006", "r0005"]


# --- weights ---------------------------------------------------------------------------------------------------------


def test_the_load_is_the_sum_of_weights():
    """One heavy resource counts as many light ones."""
    house = cluster("a", "b")

    house.apply(add("heavy", weight=10))
    house.apply(add(*numbered(10)))

    assert house.loads() == {"a": 10, "b": 10}


def test_a_move_is_begun_only_if_it_makes_the_load_more_even():
    """A single heavy resource stays where it is, however empty the other node."""
    house = cluster("a", resources=["heavy"], weight=10)

    house.join("b")

    assert begun(house) == []


def test_a_heavy_resource_moves_if_that_is_less_uneven():
    """Eight and five on one node: five goes to the other, for eight is nearer to five than thirteen to none."""
    house = cluster("a")
    house.apply(add("eight", weight=8))
    house.apply(add("five", weight=5))

    house.join("b")
    house.settle()

    assert house.held() == {"eight": "a", "five": "b"}


def test_what_is_long_on_its_way_makes_nothing_else_come_and_go():
    """A heavy resource takes its time to close; a light one may not be moved out of its future place and back."""
    house = cluster("a", "b")
    house.apply(add("heavy", url="ws://one", weight=10))
    house.apply(add("light", "lighter"))
    house.apply(add("heavy", url="ws://two", weight=10))
    house.apply(add("new"))

    moves = 0
    for _ in range(20):
        if closing := [name for name in begun(house) if name != "heavy"]:
            moves += 1
            house.release(*closing)

    assert moves <= 1
    house.settle()
    assert house.loads() == {"a": 10, "b": 3}


@given(
    weights=st.lists(st.integers(1, 12), max_size=30),
    joining=st.lists(st.sampled_from("bcdef"), unique=True, min_size=1),
    leaving=st.sampled_from("abcdef"),
)
def test_when_all_has_settled_no_single_move_would_make_the_load_more_even(weights, joining, leaving):
    """Whatever the weights, who joined and who left: rule 2 has nothing more to do."""
    house = cluster("a")
    for number, weight in enumerate(weights):
        house.apply(add(f"r{number}", weight=weight))
    house.join(*joining)
    if house.incarnation(leaving):
        house.expire(leaving)
    house.settle()

    loads = house.loads()
    for assignment in house.state.assignments.values():
        if assignment.holder is not None:
            assert assignment.weight >= loads[assignment.holder.node] - min(loads.values())


@given(
    loads=st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 40), min_size=1),
    weight=st.integers(1, 9),
    count=st.integers(0, 60),
)
def test_pouring_many_at_once_is_placing_them_one_by_one(loads, weight, count):
    """The shortcut by which moves in flight are counted gives what rule 1 would give in the long way."""
    one_by_one = dict(sorted(loads.items()))
    for _ in range(count):
        least = min(one_by_one, key=lambda name: (one_by_one[name], name))
        one_by_one[least] += weight

    at_once = dict(sorted(loads.items()))
    pour(at_once, weight, count)

    assert at_once == one_by_one


# --- draining --------------------------------------------------------------------------------------------------------


def test_a_draining_node_gives_everything_away_and_the_others_give_nothing():
    """As many moves as it holds, and the load of those that stay is even."""
    house = cluster("a", "b", "c", resources=numbered(30))
    mine = {name for name, node in house.held().items() if node == "b"}

    house.drain("b")
    moved = house.settle()

    assert set(moved) == mine
    assert len(moved) == 10
    assert house.loads() == {"a": 15, "b": 0, "c": 15}


def test_a_node_that_joins_while_another_drains_takes_what_that_one_gives():
    """No move between those that stay, if the one that leaves gives enough."""
    house = cluster("a", "b", "c", resources=numbered(30))
    house.drain("c")

    house.join("d")
    moved = house.settle()

    assert len(moved) == 10
    assert house.loads() == {"a": 10, "b": 10, "c": 0, "d": 10}


def test_two_nodes_that_drain_at_once_give_nothing_to_each_other():
    """What is handed over is handed over once."""
    house = cluster("a", "b", "c", resources=numbered(30))

    house.drain("a")
    house.drain("b")
    moved = house.settle()

    assert len(moved) == 20
    assert house.loads() == {"a": 0, "b": 0, "c": 30}


def test_a_restart_ends_the_draining():
    """The new process has not been asked to leave."""
    house = cluster("a", "b", resources=numbered(10))
    house.drain("a")
    house.settle()

    house.restart("a")
    house.settle()

    assert house.loads() == {"a": 5, "b": 5}
