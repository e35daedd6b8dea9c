"""What is new has its holder from its first change on, and the same one as if it had waited for placement."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pydrm.core import decide_resources, placement
from pydrm.core.changes import AssignmentChanged, Cause
from pydrm.core.commands import AddResources, Request
from pydrm.core.draft import Draft
from pydrm.core.machine import Outcome, apply
from pydrm.core.records import Assignment, Phase
from pydrm.core.state import State
from tests.core.build import add, cluster, define, remove
from tests.core.random_log import STEP_MAX, RandomLog


def way(outcome: Outcome, resource: str) -> list[tuple[Phase, Cause]]:
    """All that *outcome* did to the assignment of *resource*."""
    changes = [change for change in outcome.changes if isinstance(change, AssignmentChanged)]
    return [(change.assignment.phase, change.cause) for change in changes if change.assignment.resource == resource]


HELD_AT_ONCE = [(Phase.HELD, Cause.ADDED)]
PLACED_AFTERWARDS = [(Phase.WAITING, Cause.ADDED), (Phase.HELD, Cause.PLACED)]
WAITS = [(Phase.WAITING, Cause.ADDED)]

# --- when it is held at once -----------------------------------------------------------------------------------------


def test_a_new_resource_is_held_from_its_first_change_on():
    """Written once, not first as waiting and then as held."""
    house = cluster("a", "b")

    outcome = house.apply(add("r1", "r2"))

    assert (way(outcome, "r1"), way(outcome, "r2")) == (HELD_AT_ONCE, HELD_AT_ONCE)
    assert house.held() == {"r1": "a", "r2": "b"}


def test_what_is_there_already_is_no_newcomer():
    """It keeps its holder, and those beside it in the command are held at once all the same."""
    house = cluster("a", "b", resources=["r1"])
    token = house.token("r1")

    outcome = house.apply(add("r1", "r2"))

    assert (way(outcome, "r1"), way(outcome, "r2")) == ([], HELD_AT_ONCE)
    assert house.token("r1") == token


def test_what_comes_again_while_it_is_being_removed_is_held_when_the_old_one_is_gone():
    """Its holder has to close the old handle first."""
    house = cluster("a", resources=["r1"])
    house.apply(remove("r1"))

    outcome = house.apply(add("r1", "r2", url="ws://two"))

    assert (way(outcome, "r1"), way(outcome, "r2")) == ([], HELD_AT_ONCE)
    assert house.phase("r1") is Phase.REMOVING


# --- when it waits ---------------------------------------------------------------------------------------------------


def test_a_newcomer_does_not_overtake_what_waits(monkeypatch: pytest.MonkeyPatch):
    """Who came first has a holder first, however many steps that takes."""
    monkeypatch.setattr(placement, "STEP_ASSIGNMENTS_MAX", 2)
    house = cluster("a", "b", resources=["r1", "r2", "r3", "r4", "r5"])

    outcome = house.apply(add("r6"))

    assert way(outcome, "r6") == WAITS
    assert sorted(house.held()) == ["r1", "r2", "r3", "r4"]


def test_behind_what_fits_nowhere_it_is_created_waiting_and_placed_in_the_same_step():
    """Whether something fits is for placement to find out, not for whoever is new."""
    house = cluster("a", resources=["r1"])
    house.force("r1")

    assert way(house.apply(add("r2")), "r2") == PLACED_AFTERWARDS


def test_more_than_one_step_places_are_all_created_waiting(monkeypatch: pytest.MonkeyPatch):
    """The limit of a step is one for the whole command."""
    monkeypatch.setattr(placement, "STEP_ASSIGNMENTS_MAX", 2)
    house = cluster("a")

    outcome = house.apply(add("r1", "r2", "r3"))

    assert [way(outcome, name) for name in ("r1", "r2", "r3")] == [PLACED_AFTERWARDS, PLACED_AFTERWARDS, WAITS]


def test_it_waits_where_no_node_is_alive():
    """And has a holder as soon as one joins."""
    house = cluster("a")
    house.drain("a")

    assert way(house.apply(add("r1")), "r1") == WAITS
    house.join("b")
    assert house.holder("r1") == "b"


def test_it_waits_while_what_a_dead_node_had_is_being_taken_over(monkeypatch: pytest.MonkeyPatch):
    """Taking over is the first thing that a step does; only then is it known how much everybody has."""
    house = cluster("a", "b", resources=["r1", "r2", "r3", "r4", "r5", "r6"])
    monkeypatch.setattr(placement, "STEP_ASSIGNMENTS_MAX", 1)
    house.expire("a")
    assert house.state.index.dead

    assert way(house.apply(add("r7")), "r7") == PLACED_AFTERWARDS


def test_what_an_update_in_the_same_command_moves_counts_first():
    """Node a is about to close r1; so it has less than b, and takes the new one."""
    house = cluster("a", "b", resources=["r1", "r2"], url="ws://one")
    command = AddResources((define("r3"), define("r1", "ws://two")))

    assert way(house.apply(command), "r3") == PLACED_AFTERWARDS
    assert house.holder("r3") == "a"


# --- either way the same ---------------------------------------------------------------------------------------------


def wait(state: State, draft: Draft, newcomers: Sequence[Assignment]) -> None:
    """In place of `admit`: leave everything to placement."""
    for newcomer in newcomers:
        draft.change(newcomer, Cause.ADDED)


def apply_in_two_steps(state: State, request: Request) -> Outcome:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decide_resources, "admit", wait)
        return apply(state, request)


@pytest.mark.parametrize("step_max", [STEP_MAX, placement.STEP_ASSIGNMENTS_MAX])
def test_whoever_admits_and_whoever_leaves_it_to_placement_have_equal_states(
    step_max: int, monkeypatch: pytest.MonkeyPatch
):
    """Holders, tokens and counters: so versions that differ in this may follow the same log, under one protocol."""
    monkeypatch.setattr(placement, "STEP_ASSIGNMENTS_MAX", step_max)
    ways = []

    for seed in range(10):
        log = RandomLog(seed)
        twin = State()
        for request, outcome in log.go_on(1000):
            assert apply_in_two_steps(twin, request).answer == outcome.answer
            assert twin.digest == log.state.digest, f"seed {seed}"
            assert twin.index.load == log.state.index.load, f"seed {seed}"
            if isinstance(request.command, AddResources):
                ways += [way(outcome, definition.id) for definition in request.command.definitions]

    for seen in (HELD_AT_ONCE, PLACED_AFTERWARDS, WAITS):
        assert seen in ways
