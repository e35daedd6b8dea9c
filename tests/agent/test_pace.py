"""How many resources may be between this node and their next holder."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from pydrm.agent.pace import Handoffs, is_over
from pydrm.core.records import Assignment, Condition, Holder, Phase
from tests.core.build import cluster, numbered

OLD, NEW = 7, 9


def held_by_receiver(condition: Condition) -> Assignment:
    return Assignment("r1", 0, Phase.HELD, holder=Holder("b", 2, NEW, 1, condition))


@pytest.mark.parametrize(
    ("assignment", "over"),
    [
        (None, True),
        (Assignment("r1", 0, Phase.RELEASING, holder=Holder("a", 1, OLD, 1)), False),
        (Assignment("r1", 0, Phase.REMOVING, holder=Holder("a", 1, OLD, 1)), True),
        (held_by_receiver(Condition.OPENING), False),
        (held_by_receiver(Condition.OPEN), True),
        (held_by_receiver(Condition.RETRYING), True),
        (held_by_receiver(Condition.FAILED), True),
    ],
)
def test_a_handoff_is_over_when_the_receiver_has_tried(assignment: Assignment | None, over: bool) -> None:
    """Also when it failed: the others need not wait for what does not come."""
    assert is_over(assignment, OLD, takers=True) is over


def test_what_waits_is_over_only_if_nobody_could_take_it() -> None:
    waiting = Assignment("r1", 0, Phase.WAITING, ticket=8)

    assert not is_over(waiting, OLD, takers=True)
    assert is_over(waiting, OLD, takers=False)


def test_the_window_is_full_until_receivers_have_opened() -> None:
    names = numbered(2)
    state = cluster("a", "b", resources=names).state
    handoffs = Handoffs(2)
    for name in names:
        handoffs.began((name, 0), token=0, now=100.0)
    assert handoffs.full

    assignment = state.assignments[names[0], 0]
    opened = replace(assignment.holder, condition=Condition.OPEN)
    state.assignments.put(assignment.key, replace(assignment, holder=opened))
    handoffs.update(state, now=100.1)

    assert not handoffs.full


def test_a_receiver_that_takes_too_long_does_not_stop_the_rest() -> None:
    state = cluster("a", "b", resources=["r1"]).state
    handoffs = Handoffs(1, patience_s=1.0)
    handoffs.began(("r1", 0), token=0, now=100.0)

    handoffs.update(state, now=100.9)
    assert handoffs.full

    handoffs.update(state, now=101.0)
    assert not handoffs.full
