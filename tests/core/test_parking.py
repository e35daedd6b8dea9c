"""
Pauses and quarantines: that nobody holds a resource for now, and how that ends.
"""

from __future__ import annotations

from pydrm.core.answers import Done, Reason, Refused
from pydrm.core.commands import AddResources, EndQuarantine, PauseResources, RemoveResources, ResumeResources
from pydrm.core.handle_commands import HandleReport, Report
from pydrm.core.records import Condition, ParkedCause, Phase
from tests.core.build import Cluster, add, cluster, define, numbered


def pause(cluster: Cluster, *ids: str) -> None:
    assert isinstance(cluster.do(PauseResources(ids, "maintenance")), Done)


def quarantine(cluster: Cluster, resource: str) -> int:
    """Have every node give it up; the quarantine's number."""
    while resource not in cluster.state.quarantined:
        cluster.give_up(resource)
        cluster.release(resource)
    return cluster.state.quarantined[resource]


def prove(cluster: Cluster, resource: str) -> None:
    claim = cluster.claim(resource)
    report = HandleReport(resource, 0, claim.token, Condition.OPEN, proven=True)
    cluster.apply(Report(claim.node, claim.incarnation, (report,)))


# --- pauses ----------------------------------------------------------------------------------------------------------


def test_what_is_paused_is_released_and_then_nobody_holds_it() -> None:
    """Its holder lets go first: a pause takes nothing from anybody."""
    c = cluster("a", "b", resources=["r"])
    pause(c, "r")

    assert c.phase("r") is Phase.RELEASING
    c.release("r")
    assert c.phase("r") is Phase.PARKED
    assert c.settle() == []


def test_what_waits_is_parked_at_once_and_the_queue_goes_on_without_it() -> None:
    """Nobody has to let go of it."""
    c = cluster(resources=["r", "s"])
    pause(c, "r")
    c.join("a")

    assert c.phase("r") is Phase.PARKED
    assert c.held() == {"s": "a"}


def test_a_resumed_resource_is_held_again() -> None:
    """Under a new token."""
    c = cluster("a", resources=["r"])
    old = c.token("r")
    pause(c, "r")
    c.release("r")

    assert c.do(ResumeResources(("r",))) == Done(updated=1)
    assert c.phase("r") is Phase.HELD
    assert c.token("r") > old


def test_a_pause_that_ends_before_the_holder_has_let_go_is_one_release() -> None:
    """A release is never cancelled."""
    c = cluster("a", resources=["r"])
    old = c.token("r")
    pause(c, "r")
    c.do(ResumeResources(("r",)))

    assert c.phase("r") is Phase.RELEASING
    c.release("r")
    assert c.token("r") > old


def test_a_pause_outlives_the_death_of_the_holder_and_a_new_definition() -> None:
    """Only who resumes it ends it."""
    c = cluster("a", "b", resources=["r"])
    pause(c, "r")
    c.expire(c.holder("r"))
    assert c.phase("r") is Phase.PARKED

    c.apply(add("r", url="other"))
    assert c.phase("r") is Phase.PARKED
    parked = c.record("r").parked
    assert parked is not None
    assert (parked.cause, parked.reason) == (ParkedCause.PAUSED, "maintenance")


def test_a_target_is_released_too() -> None:
    """With overlap, two have it; both let go."""
    c = cluster("a", resources=["r", "s", "t"], overlap=True)
    c.join("b")
    moving = next(name for name in ("r", "s", "t") if c.phase(name) is Phase.OPENING)
    pause(c, moving)

    assert c.settle()[:2] == [moving, moving]
    assert c.phase(moving) is Phase.PARKED


def test_what_is_removed_and_added_again_is_not_paused() -> None:
    """It is another resource of the same name."""
    c = cluster("a", resources=["r"])
    pause(c, "r")
    c.do(RemoveResources(("r",)))
    c.apply(add("r"))
    c.settle()

    assert c.phase("r") is Phase.HELD


def test_a_paused_resource_can_be_removed() -> None:
    """At once, since nobody has it."""
    c = cluster("a", resources=["r"])
    pause(c, "r")
    c.release("r")
    c.do(RemoveResources(("r",)))

    assert "r" not in c.state.records


def test_pausing_and_resuming_name_what_is_not_there() -> None:
    """And do the rest."""
    c = cluster("a", resources=["r"])

    assert c.do(PauseResources(("r", "x", "r"))) == Done(updated=1, missing=("x",))
    assert c.do(PauseResources(("r",))) == Done()
    assert c.do(ResumeResources(("r", "x"))) == Done(updated=1, missing=("x",))


def test_the_load_is_even_without_what_is_paused() -> None:
    """It counts nowhere, and comes back to where there is room."""
    c = cluster("a", "b", resources=numbered(10))
    mine = [name for name, holder in c.held().items() if holder == "a"]
    pause(c, *mine)
    c.settle()
    assert c.counts() in ([3, 2], [2, 3])

    c.do(ResumeResources(tuple(mine)))
    c.settle()
    assert c.counts() == [5, 5]


# --- giving up -------------------------------------------------------------------------------------------------------


def test_what_one_node_gives_up_another_tries() -> None:
    """However even the load is."""
    c = cluster("a", "b", "c", resources=["r"])
    tried = []
    for _ in range(3):
        tried.append(c.holder("r"))
        c.give_up("r")
        c.release("r")

    assert sorted(tried) == ["a", "b", "c"]


def test_what_every_node_gave_up_is_quarantined_with_its_reason() -> None:
    """And not bounced round the cluster."""
    c = cluster("a", "b", resources=["r"])
    quarantine(c, "r")

    assert c.phase("r") is Phase.PARKED
    parked = c.record("r").parked
    assert parked is not None
    assert (parked.cause, parked.reason, parked.duration_ms) == (ParkedCause.QUARANTINED, "refused", 60_000)
    assert c.settle() == []


def test_the_end_of_a_quarantine_names_that_quarantine() -> None:
    """A late one ends no later quarantine."""
    c = cluster("a", resources=["r"])
    first = quarantine(c, "r")
    assert c.do(EndQuarantine("r", first)) == Done()
    assert c.phase("r") is Phase.HELD
    second = quarantine(c, "r")

    assert second != first
    refused = c.do(EndQuarantine("r", first))
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.STALE
    assert c.phase("r") is Phase.PARKED


def test_after_a_quarantine_one_node_tries_and_if_it_fails_that_was_all() -> None:
    """Who gave it up before is not asked once more."""
    c = cluster("a", "b", "c", resources=["r"])
    c.do(EndQuarantine("r", quarantine(c, "r")))

    c.give_up("r")
    assert "r" in c.state.quarantined


def test_what_was_open_for_good_is_forgiven() -> None:
    """Its next failure is its first."""
    c = cluster("a", "b", resources=["r"])
    c.do(EndQuarantine("r", quarantine(c, "r")))
    prove(c, "r")

    c.give_up("r")
    assert "r" not in c.state.quarantined
    c.release("r")
    assert c.phase("r") is Phase.HELD


def test_a_new_definition_or_a_resume_ends_a_quarantine_and_forgives() -> None:
    """Somebody has mended something."""
    for mend in (AddResources((define("r", "mended"),)), ResumeResources(("r",))):
        c = cluster("a", "b", resources=["r"])
        quarantine(c, "r")
        c.do(mend)

        assert c.phase("r") is Phase.HELD
        assert c.assignment("r").failed == ()
        assert "r" not in c.state.quarantined


def test_a_new_process_of_a_node_that_gave_up_counts_as_another() -> None:
    """Whatever was wrong with the old one may have been mended."""
    c = cluster("a", "b", resources=["r"])
    first = c.holder("r")
    c.give_up("r")
    c.release("r")
    c.restart(first)

    c.give_up("r")
    assert "r" not in c.state.quarantined
    c.release("r")
    assert c.holder("r") == first


def test_processes_that_are_gone_are_not_remembered() -> None:
    """Or a third party that is away, and nodes that are restarted again and again, would make a long list."""
    c = cluster("a", "b", resources=["r"])
    for _ in range(10):
        c.give_up("r")
        c.release("r")
        c.restart("a")
        c.restart("b")
        c.settle()
        c.do(ResumeResources(("r",))) if "r" in c.state.quarantined else None

    assert len(c.assignment("r").failed) <= 2


def test_only_the_holder_can_give_up_and_only_what_it_keeps() -> None:
    """What is on its way elsewhere is not given up."""
    c = cluster("a", "b", resources=["r"])
    c.drain(c.holder("r"))
    before = c.digest

    c.give_up("r")
    assert c.digest == before


def test_what_is_given_up_while_the_others_are_gone_is_tried_by_who_is_left() -> None:
    """Never nobody, while there is somebody who can try."""
    c = cluster("a", "b", resources=["r"])
    left = c.holder("r")
    c.give_up("r")
    other = "b" if left == "a" else "a"
    c.expire(other)
    c.release("r")

    assert c.holder("r") == left
