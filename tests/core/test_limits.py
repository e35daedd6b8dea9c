"""One step has a limit; `Place` goes on where it stopped, and in the end it is as if there were none."""

from __future__ import annotations

import pytest

from pydrm.core.commands import Place
from pydrm.core.handle_commands import Handle, Release
from pydrm.core.placement import STEP_ASSIGNMENTS_MAX, unfinished
from pydrm.core.records import Phase
from tests.core.build import Cluster, add, changed_by, cluster, numbered, remove

MANY = 3 * STEP_ASSIGNMENTS_MAX


def go_on(house: Cluster) -> int:
    """Propose `Place` for as long as there is something left to do, as a leader does; how often that was."""
    times = 0
    while unfinished(house.state):
        outcome = house.apply(Place())
        assert outcome.changes, "unfinished, and yet Place does nothing"
        times += 1
    return times


def phases(house: Cluster, phase: Phase) -> int:
    return sum(assignment.phase is phase for assignment in house.state.assignments.values())


def test_one_expiry_reassigns_so_many_and_place_goes_on_with_the_rest():
    """A node with a million resources must not stop the cluster's log while it is buried."""
    house = cluster("a", "b", resources=numbered(2 * MANY), checked=False)
    go_on(house)
    assert house.counts() == [MANY, MANY]

    first = house.expire("a")

    assert len(changed_by(first)) == STEP_ASSIGNMENTS_MAX
    assert unfinished(house.state)
    assert go_on(house) == 2
    assert house.loads() == {"b": 2 * MANY}
    assert phases(house, Phase.HELD) == 2 * MANY


def test_the_rest_keeps_its_dead_holder_until_its_turn_comes():
    """It is not forgotten: its claims are in the index of the dead until they are taken over."""
    house = cluster("a", "b", resources=numbered(2 * MANY), checked=False)
    go_on(house)

    house.expire("a")

    assert len(house.state.held_by("a", 1)) == MANY - STEP_ASSIGNMENTS_MAX
    assert list(house.state.index.dead) == [("a", 1)]
    go_on(house)
    assert house.state.held_by("a", 1) == []
    assert list(house.state.index.dead) == []


def test_any_other_command_goes_on_as_well():
    """The stages run after each command, so a busy cluster gets on without `Place`, too."""
    house = cluster("a", "b", resources=numbered(2 * MANY), checked=False)
    go_on(house)
    house.expire("a")

    for _ in range(2 * MANY):
        house.apply(remove("nothing"))

    assert not unfinished(house.state)
    assert phases(house, Phase.HELD) == 2 * MANY


def test_adding_more_than_the_limit_at_once_places_all_in_several_steps():
    """An entry of the log may hold more than one step decides about."""
    house = cluster("a", "b", "c", checked=False)

    house.apply(add(*numbered(MANY + 1)))
    assert phases(house, Phase.WAITING) == MANY + 1 - STEP_ASSIGNMENTS_MAX
    go_on(house)

    assert phases(house, Phase.WAITING) == 0
    assert house.counts() == [501, 500, 500]


def test_a_join_begins_as_many_moves_as_the_limit_and_place_begins_the_others():
    """And together they are the least number that evens the load."""
    house = cluster("a", resources=numbered(MANY), checked=False)
    go_on(house)

    house.join("b")
    assert phases(house, Phase.RELEASING) == STEP_ASSIGNMENTS_MAX
    go_on(house)

    assert phases(house, Phase.RELEASING) == MANY // 2


def test_a_drain_is_begun_in_several_steps_too():
    """Nothing else is moved meanwhile."""
    house = cluster("a", "b", resources=numbered(2 * MANY), checked=False)
    go_on(house)

    house.drain("a")
    assert phases(house, Phase.RELEASING) == STEP_ASSIGNMENTS_MAX
    go_on(house)

    assert phases(house, Phase.RELEASING) == MANY
    assert all(a.holder.node == "a" for a in house.state.assignments.values() if a.phase is Phase.RELEASING)


def test_what_is_buried_first_is_what_was_held_longest():
    """By token, so that a replica that read a snapshot buries in the same order."""
    house = cluster("a", "b", resources=numbered(2 * MANY), checked=False)
    go_on(house)
    oldest = [key[0] for key in house.state.held_by("a", 1)][:STEP_ASSIGNMENTS_MAX]

    assert changed_by(house.expire("a")) == oldest


def test_a_former_incarnation_is_buried_under_the_next_one_of_the_same_name():
    """A node that took over from itself gets its own back, step by step, and nothing else moves."""
    house = cluster("a", "b", resources=numbered(2 * MANY), checked=False)
    go_on(house)
    before = house.held()

    house.restart("a")
    go_on(house)

    assert house.held() == before
    assert phases(house, Phase.HELD) == 2 * MANY
    assert {house.claim(name).incarnation for name, node in before.items() if node == "a"} == {3}


def excluded_everywhere_then_many(others: int) -> Cluster:
    """a is alone, first in the queue is what a lost by force, and *others* are to be taken over from b."""
    house = cluster("a", "b", checked=False)
    house.apply(add("barred"))
    house.force("barred")
    while house.loads()["b"] < others:
        house.apply(add(*numbered(100, prefix=f"x{len(house.state.records):04}-")))
    house.settle()
    house.expire("b")
    return house


@pytest.mark.parametrize("others", [MANY, MANY + 7])
def test_what_fits_nowhere_does_not_keep_others_from_being_placed(others: int):
    """It waits at the head of the queue, and those behind it may not wait with it."""
    house = excluded_everywhere_then_many(others)

    go_on(house)

    waiting = [a.resource for a in house.state.assignments.values() if a.phase is Phase.WAITING]
    assert waiting == ["barred"]


def test_more_that_fits_nowhere_than_one_step_looks_at_does_not_either():
    """Somebody took a whole node's resources away by force, and no other node is there."""
    house = cluster("a", checked=False)
    names = numbered(STEP_ASSIGNMENTS_MAX + 1)
    house.apply(add(*names))
    go_on(house)
    for name in names:
        house.force(name)

    house.apply(add("new"))
    go_on(house)

    assert house.holder("new") == "a"


def test_releases_in_one_command_are_placed_in_several_steps():
    """A release is batched with as many others as fit an entry; all of them get a holder."""
    house = cluster("a", "b", resources=numbered(2 * MANY), checked=False)
    go_on(house)
    house.drain("a")
    go_on(house)
    keys = house.state.held_by("a", 1)

    house.apply(Release("a", 1, tuple(Handle(name, 0, house.token(name)) for name, _ in keys)))
    assert phases(house, Phase.WAITING) == MANY - STEP_ASSIGNMENTS_MAX
    go_on(house)

    assert house.loads() == {"a": 0, "b": 2 * MANY}


def test_requests_about_few_resources_do_little_of_what_is_left_to_do():
    """Hundreds of them may be in one entry of the log, while a dead node's resources are taken over."""
    house = cluster("a", resources=numbered(MANY))
    house.join("b")
    house.expire("a")
    left = len(house.state.held_by("a", 1))

    for number in range(10):
        house.apply(add(f"late-{number}"))

    assert left - len(house.state.held_by("a", 1)) <= STEP_ASSIGNMENTS_MAX
    while unfinished(house.state):
        house.apply(Place())
    assert set(house.held().values()) == {"b"}
