"""
Shares: the parts of a group's rates, which never add up to more than one, and `Allowance`, which keeps one of them.
"""

from __future__ import annotations

import pytest

from pydrm.agent.allowance import Allowance
from pydrm.agent.shares import Shares
from pydrm.core.budget_commands import SetBudget
from pydrm.core.commands import Command, Expire, Form, Request
from pydrm.core.machine import Outcome, apply
from pydrm.core.state import State
from tests.core.build import LEASE_TTL_MS, VOTERS, Cluster, add, cluster, numbered, remove

TTL_S = LEASE_TTL_MS / 1000


def follow(shares: Shares, state: State, outcome: Outcome, now: float) -> None:
    """As a node's engine does after each request."""
    for change in outcome.changes:
        shares.note(state, change, now)
    shares.update(state, now)


class Replica:
    """One node's view: it applies the log when it comes to it."""

    def __init__(self, name: str, log: list[Command]) -> None:
        self.name = name
        self.state = State()
        self.shares = Shares(name)
        self._log = log
        self._applied = 0

    def apply(self, now: float) -> None:
        for command in self._log[self._applied :]:
            outcome = apply(self.state, Request(command))
            follow(self.shares, self.state, outcome, now)
        self._applied = len(self._log)

    def share(self, now: float) -> float:
        return self.shares.of("g", now, TTL_S)


def replicas(*names: str) -> tuple[list[Command], list[Replica]]:
    """A log that begins with *names* having joined, and a budget for the group g."""
    log: list[Command] = []
    house = Cluster()
    do = house.apply

    def note(command: Command, *rest: object) -> object:
        log.append(command)
        return do(command)

    house.apply = note  # type: ignore[method-assign, assignment]
    house.apply(Form("orders", VOTERS, LEASE_TTL_MS))
    house.join(*names)
    log.append(SetBudget("g", connects_per_s=10))
    made = [Replica(name, log) for name in names]
    for replica in made:
        replica.apply(0.0)
    return log, made


def test_shares_follow_from_what_is_held() -> None:
    """Two of six here are a third."""
    log, nodes = replicas("a", "b", "c")
    log.append(add(*numbered(6), group="g"))
    for node in nodes:
        node.apply(10.0)

    assert [node.share(10.0) for node in nodes] == [pytest.approx(1 / 3)] * 3


def test_a_share_that_grows_is_used_one_lease_ttl_later_and_one_that_shrinks_at_once() -> None:
    """So the node that it comes from has stopped using it, or holds nothing any more."""
    log, (a, b) = replicas("a", "b")
    log.append(add(*numbered(4), group="g"))
    a.apply(10.0)
    b.apply(10.0)
    log.append(Expire("b", 2, 0))
    a.apply(20.0)

    assert a.share(20.0) == a.share(20.0 + TTL_S - 0.01) == 0.5
    assert a.share(20.0 + TTL_S) == 1.0
    b.apply(20.5)
    assert b.share(20.5) == 0.0


def test_whoever_lags_the_shares_in_use_add_up_to_no_more_than_one() -> None:
    """For as long as it may have a lease."""
    log, nodes = replicas("a", "b", "c")
    a, b, _ = nodes
    log.append(add(*numbered(9), group="g"))
    for node in nodes:
        node.apply(10.0)
    # c is cut off, and has a lease until 20 + ttl at the most.
    log.append(Expire("c", 3, 0))
    a.apply(20.0)
    b.apply(20.3)

    for tenths in range(int(10 * TTL_S)):
        assert sum(node.share(20.0 + tenths / 10) for node in nodes) <= 1.0 + 1e-9
    assert a.share(20.0 + TTL_S) > 1 / 3


def test_who_is_the_first_of_a_group_need_not_wait() -> None:
    """Nobody else can be using anything of it."""
    log, (a, _) = replicas("a", "b")
    log.append(add(*numbered(2), group="g"))
    a.apply(10.0)

    assert a.share(10.0) == 0.5


def test_what_was_removed_and_added_again_is_not_used_at_once() -> None:
    """Whoever had it may not have heard of either."""
    log, (a, b) = replicas("a", "b")
    log.append(add("r", group="g"))
    a.apply(10.0)
    b.apply(10.0)
    holder, other = (a, b) if a.state.assignments["r", 0].holder.node == "a" else (b, a)
    log += [Expire(holder.name, 1 if holder is a else 2, 0), remove("r")]
    other.apply(20.0)
    log.append(add("r", group="g"))
    other.apply(20.1)

    assert other.share(20.1) == 0.0
    assert other.share(20.0 + TTL_S) == 1.0


def test_a_budget_that_is_new_begins_with_nothing() -> None:
    """What the shares were before is not known; each node has one at once in its `Allowance`."""
    house = cluster("a", resources=numbered(2), group="g")
    shares = Shares("a")
    outcome = house.apply(SetBudget("g", connects_per_s=10))
    follow(shares, house.state, outcome, 10.0)

    assert shares.of("g", 10.0, TTL_S) == 0.0
    assert shares.of("g", 10.0 + TTL_S, TTL_S) == 1.0


def test_after_a_snapshot_a_node_begins_with_nothing() -> None:
    """It has not seen what came before."""
    house = cluster("a", resources=numbered(2), group="g")
    house.limit("g", connects_per_s=10)
    shares = Shares("a")
    shares.restored(house.state, 10.0)

    assert shares.of("g", 10.0, TTL_S) == 0.0
    assert shares.of("g", 10.0 + TTL_S, TTL_S) == 1.0


def test_a_group_that_grows_without_end_starves_nobody_and_is_noted_in_little() -> None:
    """A thousand changes within one lease_ttl are some dozens of steps."""
    log, (a, b) = replicas("a", "b")
    log.append(add(*numbered(400), group="g"))
    for node in (a, b):
        node.apply(10.0)
    log.append(Expire("b", 2, 0))
    for tick in range(1000):
        log.append(add(f"more-{tick}", group="g"))
        a.apply(20.0 + tick * TTL_S / 500)

    assert a.share(20.0 + 2 * TTL_S) == 1.0
    assert len(a.shares._steps["g"]) < 60


def test_groups_without_a_budget_are_not_noted() -> None:
    """There may be one for each of ten thousand hosts."""
    house = cluster("a")
    shares = Shares("a")
    outcome = house.apply(add(*numbered(10), group="g"))
    follow(shares, house.state, outcome, 10.0)

    assert shares._steps == {}
    assert house.state.index.touched == {}


# --- Allowance --------------------------------------------------------------------------------------------------------


def test_an_allowance_gives_one_at_once_and_then_its_rate() -> None:
    """However long it was not asked, no two at once."""
    allowance = Allowance()
    assert allowance.wait_s(100.0, 10.0) == 0.0
    allowance.take()
    assert allowance.wait_s(100.0, 10.0) == pytest.approx(0.1)
    assert allowance.wait_s(900.0, 10.0) == 0.0
    allowance.take()
    assert allowance.wait_s(900.0, 10.0) == pytest.approx(0.1)


def test_an_allowance_without_a_rate_gives_no_second_one() -> None:
    """Until there is a share."""
    allowance = Allowance()
    allowance.wait_s(100.0, 0.0)
    allowance.take()

    assert allowance.wait_s(200.0, 0.0) == float("inf")
    assert allowance.wait_s(200.1, 10.0) == 0.0
