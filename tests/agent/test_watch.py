"""
`LeaseWatch`: when a lease may be ended, on the clock of whoever watches. Times are in virtual seconds.

The lease of all nodes here is 2 s; so a new leader waits 0.5 s.
"""

from __future__ import annotations

import math

from pydrm.agent.watch import LeaseWatch
from pydrm.core.changes import NodeChanged
from pydrm.core.commands import Command, Expire
from tests.core.build import cluster, join, renew

LONG_AGO = 0.0


class Watched:
    """A watch on nodes that a, b and c have joined at 100."""

    def __init__(self) -> None:
        self.watch = LeaseWatch()
        self.cluster = cluster()
        for name in "abc":
            self.apply(join(name, nonce=f"boot-{name}"), 100.0)

    def apply(self, command: Command, now: float) -> None:
        for change in self.cluster.apply(command).changes:
            self.watch.note(change, now)

    def renew(self, name: str, now: float) -> None:
        node = self.cluster.state.nodes[name]
        self.apply(renew(name, incarnation=node.incarnation, count=node.count + 1), now)

    def due(self, now: float, *, leads_since: float | None = LONG_AGO) -> list[Expire]:
        return self.watch.due(now, leads_since)


def test_a_lease_is_due_when_its_whole_time_has_passed_since_its_newest_renewal_was_applied():
    """Not before, and not at that very moment."""
    it = Watched()
    it.renew("a", 101.0)
    it.renew("b", 101.5)

    assert it.due(102.0) == []
    assert it.due(102.1) == [Expire("c", 3, 0)]
    assert it.due(103.0) == [Expire("c", 3, 0)]
    assert it.due(103.4) == [Expire("a", 1, 1)]
    assert it.due(103.6) == [Expire("b", 2, 1), Expire("c", 3, 0)]


def test_a_lease_that_was_renewed_is_not_due():
    """Each renewal counts from when it was applied here."""
    it = Watched()
    for now in (101.0, 102.5, 104.0):
        for name in "abc":
            it.renew(name, now)
        assert it.due(now + 1.4) == []


def test_only_the_leader_ends_leases():
    """The others count too, so that the next leader need not begin anew."""
    it = Watched()

    assert it.due(110.0, leads_since=None) == []
    assert len(it.due(110.0)) == 3


def test_a_new_leader_waits_so_that_the_living_can_renew_with_it():
    """For a fifth of the lease, and a little."""
    it = Watched()

    assert it.due(110.49, leads_since=110.0) == []
    it.renew("a", 110.3)
    assert it.due(110.5, leads_since=110.0) == [Expire("b", 2, 0), Expire("c", 3, 0)]


def test_it_is_proposed_again_after_a_while_until_it_is_applied():
    """A proposal may be lost on its way."""
    it = Watched()
    it.renew("b", 102.0)
    it.renew("c", 102.0)
    at = [tenth / 10 for tenth in range(1021, 1039) if it.due(tenth / 10)]
    it.apply(Expire("a", 1, 0), 103.85)

    assert at == [102.1, 102.6, 103.1, 103.6]
    assert it.due(103.95) == []


def test_a_change_that_is_no_renewal_extends_nothing():
    """Such as that the node is draining."""
    it = Watched()
    it.cluster.drain("a")
    for name in "bc":
        it.renew(name, 101.9)
    it.apply(renew("a", incarnation=1, count=0), 101.9)

    assert it.due(102.1) == [Expire("a", 1, 0)]


def test_a_drain_that_was_noted_extends_nothing():
    """Its change carries the node's record, with the count that is known."""
    it = Watched()
    for change in it.cluster.drain("a").changes:
        it.watch.note(change, 101.9)

    assert it.due(102.1) == [Expire("a", 1, 0), Expire("b", 2, 0), Expire("c", 3, 0)]


def test_a_new_incarnation_begins_anew():
    """Its Join is its renewal 0."""
    it = Watched()
    it.apply(Expire("a", 1, 0), 103.0)
    it.apply(join("a", nonce="again", replaces=1), 104.0)

    assert [expire for expire in it.due(105.9) if expire.node == "a"] == []
    assert it.due(106.1)[-1] == Expire("a", 4, 0)


def test_a_renewal_brings_its_own_time_to_live():
    """Both sides use the one that came with it."""
    it = Watched()
    it.apply(renew("a", incarnation=1, count=1, ttl_ms=10_000), 100.0)

    assert [expire.node for expire in it.due(103.0)] == ["b", "c"]
    assert it.due(109.9)[:1] == [Expire("b", 2, 0)]
    assert Expire("a", 1, 1) in it.due(110.1)


def test_what_is_replayed_counts_from_the_replay():
    """How old it was when this process began is not known, so it is taken for new."""
    it = Watched()
    replayed = LeaseWatch()
    for node in it.cluster.state.nodes.values():
        replayed.note(NodeChanged(node), 500.0)

    assert replayed.due(502.0, LONG_AGO) == []
    assert len(replayed.due(502.1, LONG_AGO)) == 3


def test_it_is_looked_at_again_when_the_first_may_be_over_and_not_before():
    """Renewals put that off, at the latest when it is looked at; a node that is new may be the first."""
    it = Watched()
    assert it.watch.next_at == 102.0
    for name in "abc":
        it.renew(name, 101.5)
    assert it.watch.next_at <= 103.5
    assert it.due(102.1) == []
    assert it.watch.next_at == 103.5

    it.apply(join("d", nonce="boot-d"), 103.0)
    assert it.watch.next_at == 103.5
    assert [expire.node for expire in it.due(103.6)] == ["a", "b", "c"]
    # They are not ended yet, and may have to be said again.
    assert it.watch.next_at == 103.5
    for expire in it.due(105.1):
        it.apply(expire, 105.1)
    assert it.due(105.2) == []
    assert it.watch.next_at == math.inf
