"""What readers see of the state."""

from __future__ import annotations

from msgspec.structs import replace

from pydrm.core.commands import AddResources, PauseResources
from pydrm.core.handle_commands import Handle, HandleReport, Report
from pydrm.core.records import Condition, Definition
from pydrm.core.state import State
from pydrm.view import (
    AssignmentView,
    assignment_views,
    node_rows,
    recovery_problem,
    resource_counts,
    resource_rows,
)
from tests.core.build import Cluster, cluster, remove


def reported(built: Cluster, resource: str, condition: Condition) -> None:
    claim = built.claim(resource)
    report = HandleReport(resource, 0, claim.token, condition)
    built.apply(Report(claim.node, claim.incarnation, (report,)))


def test_a_held_resource_shows_as_its_holder_reports_it() -> None:
    built = cluster("a", resources=["r1"])
    token = built.token("r1")
    assert assignment_views(built.state) == [AssignmentView("r1", 0, "opening", "a", token)]

    for condition in (Condition.OPEN, Condition.RETRYING, Condition.FAILED):
        reported(built, "r1", condition)

        assert assignment_views(built.state) == [AssignmentView("r1", 0, condition.value, "a", token)]


def test_what_nobody_can_hold_shows_as_waiting_for_a_holder() -> None:
    built = cluster(resources=["r1"])

    assert assignment_views(built.state) == [AssignmentView("r1", 0, "waiting", None, None)]


def test_what_is_on_its_way_shows_as_such_unless_its_holder_is_stuck() -> None:
    built = cluster("a", "b", resources=["moves", "goes"])
    reported(built, "moves", Condition.OPEN)
    built.drain(built.holder("moves"))
    built.apply(remove("goes"))
    assert [view.state for view in assignment_views(built.state)] == ["releasing", "removing"]

    reported(built, "moves", Condition.STUCK)

    assert [view.state for view in assignment_views(built.state)] == ["stuck", "removing"]


def test_views_of_some_come_in_the_order_asked_for_and_leave_out_what_is_not_there() -> None:
    built = cluster("a", resources=["r1", "r2"])

    views = assignment_views(built.state, [("r2", 0), ("none", 0), ("r1", 0)])

    assert [view.resource for view in views] == ["r2", "r1"]


def test_rows_are_sorted_by_id() -> None:
    built = cluster("a", resources=["r2", "r1"])

    rows = resource_rows(built.state)

    opening = {"kind": "websocket", "state": "opening", "holder": "a", "detail": "", "next_try": None, "source": None}
    assert rows == [
        {"id": "r1", "token": built.token("r1"), **opening},
        {"id": "r2", "token": built.token("r2"), **opening},
    ]


def test_what_a_source_has_brought_shows_whose_it_is() -> None:
    """Until the app adds it itself."""
    built = cluster("a")
    built.apply(AddResources((Definition("list", "source.file", b""),)))
    brought = AddResources((Definition("r1", "websocket", b""),), source=Handle("list", 0, built.token("list")))
    assert built.do(brought).created == 1
    assert {row["id"]: row["source"] for row in resource_rows(built.state)} == {"list": None, "r1": "list"}

    built.apply(AddResources((Definition("r1", "websocket", b""),)))
    assert {row["id"]: row["source"] for row in resource_rows(built.state)} == {"list": None, "r1": None}


def test_each_resource_counts_as_held_unheld_moving_or_parked() -> None:
    built = cluster("a", "b", resources=["r1", "r2", "r3"])
    built.apply(remove("r1"))
    assert resource_counts(built.state) == {
        "total": 3,
        "held": 2,
        "open": 0,
        "failing": 0,
        "unheld": 0,
        "moving": 1,
        "parked": 0,
    }

    built = cluster(resources=["r1"])
    assert resource_counts(built.state) == {
        "total": 1,
        "held": 0,
        "open": 0,
        "failing": 0,
        "unheld": 1,
        "moving": 0,
        "parked": 0,
    }


def test_nodes_are_listed_by_name_with_voters_that_never_came() -> None:
    built = cluster("b", "a", resources=["r1"])
    built.expire("b")

    assert node_rows(built.state, ["a", "b", "c"]) == [
        {"node": "a", "state": "alive", "votes": True, "incarnation": 2, "held": 1},
        {"node": "b", "state": "left", "votes": True, "incarnation": 1, "held": 0},
        {"node": "c", "state": "absent", "votes": True, "incarnation": 0, "held": 0},
    ]


def test_a_recovery_is_a_problem_until_a_leader_has_led_for_long_enough() -> None:
    """Also while nobody leads: then it cannot end."""
    built = cluster("a", resources=["r1"])
    assert recovery_problem(built.state, "a") == ""
    assert recovery_problem(State(), None) == ""

    assert built.state.settings is not None
    built.state.settings = replace(built.state.settings, recovering=True)

    assert "until a has led for 2 s" in recovery_problem(built.state, "a")
    assert "until somebody has led for 2 s" in recovery_problem(built.state, None)


def test_what_is_parked_shows_why() -> None:
    built = cluster("a", resources=["paused", "refused"])
    built.apply(PauseResources(("paused",), "moving house"))
    built.release("paused")
    built.give_up("refused", "HTTP status 500")
    built.release("refused")

    assert assignment_views(built.state) == [
        AssignmentView("paused", 0, "paused", None, None, "moving house"),
        AssignmentView("refused", 0, "quarantined", None, None, "HTTP status 500"),
    ]
    assert resource_counts(built.state) == {
        "total": 2,
        "held": 0,
        "open": 0,
        "failing": 0,
        "unheld": 0,
        "moving": 0,
        "parked": 2,
    }


def test_what_is_retried_shows_why_and_when() -> None:
    built = cluster("a", resources=["r1"])
    claim = built.claim("r1")
    report = HandleReport("r1", 0, claim.token, Condition.RETRYING, "refused", next_try_ms=1_700_000_000_500)
    built.apply(Report("a", claim.incarnation, (report,)))

    [view] = assignment_views(built.state)
    assert (view.state, view.detail, view.next_try) == ("retrying", "refused", 1_700_000_000.5)
