"""`check` finds what is wrong: each kind of damage is done by hand here, and must be said in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from pydrm.core.budget_records import Budget, Holdback
from pydrm.core.invariants import check
from pydrm.core.records import NodeState, Phase
from pydrm.core.state import State
from tests.core.build import add, cluster, remove


def house() -> State:
    """Something of everything: held, opening, releasing, removing with a following one, waiting."""
    built = cluster("a", resources=["r1", "r2", "r3"], overlap=True)
    built.join("b")
    built.apply(add("r4", "r5", "r6", "r7"))
    built.apply(remove("r4"))
    built.apply(add("r4", url="ws://next"))
    built.apply(add("r5", url="ws://next"))
    built.apply(add("r8", group="g"))
    built.limit("g", connections=3)
    built.take("r8")
    built.hold_back("g", 1_000)
    return built.state


def change(state: State, resource: str, **fields: Any) -> None:
    """Damage one assignment, its digest and index kept in step, so that nothing but the damage is found."""
    old = state.assignments[resource, 0]
    new = replace(old, **fields)
    state.index.update(old, new)
    state.assignments.put((resource, 0), new)


def holder_of(state: State, resource: str, **fields: Any) -> Any:
    return replace(state.assignments[resource, 0].holder, **fields)  # type: ignore[type-var]


def two_at_the_same_token(state: State) -> None:
    change(state, "r6", holder=holder_of(state, "r6", token=holder_of(state, "r7").token))


def forget_the_assignment(state: State, resource: str) -> None:
    state.index.update(state.assignments[resource, 0], None)
    state.assignments.drop((resource, 0))


DAMAGE: dict[str, tuple[Callable[[State], Any], str]] = {
    "held by nobody": (lambda s: change(s, "r1", phase=Phase.HELD, holder=None), "is held with holder None"),
    "waiting with a holder": (lambda s: change(s, "r1", phase=Phase.WAITING), "is waiting with holder Holder"),
    "a ticket that waits for nothing": (lambda s: change(s, "r1", ticket=1), "with ticket 1"),
    "held with a target": (lambda s: change(s, "r1", target=holder_of(s, "r1", token=1)), "is held with a target"),
    "opening nowhere": (lambda s: change(s, "r1", phase=Phase.OPENING), "is opening nowhere"),
    "an old revision held": (lambda s: change(s, "r1", holder=holder_of(s, "r1", revision=0)), "is held at revision 0"),
    "a token twice": (two_at_the_same_token, "is used 2 times"),
    "a token to come": (lambda s: change(s, "r1", holder=holder_of(s, "r1", token=999)), "is not below the counter"),
    "a claim of the unknown": (
        lambda s: change(s, "r1", holder=holder_of(s, "r1", node="z")),
        "is claimed by ('z', 1)",
    ),
    "defined and not assigned": (lambda s: forget_the_assignment(s, "r1"), "is defined and has no assignment"),
    "assigned and not defined": (lambda s: s.records.drop("r1"), "is assigned and not defined"),
    "under another's key": (lambda s: s.assignments.put(("r9", 0), s.assignments["r1", 0]), "under another's key"),
    "following without removal": (
        lambda s: s.records.put("r1", replace(s.records["r1"], following=s.records["r1"].definition)),
        "has a following definition and is held",
    ),
    "a digest that missed a record": (lambda s: dict.pop(s.nodes, "b"), "the digest of nodes"),
    "an index that missed a change": (lambda s: s.index.moving.clear(), "index.moving is {}"),
    "an index out of order": (
        lambda s: s.index.claims["a", 1]._ranges.update({0: dict(reversed(list(s.index.claims["a", 1].items())))}),
        "index.claims of ('a', 1) is not in the order",
    ),
    "an end that was not noted": (
        lambda s: s.nodes.put("a", replace(s.nodes["a"], state=NodeState.LEFT)),
        "has ended and is not noted as dead",
    ),
    "a living one that is noted as dead": (lambda s: s.index.ended(("a", 1)), "index.dead has ('a', 1)"),
    "a permit that was not counted": (lambda s: s.index.permits.clear(), "index.permits is {}, should be {'g': 1}"),
    "a member that was not counted": (lambda s: s.index.groups.clear(), "index.groups is {}, should be {'g':"),
    "a budget under another's name": (lambda s: s.budgets.put("h", s.budgets["g"]), "is kept under another's name"),
    "a budget of nothing": (lambda s: s.budgets.put("g", Budget("g")), "has a budget that says nothing"),
    "a holdback that others outlast": (
        lambda s: s.budgets.put("g", Budget("g", holdbacks=(Holdback(1, 1000), Holdback(2, 1000)))),
        "some of which others outlast",
    ),
    "a holdback to come": (
        lambda s: s.budgets.put("g", Budget("g", holdbacks=(Holdback(999, 1000),))),
        "a number of the budget of g is not below the counter",
    ),
    "a session of the dead": (lambda s: s.sessions.forget_below(("a", 0), 7), "still has a session"),
}


def test_a_state_that_only_apply_has_written_has_nothing_wrong():
    """The example below is healthy before it is damaged."""
    assert check(house()) == []


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found_and_said(name: str):
    """A check that finds nothing proves nothing."""
    damage, words = DAMAGE[name]
    state = house()

    damage(state)

    assert any(words in found for found in check(state)), check(state)
