"""
What sources bring: they own it, nobody but the app takes it from them, and it goes with them.
"""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from pydrm.core import placement
from pydrm.core.answers import Answer, Done, Reason, Refused
from pydrm.core.commands import AddResources, Place, RemoveResources
from pydrm.core.handle_commands import Handle
from pydrm.core.invariants import check
from pydrm.core.placement import unfinished
from pydrm.core.records import Definition, Phase
from tests.core.build import Cluster, add, cluster, define, numbered, remove, through_bytes
from tests.core.random_log import STEP_MAX, RandomLog

FEED = Definition("feed", "source.http", b"")


def with_feed(*nodes: str, checked: bool = True) -> Cluster:
    house = cluster(*(nodes or ("a", "b")), checked=checked)
    house.do(AddResources((FEED,)))
    return house


def handle(house: Cluster, source: str = "feed") -> Handle:
    return Handle(source, 0, house.token(source))


def bring(house: Cluster, *ids: str, source: str = "feed", url: str = "", weight: int = 1) -> Answer:
    definitions = tuple(define(id, url, weight=weight) for id in ids)
    return house.do(AddResources(definitions, source=handle(house, source)))


def owner(house: Cluster, resource: str) -> str:
    return house.record(resource).owner


# --- who may write what ----------------------------------------------------------------------------------------------


def test_what_a_source_brings_is_its_own():
    """The cluster writes down whose it is, whatever the definition says."""
    house = with_feed()
    forged = replace(define("r1"), source="somebody")

    assert house.do(AddResources((forged,), source=handle(house))) == Done(created=1)

    assert owner(house, "r1") == "feed"
    assert house.state.brought.owned_by("feed") == ["r1"]


def test_the_app_cannot_add_in_the_name_of_a_source():
    """Only who holds it speaks for it."""
    house = with_feed()

    house.do(AddResources((replace(define("r1"), source="feed"),)))

    assert owner(house, "r1") == ""


def test_under_a_token_that_is_over_nothing_is_written():
    """It was thawed after the source had gone to another node; what it fetched is old."""
    house = with_feed()
    bring(house, "r1")
    old = handle(house)
    house.force("feed")
    assert house.token("feed") > old.token

    added = house.do(AddResources((define("r2"),), source=old))
    removed = house.do(RemoveResources(("r1",), old))

    stale = Refused(Reason.STALE, f"feed is not held under token {old.token}")
    assert (added, removed) == (stale, stale)
    assert house.state.brought.owned_by("feed") == ["r1"]


def test_under_the_token_of_a_dead_holder_nothing_is_written():
    """Also in the moment in which nobody has taken the source over yet."""
    house = with_feed("a")
    old = handle(house)

    house.expire("a")

    assert house.do(AddResources((define("r1"),), source=old)) == Refused(
        Reason.STALE, f"feed is not held under token {old.token}"
    )


def test_a_source_that_is_being_removed_writes_nothing_more():
    """What it brought now would only have to go again."""
    house = with_feed()
    house.do(remove("feed"))

    assert isinstance(bring(house, "r1"), Refused)


def test_what_is_no_source_cannot_own_anything():
    """A websocket's token does not let it remove its neighbours."""
    house = cluster("a", resources=["r1", "r2"])
    token = Handle("r1", 0, house.token("r1"))

    assert house.do(RemoveResources(("r2",), token)) == Refused(Reason.INVALID, "r1 is no source")


def test_what_the_app_added_is_passed_over_and_named():
    """Neither replaced nor removed; the rest of the command takes effect."""
    house = with_feed()
    house.do(add("mine", url="ws://mine"))

    assert bring(house, "mine", "r1", url="ws://theirs") == Done(created=1, foreign=("mine",))
    assert house.do(RemoveResources(("mine", "r1", "r9"), handle(house))) == Done(
        removed=1, missing=("r9",), foreign=("mine",)
    )
    assert house.record("mine").definition == define("mine", "ws://mine")


def test_what_another_source_brought_is_passed_over_and_named():
    """The first that brings an id has it."""
    house = with_feed()
    house.do(AddResources((replace(FEED, id="other"),)))
    bring(house, "r1")

    assert bring(house, "r1", source="other") == Done(foreign=("r1",))
    assert owner(house, "r1") == "feed"


def test_what_the_app_adds_over_an_entry_is_the_apps_from_then_on():
    """Its definition counts; the source is told that it is not its own any more."""
    house = with_feed()
    bring(house, "r1")
    claim = house.claim("r1")

    assert house.do(add("r1")) == Done(updated=1)

    assert (owner(house, "r1"), house.claim("r1")) == ("", claim)
    assert bring(house, "r1", url="ws://two") == Done(foreign=("r1",))


def test_what_the_app_adds_if_absent_leaves_an_entry_as_it_is():
    house = with_feed()
    bring(house, "r1")

    assert house.do(add("r1", url="ws://two", if_absent=True)) == Done(unchanged=1)
    assert owner(house, "r1") == "feed"


def test_what_the_app_removes_is_removed_and_the_source_may_bring_it_again():
    """Also while its holder has not let go yet."""
    house = with_feed()
    bring(house, "r1")
    house.do(remove("r1"))

    assert house.phase("r1") is Phase.REMOVING
    assert bring(house, "r1", url="ws://two") == Done(created=1)
    house.settle()
    assert house.record("r1").definition == replace(define("r1", "ws://two"), source="feed")


def test_what_the_app_removed_for_good_may_be_brought_by_a_source():
    """It is nobody's any more, though it is not gone yet."""
    house = with_feed()
    house.do(add("r1"))
    house.do(remove("r1"))

    assert bring(house, "r1") == Done(created=1)
    assert owner(house, "r1") == "feed"


def test_what_the_app_added_again_while_it_was_removed_is_the_apps():
    house = with_feed()
    bring(house, "r1")
    house.do(remove("r1"))
    house.do(add("r1"))

    assert bring(house, "r1") == Done(foreign=("r1",))
    assert house.state.brought.owned_by("feed") == []


# --- updates ---------------------------------------------------------------------------------------------------------


def test_an_entry_that_did_not_change_is_not_touched():
    """Nothing of it is written."""
    house = with_feed()
    bring(house, "r1")
    outcome = house.apply(AddResources((define("r1"),), source=handle(house)))

    assert outcome.answer == Done(unchanged=1)
    assert outcome.changes == ()


def test_an_entry_whose_weight_changed_keeps_its_handle():
    house = with_feed("a")
    bring(house, "r1")
    claim = house.claim("r1")

    assert bring(house, "r1", weight=4) == Done(updated=1)
    assert (house.claim("r1"), house.assignment("r1").weight) == (claim, 4)


def test_an_entry_whose_fields_changed_is_handed_over():
    """By the way of every new definition."""
    house = with_feed("a")
    bring(house, "r1")

    assert bring(house, "r1", url="ws://two") == Done(updated=1)
    assert house.phase("r1") is Phase.RELEASING


# --- when the source goes --------------------------------------------------------------------------------------------


def test_when_a_source_is_gone_what_it_brought_goes_and_nothing_else():
    house = with_feed()
    bring(house, "r1", "r2")
    house.do(add("mine"))
    house.do(remove("feed"))

    house.settle()

    assert sorted(house.state.records) == ["mine"]
    assert house.state.brought.gone == {}


def test_what_it_brought_stays_until_its_holder_has_let_go_of_the_source():
    """Whoever still fetches could only bring it back."""
    house = with_feed()
    bring(house, "r1")

    house.do(remove("feed"))
    assert house.phase("r1") is Phase.HELD
    house.release("feed")

    assert house.phase("r1") is Phase.REMOVING


def test_a_source_that_is_added_again_before_it_is_gone_keeps_what_it_brought():
    """Removing it and adding it is how an app gives it another definition."""
    house = with_feed()
    bring(house, "r1")
    house.do(remove("feed"))
    house.do(AddResources((replace(FEED, fields=b"new"),)))

    house.settle()

    assert house.state.brought.owned_by("feed") == ["r1"]
    assert house.phase("r1") is Phase.HELD


def test_a_source_that_becomes_something_else_owns_nothing_any_more():
    """The kind of its definition changed to one that fetches nothing."""
    house = with_feed()
    bring(house, "r1")
    house.do(add("feed"))

    house.settle()

    assert sorted(house.state.records) == ["feed"]


def test_what_was_to_come_back_as_an_entry_does_not_when_its_source_is_gone():
    """It is being removed already, and its next definition is forgotten."""
    house = with_feed()
    house.do(add("r1"))
    house.do(remove("r1"))
    bring(house, "r1")
    house.do(remove("feed"))

    house.release("feed")
    assert (house.phase("r1"), house.record("r1").following) == (Phase.REMOVING, None)
    house.settle()

    assert dict(house.state.records.items()) == {}


def test_ten_thousand_go_some_hundred_at_a_time_and_place_goes_on():
    """One step of the log stays short; until the last of them is gone the leader has something to propose."""
    house = with_feed(checked=False)
    for start in range(0, 10_000, 500):
        bring(house, *numbered(10_000)[start : start + 500])
    house.do(remove("feed"))
    steps = 0

    outcome = house.release("feed")
    while unfinished(house.state):
        assert len(outcome.changes) <= 3 * placement.STEP_ASSIGNMENTS_MAX
        outcome = house.apply(Place())
        steps += 1

    assert steps == 20
    assert {a.phase for a in house.state.assignments.values()} == {Phase.REMOVING}
    assert check(house.state) == []


def test_a_source_that_comes_back_in_the_middle_finds_what_is_left():
    """As its own; what has begun to go comes back when it brings it again."""
    house = with_feed(checked=False)
    names = numbered(600)
    bring(house, *names[:300])
    bring(house, *names[300:])
    house.do(remove("feed"))
    house.release("feed")
    left = house.state.brought.owned_by("feed")
    assert 0 < len(left) < 600

    house.do(AddResources((FEED,)))

    assert house.state.brought.gone == {}
    assert house.state.brought.owned_by("feed") == left
    bring(house, *names[:300])
    bring(house, *names[300:])
    house.settle()
    assert house.state.brought.count("feed") == 600
    assert check(house.state) == []


# --- replicas --------------------------------------------------------------------------------------------------------


def test_who_owns_what_is_read_from_a_picture():
    """Also of a source that is gone, in the middle of its going; and both go on alike."""
    house = with_feed(checked=False)
    bring(house, *numbered(400))
    house.do(remove("feed"))
    house.release("feed")
    assert house.state.brought.gone == {"feed": None}

    read = through_bytes(house.state)

    assert check(read) == []
    assert read.digest == house.state.digest
    other = Cluster()
    other.state = read
    assert other.apply(Place()).changes == house.apply(Place()).changes


def test_random_logs_reach_every_corner_of_this(monkeypatch: pytest.MonkeyPatch):
    """Otherwise what they show of replicas says nothing about sources."""
    monkeypatch.setattr(placement, "STEP_ASSIGNMENTS_MAX", STEP_MAX)
    corners = {"written", "foreign", "stopped half way", Reason.STALE, Reason.INVALID}
    seen: set[object] = set()
    for seed in range(60):
        log = RandomLog(seed)
        for request, outcome in log.go_on(600):
            command, answer = request.command, outcome.answer
            if isinstance(command, AddResources | RemoveResources) and command.source is not None:
                seen.add(answer.reason if isinstance(answer, Refused) else "written")
                seen.add("foreign" if isinstance(answer, Done) and answer.foreign else "")
            seen.add("stopped half way" if log.state.brought.gone else "")
        if seen >= corners:
            return
    assert seen >= corners


@pytest.mark.parametrize("seed", range(3))
def test_the_index_follows_from_the_records_at_every_step(seed: int):
    log = RandomLog(seed)
    for _ in log.go_on(400):
        assert check(log.state) == []
