"""Request ids: a command takes effect once, however often and however late it is delivered."""

from __future__ import annotations

import pytest

from pydrm.core.answers import Done, Reason, Refused
from pydrm.core.changes import Answered, FloorRaised
from pydrm.core.commands import Command, Drain, ForceRelease, RequestId
from pydrm.core.handle_commands import Handle, Release
from pydrm.core.machine import Outcome
from tests.core.build import Cluster, add, cluster, refused, remove


def id_of(sequence: int, *, floor: int = 1, node: str = "a", incarnation: int = 1) -> RequestId:
    return RequestId(node, incarnation, sequence, floor)


def test_an_answer_is_remembered_with_the_request_in_the_same_step():
    """It is replicated with what the command did, so any node that leads next knows it."""
    house = cluster("a")

    outcome = house.apply(add("r1"), id_of(1))

    assert outcome.changes[-2:] == (Answered("a", 1, 1, Done(created=1)), FloorRaised("a", 1, 1))
    assert house.state.sessions.answer(("a", 1), 1) == Done(created=1)


def commands(house: Cluster) -> dict[str, Command]:
    claim = house.claim("r1")
    return {
        "add": add("r3", "r4"),
        "update": add("r1", url="ws://other"),
        "remove": remove("r1", "nothing"),
        "drain": Drain("a", 1),
        "release": Release("a", 1, (Handle("r1", 0, claim.token),)),
        "force": ForceRelease("r1", 0, claim.token, "why"),
        "refused": ForceRelease("nothing", 0, 1, "why"),
    }


@pytest.mark.parametrize("name", ["add", "update", "remove", "drain", "release", "force", "refused"])
def test_a_repeated_request_gets_the_same_answer_and_changes_nothing(name: str):
    """Done or refused: what was answered stays answered."""
    house = cluster("a", "b", resources=["r1", "r2"])
    command = commands(house)[name]
    first = house.apply(command, id_of(1))
    before = house.digest

    for _ in range(3):
        assert house.apply(command, id_of(1)) == Outcome(first.answer, ())
    assert house.digest == before


def test_a_repeated_request_is_answered_as_it_was_and_not_as_it_would_be_now():
    """The add created it then; that it was removed since does not bring it back."""
    house = cluster("a")
    house.apply(add("r1"), id_of(1))
    house.apply(remove("r1"), id_of(2))
    house.release("r1")

    assert house.apply(add("r1"), id_of(1)) == Outcome(Done(created=1), ())
    assert "r1" not in house.state.records


def test_requests_take_effect_in_any_order():
    """A client has many at once, and the network may turn them around."""
    house = cluster("a")

    for sequence in (3, 1, 2):
        assert house.do(add(f"r{sequence}"), id_of(sequence)) == Done(created=1)

    assert set(house.state.records) == {"r1", "r2", "r3"}


def test_a_request_below_its_clients_floor_is_refused():
    """The client had given it up: what arrives so late is nobody's wish any more."""
    house = cluster("a")
    house.apply(add("r5"), id_of(5, floor=5))
    before = house.digest

    assert refused(house.apply(add("r4"), id_of(4, floor=1))) is Reason.FORGOTTEN
    assert house.digest == before


def test_answers_below_the_floor_are_forgotten():
    """The table stays as small as what clients still wait for."""
    house = cluster("a")
    for sequence in range(1, 101):
        house.apply(add(f"r{sequence}"), id_of(sequence))
    assert len(house.state.sessions) == 100

    house.apply(add("more"), id_of(101, floor=100))

    assert len(house.state.sessions) == 2
    assert house.state.sessions.floor(("a", 1)) == 100
    assert house.state.sessions.answer(("a", 1), 100) == Done(created=1)


def test_a_floor_that_makes_a_huge_step_forgets_all_below():
    """However far apart the numbers are."""
    house = cluster("a")
    house.apply(add("r1"), id_of(1))
    house.apply(add("r2"), id_of(2))

    house.apply(add("r3"), id_of(10**15, floor=10**15))

    assert len(house.state.sessions) == 1


def test_a_floor_never_goes_back():
    """A request that was sent before its client gave others up says a lower one; the highest counts."""
    house = cluster("a")
    house.apply(add("r5"), id_of(5, floor=4))

    house.apply(add("r6"), id_of(6, floor=2))

    assert house.state.sessions.floor(("a", 1)) == 4
    assert refused(house.apply(add("r3"), id_of(3, floor=2))) is Reason.FORGOTTEN


def test_a_forgotten_request_that_comes_again_is_refused_and_not_done_twice():
    """Its answer is gone, but below the floor nothing takes effect."""
    house = cluster("a")
    house.apply(add("r1"), id_of(1))
    house.apply(remove("r1"), id_of(2, floor=2))
    house.release("r1")
    before = house.digest

    assert refused(house.apply(add("r1"), id_of(1))) is Reason.FORGOTTEN
    assert house.digest == before


def test_clients_do_not_share_their_numbers():
    """Each incarnation of each node counts for itself."""
    house = cluster("a", "b")

    house.apply(add("r1"), id_of(1, node="a", incarnation=1))
    house.apply(add("r2"), id_of(1, node="b", incarnation=2))

    assert set(house.state.records) == {"r1", "r2"}


@pytest.mark.parametrize("incarnation", [0, 1, 4])
def test_only_the_living_incarnation_of_a_node_has_requests(incarnation: int):
    """A request of a process that is gone, or of one that never was, does nothing."""
    house = cluster("a", "b")
    house.restart("a")
    before = house.digest

    assert refused(house.apply(add("r1"), id_of(1, incarnation=incarnation))) is Reason.EXPIRED
    assert house.digest == before


@pytest.mark.parametrize("end", ["expire", "resign", "restart"])
def test_a_session_ends_with_its_incarnation_and_late_duplicates_do_nothing(end: str):
    """However the incarnation ended, its answers are gone and its requests refused for ever."""
    house = cluster("a", "b")
    house.apply(add("r1"), id_of(1))
    house.apply(remove("r1"), id_of(2))
    house.release("r1")
    getattr(house, end)("a")
    before = house.digest

    assert house.state.sessions.clients() == []
    assert refused(house.apply(add("r1"), id_of(1))) is Reason.EXPIRED
    assert house.digest == before


def test_commands_without_a_request_id_leave_nothing_behind():
    """Renewals are most of an idle cluster's log; they may not fill a table."""
    house = cluster("a", "b", resources=["r1"])

    house.renew("a")
    house.expire("b")

    assert len(house.state.sessions) == 0


def test_the_answers_of_a_session_are_part_of_the_digest():
    """A replica that had forgotten an answer would answer differently one day."""
    one, other = cluster("a"), cluster("a")
    assert one.digest == other.digest

    one.apply(add(), id_of(1))

    assert one.digest != other.digest
    other.apply(add(), id_of(1))
    assert one.digest == other.digest


def test_a_refusal_is_remembered_too():
    """The caller may have been told no; the repetition may not say yes."""
    house = cluster("a")
    forced = ForceRelease("r1", 0, 4, "why")
    answer = house.do(forced, id_of(1))
    house.apply(add("r1"))

    assert isinstance(answer, Refused)
    assert house.apply(forced, id_of(1)) == Outcome(answer, ())
