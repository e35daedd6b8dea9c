"""Going on with what one replica had: EndRecovery accepted, refused, repeated; and nothing assigned before it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from pydrm.core.answers import Done, Reason, Refused
from pydrm.core.changes import AssignmentChanged, Cause
from pydrm.core.commands import EndRecovery, Expire, Place
from pydrm.core.invariants import check
from pydrm.core.placement import STAGES, STEP_ASSIGNMENTS_MAX, unfinished
from pydrm.core.records import Phase, Role
from pydrm.core.recovery import SKIPPED_NUMBERS, decide_begin_recovery
from pydrm.core.settings import Settings
from pydrm.core.state import State, evolve
from tests.core.build import VOTERS, Cluster, add, cluster, join, numbered, refused, remove, through_bytes
from tests.core.random_log import RandomLog

AGAIN = "orders-again"


def begin(state: State, *, node: str = "a", replica_id: str = "replica-a") -> Done | Refused:
    decision = decide_begin_recovery(state, node=node, replica_id=replica_id, cluster_id=AGAIN)
    for change in decision.changes:
        evolve(state, change)
    return decision.answer


def recovered(*names: str, resources: int = 4) -> Cluster:
    """What *names* held is all that node a knows; it alone goes on."""
    house = cluster(*names, resources=numbered(resources))
    assert begin(house.state) == Done()
    assert check(house.state) == []
    return house


# --- beginning -------------------------------------------------------------------------------------------------------


def test_a_recovered_cluster_is_another_one_of_one_voter():
    """What was agreed on besides stays: how long a lease runs, and the protocol."""
    before = cluster("a", "b").state.settings
    assert before is not None

    settings = recovered("a", "b").state.settings

    assert settings == Settings(AGAIN, VOTERS[:1], before.lease_ttl_ms, before.protocol, 2, recovering=True)


def test_its_numbers_begin_where_the_lost_log_cannot_have_come():
    """So no token and no incarnation is given away a second time, however much was lost."""
    house = cluster("a", "b", resources=numbered(4))
    number, incarnation = house.state.next_number, house.state.next_incarnation

    begin(house.state)

    assert house.state.next_number == number + SKIPPED_NUMBERS
    assert house.state.next_incarnation == incarnation + SKIPPED_NUMBERS


def test_it_can_be_begun_again_and_again():
    """A crash in the middle of a recovery leaves a state from which it begins once more."""
    house = recovered("a")
    number = house.state.next_number

    assert begin(house.state) == Done()

    assert house.state.settings is not None
    assert house.state.settings.voters_revision == 3
    assert house.state.next_number == number + SKIPPED_NUMBERS


@pytest.mark.parametrize(("node", "replica_id"), [("w1", "replica-w1"), ("a", "another")])
def test_who_has_no_vote_cannot_begin_it(node: str, replica_id: str):
    """A worker is not asked for a majority, and a directory that was lost may have forgotten what it acknowledged."""
    house = cluster("a")
    digest = house.digest

    answer = begin(house.state, node=node, replica_id=replica_id)

    assert isinstance(answer, Refused)
    assert answer.reason is Reason.NOT_FOUND
    assert house.digest == digest


def test_of_an_empty_log_no_cluster_is_made():
    """It does not say how long a lease runs."""
    answer = begin(State())

    assert isinstance(answer, Refused)
    assert answer.reason is Reason.NOT_FORMED


# --- while it recovers -----------------------------------------------------------------------------------------------


def test_nothing_is_given_a_holder_while_it_recovers():
    """Neither what is new, nor what was held by a process that is gone."""
    house = recovered("a", "b")
    held = house.held()

    house.restart("a")
    house.expire("b")
    house.apply(add("new"))
    house.apply(Place())

    assert not unfinished(house.state)
    assert house.phase("new") is Phase.WAITING
    assert house.held() == held
    assert [stage(house.state, STEP_ASSIGNMENTS_MAX) for stage in STAGES] == [[]] * len(STAGES)


def test_nothing_is_moved_while_it_recovers():
    """Not even from a node that drains, or to one that has nothing yet."""
    house = recovered("a")

    house.join("b")
    house.drain("a")

    assert set(house.held().values()) == {"a"}
    assert {house.phase(id) for id in numbered(4)} == {Phase.HELD}


def test_what_others_held_stays_theirs_until_their_leases_are_over():
    """The end of the recovery ends no lease."""
    house = recovered("a", "b")
    theirs = [id for id, node in house.held().items() if node == "b"]
    tokens = {id: house.token(id) for id in theirs}
    house.restart("a")

    house.apply(EndRecovery(AGAIN))

    assert {id: house.token(id) for id in theirs} == tokens
    house.expire("b")
    assert {house.holder(id) for id in theirs} == {"a"}
    assert min(house.token(id) for id in theirs) > SKIPPED_NUMBERS


def test_a_removal_goes_as_far_as_it_can_without_a_new_holder():
    """What nobody holds is gone at once; what somebody holds, when its holder is."""
    house = recovered("a", "b")
    house.apply(add("new"))

    house.apply(remove("new", "r0001"))
    house.restart("a")
    house.expire("b")
    house.apply(EndRecovery(AGAIN))

    assert sorted(house.state.records) == ["r0000", "r0002", "r0003"]


def test_that_it_recovers_is_in_a_picture():
    """A restart in the middle of it does not shorten the wait."""
    house = recovered("a", "b")

    restored = through_bytes(house.state)

    assert restored.settings == house.state.settings
    assert restored.digest == house.digest


# --- ending ----------------------------------------------------------------------------------------------------------


def test_in_the_same_step_in_which_it_ends_all_is_placed():
    """Nobody has to ask for it."""
    house = recovered("a", "b")
    house.restart("a")
    house.expire("b")

    outcome = house.apply(EndRecovery(AGAIN))

    assert outcome.answer == Done()
    placed = [c for c in outcome.changes if isinstance(c, AssignmentChanged) and c.cause is Cause.PLACED]
    assert len(placed) == 4
    assert set(house.held().values()) == {"a"}
    assert house.state.settings is not None
    assert not house.state.settings.recovering


def test_what_one_step_does_not_place_the_next_ones_do():
    """The end of a large recovery takes no longer than any other step."""
    house = recovered("a", resources=STEP_ASSIGNMENTS_MAX + 10)
    house.restart("a")

    house.apply(EndRecovery(AGAIN))
    assert unfinished(house.state)
    house.settle()

    assert len(house.held()) == STEP_ASSIGNMENTS_MAX + 10


def test_it_ends_once():
    """A repeated proposal finds nothing to end."""
    house = recovered("a")
    house.apply(EndRecovery(AGAIN))

    assert refused(house.apply(EndRecovery(AGAIN))) is Reason.STALE


def test_who_has_seen_another_cluster_ends_nothing():
    """Compare and set, by the id."""
    house = recovered("a")

    assert refused(house.apply(EndRecovery("orders"))) is Reason.STALE
    assert house.state.settings is not None
    assert house.state.settings.recovering


def test_without_a_cluster_there_is_nothing_to_end():
    assert refused(Cluster().apply(EndRecovery(AGAIN))) is Reason.NOT_FORMED


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_meanwhile_nothing_is_assigned(seed: int):
    """A long random life before it and in it; afterwards everything finds a holder."""
    log = RandomLog(seed)
    list(log.go_on(400))
    state = log.state
    assert state.settings is not None
    voter = state.settings.voters[0]
    assert begin(state, node=voter.name, replica_id=voter.replica_id) == Done()
    house = Cluster()
    house.state = state

    for _, outcome in log.go_on(400):
        assert check(state) == []
        causes = {change.cause for change in outcome.changes if isinstance(change, AssignmentChanged)}
        assert not causes & {Cause.PLACED, Cause.BALANCED, Cause.DRAINED, Cause.EXPIRED}

    for node in list(state.nodes.values()):
        house.apply(Expire(node.name, node.incarnation, node.count))
    house.apply(replace(join("z"), protocol=state.settings.protocol, role=Role.WORKER))
    house.apply(EndRecovery(AGAIN))
    house.settle()
    held = {record.definition.id for record in state.records.values() if record.parked is None}
    assert {name for (name, _), assignment in state.assignments.items() if assignment.phase is Phase.HELD} == held
