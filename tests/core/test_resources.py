"""AddResources and RemoveResources: accepted, refused, repeated, and in the middle of a handoff."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from pydrm.core.answers import Done, Reason, Refused
from pydrm.core.commands import AddResources, RemoveResources
from pydrm.core.machine import Outcome
from pydrm.core.records import Assignment, Holder, Phase, Record
from tests.core.build import Cluster, add, changed_by, cluster, define, refused, remove

# --- adding ----------------------------------------------------------------------------------------------------------


def test_an_added_resource_has_a_holder_in_the_same_step():
    """One command, one entry of the log: defined, placed, under a token of its own."""
    house = cluster("a")

    answer = house.do(add("r1", url="ws://one"))

    record = house.record("r1")
    assert answer == Done(created=1)
    assert record == Record(define("r1", "ws://one"), record.revision)
    assert house.assignment("r1") == Assignment(
        "r1", 0, Phase.HELD, holder=Holder("a", 1, house.token("r1"), record.revision)
    )


def test_a_resource_that_is_added_before_any_node_joins_waits_for_the_first():
    """Definitions do not need anybody alive."""
    house = cluster()
    house.apply(add("r1"))
    assert house.phase("r1") is Phase.WAITING

    house.join("a")

    assert house.holder("r1") == "a"


def test_each_resource_of_a_command_gets_a_token_of_its_own():
    """Tokens are unique in the whole cluster, not just for one resource."""
    house = cluster("a", "b", resources=["r1", "r2", "r3"])

    assert len({house.token(name) for name in ("r1", "r2", "r3")}) == 3


def test_adding_nothing_is_done():
    """An empty set is a set."""
    assert cluster("a").apply(AddResources(())) == Outcome(Done(), ())


def test_adding_the_same_definition_again_changes_nothing():
    """Add is safe to repeat, with or without a request id."""
    house = cluster("a", "b", resources=["r1", "r2"])
    before = house.digest

    outcome = house.apply(add("r1", "r2"))

    assert outcome == Outcome(Done(unchanged=2), ())
    assert house.digest == before


@pytest.mark.parametrize("if_absent", [False, True])
def test_a_resource_named_twice_in_one_command_is_refused_and_none_is_added(if_absent: bool):
    """All or none: which of the two definitions was meant, nobody knows."""
    house = cluster("a")
    before = house.digest
    twice = (define("r1"), define("r2", "ws://one"), define("r2", "ws://two"))

    outcome = house.apply(AddResources(twice, if_absent))

    assert outcome == Outcome(Refused(Reason.INVALID, "named twice in one command: r2"), ())
    assert house.digest == before


@pytest.mark.parametrize("weight", [0, -1, 1_000_001])
def test_a_weight_that_cannot_be_counted_is_refused_and_none_is_added(weight: int):
    """Apply is total: what a careless proposer let through is answered, not written."""
    house = cluster("a", checked=False)
    before = house.digest

    outcome = house.apply(AddResources((define("r1"), define("r2", weight=weight))))

    assert refused(outcome) is Reason.INVALID
    assert house.digest == before


def test_a_command_that_cannot_even_be_read_becomes_a_refusal_and_changes_nothing():
    """A bug of ours in deciding is the same refusal on every node, and no node stops."""
    house = cluster("a", resources=["r1"])
    before = house.digest

    outcome = house.apply(RemoveResources(ids=None))  # type: ignore[arg-type]

    assert refused(outcome) is Reason.BUG
    assert house.digest == before


def test_a_command_of_an_unknown_class_is_refused():
    """The codec cannot make one; if somebody does all the same, it is answered."""
    outcome = cluster("a").apply("add everything")  # type: ignore[arg-type]

    assert outcome == Outcome(Refused(Reason.INVALID, "unknown command str"), ())


def test_if_absent_leaves_another_definition_as_it_is():
    """What a configuration file lists is there from the start and does not undo later changes."""
    house = cluster("a", resources=["r1"], url="ws://changed-since")
    before = house.digest

    outcome = house.apply(add("r1", url="ws://from-the-file", if_absent=True))

    assert outcome == Outcome(Done(unchanged=1), ())
    assert house.digest == before


def test_if_absent_adds_what_is_not_there():
    """Only what exists is left alone."""
    house = cluster("a", resources=["r1"])

    assert house.do(add("r1", "r2", if_absent=True)) == Done(created=1, unchanged=1)
    assert house.holder("r2") == "a"


# --- updating --------------------------------------------------------------------------------------------------------


def test_another_definition_goes_through_a_release_and_stays_where_it_is():
    """The holder closes the old handle before anybody opens the new one; a tie goes to whoever had it."""
    house = cluster("a", "b", resources=["r1", "r2"], url="ws://one")
    former = house.claim("r2")

    answer = house.do(add("r2", url="ws://two"))

    assert answer == Done(updated=1)
    assert house.assignment("r2") == Assignment("r2", 0, Phase.RELEASING, holder=former)
    house.release("r2")
    record = house.record("r2")
    assert record.definition == define("r2", "ws://two") and record.revision > former.revision
    assert house.claim("r2") == Holder("b", 2, house.token("r2"), record.revision)
    assert house.token("r2") > former.token


def test_a_second_update_while_the_first_is_being_released_needs_no_second_release():
    """The next handle is opened for the newest definition."""
    house = cluster("a", resources=["r1"], url="ws://one")
    house.apply(add("r1", url="ws://two"))
    revision = house.record("r1").revision

    answer = house.do(add("r1", url="ws://three"))

    assert answer == Done(updated=1)
    assert house.record("r1").revision > revision
    house.release("r1")
    assert house.phase("r1") is Phase.HELD
    assert house.claim("r1").revision == house.record("r1").revision


def test_an_update_of_what_waits_takes_effect_when_it_is_placed():
    """Nobody holds it, so nobody has to let go."""
    house = cluster()
    house.apply(add("r1", url="ws://one"))
    ticket = house.assignment("r1").ticket

    assert house.do(add("r1", url="ws://two", weight=7)) == Done(updated=1)
    assert house.assignment("r1") == Assignment("r1", 0, Phase.WAITING, weight=7, ticket=ticket)


def test_going_back_to_the_former_definition_is_an_update_too():
    """The handle may be open for the one in between by now."""
    house = cluster("a", resources=["r1"], url="ws://one")
    house.apply(add("r1", url="ws://two"))

    assert house.do(add("r1", url="ws://one")) == Done(updated=1)
    house.release("r1")
    assert house.record("r1").definition == define("r1", "ws://one")


def test_a_weight_that_comes_with_a_new_definition_counts_once_that_is_placed():
    """Until its holder lets go it counts as what it is."""
    house = cluster("a", "b", resources=["r1"])

    house.apply(add("r1", url="ws://two", weight=5))
    assert house.assignment("r1").weight == 1
    house.release("r1")

    assert house.assignment("r1").weight == 5
    assert house.loads() == {"a": 5, "b": 0}


def test_a_new_weight_alone_counts_at_once_and_no_handle_is_touched():
    """No handler reads it: under the same token and revision it stays open."""
    house = cluster("a", "b", resources=["r1"])
    claim, revision = house.claim("r1"), house.record("r1").revision

    assert house.do(add("r1", weight=5)) == Done(updated=1)

    assert (house.phase("r1"), house.claim("r1")) == (Phase.HELD, claim)
    assert house.record("r1") == Record(define("r1", weight=5), revision)
    assert house.loads() == {"a": 5, "b": 0}


def test_a_new_weight_may_make_the_load_uneven_and_then_others_move():
    """The heavy one stays, and what was beside it goes."""
    house = cluster("a", "b", resources=["r1", "r2", "r3", "r4"])

    house.apply(add("r1", weight=3))

    assert house.settle() == ["r3"]
    assert house.loads() == {"a": 3, "b": 3}


def test_whether_it_may_overlap_is_changed_without_touching_the_handle():
    """It matters at the next move only."""
    house = cluster("a", resources=["r1"])
    claim = house.claim("r1")

    house.apply(add("r1", overlap=True))

    assert (house.phase("r1"), house.claim("r1")) == (Phase.HELD, claim)


# --- removing --------------------------------------------------------------------------------------------------------


def test_a_removed_resource_stays_until_its_holder_says_that_it_is_closed():
    """The record keeps the name taken as long as somebody may hold it."""
    house = cluster("a", resources=["r1", "r2"])
    holder = house.claim("r1")

    answer = house.do(remove("r1"))

    assert answer == Done(removed=1)
    assert house.assignment("r1") == Assignment("r1", 0, Phase.REMOVING, holder=holder)
    house.release("r1")
    assert dict(house.state.records).keys() == {"r2"}
    assert dict(house.state.assignments).keys() == {("r2", 0)}


def test_a_removed_resource_that_nobody_holds_is_gone_at_once():
    """There is nobody to wait for."""
    house = cluster()
    house.apply(add("r1"))

    assert house.do(remove("r1")) == Done(removed=1)
    assert (dict(house.state.records), dict(house.state.assignments)) == ({}, {})


def test_removing_what_is_not_there_is_done_and_says_so():
    """The caller wanted it not to be there; it is not."""
    house = cluster("a", resources=["r1"])

    assert house.do(remove("nothing", "r1", "nil")) == Done(removed=1, missing=("nothing", "nil"))


def test_a_name_that_comes_twice_in_one_removal_counts_once():
    """It is one resource."""
    house = cluster("a", resources=["r1"])

    assert house.do(remove("r1", "r1", "nil", "nil")) == Done(removed=1, missing=("nil",))


def test_removing_again_while_it_is_being_removed_changes_nothing():
    """The release that is under way is the only one that is needed."""
    house = cluster("a", resources=["r1"])
    house.apply(remove("r1"))
    before = house.digest

    assert house.apply(remove("r1")).changes == ()
    assert house.digest == before


def test_what_is_being_released_can_be_removed():
    """The release goes on, and what comes after it is the end."""
    house = cluster("a", "b", resources=["r1", "r2"])
    house.drain("a")
    assert house.phase("r1") is Phase.RELEASING

    house.apply(remove("r1"))
    house.release("r1")

    assert "r1" not in house.state.records


def test_a_removal_is_finished_by_the_death_of_the_holder():
    """A dead incarnation has no handle."""
    house = cluster("a", "b", resources=["r1", "r2"])
    house.apply(remove("r1"))

    house.expire("a")

    assert "r1" not in house.state.records
    assert house.held() == {"r2": "b"}


# --- adding while it is being removed --------------------------------------------------------------------------------


def removing() -> Cluster:
    house = cluster("a", "b", resources=["r1", "r2"], url="ws://one")
    house.apply(remove("r1"))
    return house


def test_an_add_during_the_removal_becomes_the_next_definition():
    """The old holder is told nothing new: it closes, and only then the next one opens."""
    house = removing()
    former = house.claim("r1")

    answer = house.do(add("r1", url="ws://two", weight=2))

    assert answer == Done(created=1)
    assert house.assignment("r1") == Assignment("r1", 0, Phase.REMOVING, holder=former)
    assert house.record("r1").following == define("r1", "ws://two", weight=2)
    house.release("r1")
    assert house.record("r1") == Record(define("r1", "ws://two", weight=2), house.record("r1").revision)
    assert house.record("r1").revision > former.revision
    assert house.assignment("r1").weight == 2
    assert house.token("r1") > former.token


@pytest.mark.parametrize("if_absent", [False, True])
def test_the_very_definition_that_is_being_removed_can_be_added_again(if_absent: bool):
    """It is absent already for whoever asks, and a new handle is opened for it."""
    house = removing()
    former = house.claim("r1")

    assert house.do(add("r1", url="ws://one", if_absent=if_absent)) == Done(created=1)
    house.release("r1")

    assert house.claim("r1").revision > former.revision
    assert house.record("r1").definition == define("r1", "ws://one")


def test_a_second_add_during_the_removal_replaces_the_first():
    """The newest definition wins, as it does anywhere else."""
    house = removing()
    house.apply(add("r1", url="ws://two"))

    assert house.do(add("r1", url="ws://three")) == Done(updated=1)
    assert house.record("r1").following == define("r1", "ws://three")


def test_the_same_add_during_the_removal_changes_nothing():
    """Safe to repeat here too."""
    house = removing()
    house.apply(add("r1", url="ws://two"))
    before = house.digest

    assert house.do(add("r1", url="ws://two")) == Done(unchanged=1)
    assert house.do(add("r1", url="ws://other", if_absent=True)) == Done(unchanged=1)
    assert house.digest == before


def test_a_removal_during_the_removal_takes_the_next_definition_away_again():
    """The last word was remove."""
    house = removing()
    house.apply(add("r1", url="ws://two"))

    assert house.do(remove("r1")) == Done(removed=1)
    assert house.record("r1").following is None
    house.release("r1")
    assert "r1" not in house.state.records


def test_the_death_of_the_holder_brings_the_next_definition():
    """The release and the death end a removal alike."""
    house = removing()
    house.apply(add("r1", url="ws://two"))

    house.expire("a")

    assert house.holder("r1") == "b"
    assert house.record("r1").definition == define("r1", "ws://two")


def test_a_command_touches_no_resource_that_it_does_not_name():
    """Cost in proportion to what changes: an add to a settled cluster changes one assignment."""
    house = cluster("a", "b", "c", resources=[f"x{number}" for number in range(30)])

    assert changed_by(house.apply(add("new"))) == ["new"]
    assert changed_by(house.apply(remove("new"))) == ["new"]


def test_a_record_that_is_read_is_never_changed_behind_the_readers_back():
    """Records are frozen: a reader on another thread keeps what it has read."""
    house = cluster("a", resources=["r1"])
    seen = house.assignment("r1")
    kept = replace(seen)

    house.apply(remove("r1"))

    assert seen == kept
    with pytest.raises(AttributeError):
        seen.phase = Phase.HELD  # type: ignore[misc]
