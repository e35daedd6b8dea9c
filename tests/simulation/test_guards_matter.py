"""
The guards against what is wrong with PySyncObj, each with a scene that goes wrong without it.

The defects are numbered as in `pydrm.engine.guards`. Guards that nobody has ever seen at work may as well be missing.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest

from pydrm import Resource
from pydrm.engine import guards, raft
from pydrm.engine.journal import Journal
from pydrm.engine.raft import Raft
from pydrm.testing.simulation import SimulatedCluster
from tests.engine.test_lagging import (
    ever_led,
    grown_to_five_and_two_are_back,
    offered_what_it_must_not_commit,
    offered_what_its_log_goes_beyond,
    restarted_after_a_snapshot_in_the_middle_of_its_log,
)
from tests.engine.test_raft import (
    _small_messages,  # noqa: F401 (pytest finds the fixture by its name)
    after_a_long_separation,
    answered_by_the_past,
    applied,
    resent_in_part,
)
from tests.simulation.plants import request_ids_begin_again


@attrs.frozen
class Guard:
    """
    Attributes:
        without: Takes it out.
        scene: What goes wrong in it, in words; nothing as long as the guard is there.
        needs: A fixture that the scene is written for.
    """

    defect: str
    without: Callable[[pytest.MonkeyPatch], None]
    scene: Callable[[], list[str]]
    needs: str = "request"


# --- S1: a log is cut at each message ---------------------------------------------------------------------------------


def without_only_news(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(guards, "only_news", lambda log, message, commit_index: (message, None))


def a_leader_dies_while_it_sends_again() -> list[str]:
    world, commands = resent_in_part()
    world.calm(3.0)
    there = applied(world, "b") + applied(world, "c")
    return [f"{command!r} was acknowledged and is lost" for command in commands if command not in there]


# --- S4: a log that has diverged never comes together again -----------------------------------------------------------


def without_back_to_commit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(guards, "back_to_commit", lambda answer, commit_index, last_index: answer)


def somebody_comes_back_with_a_long_log_of_its_own() -> list[str]:
    world = after_a_long_separation()
    missing = 100 - len(applied(world, "a"))
    return [f"{missing} entries never arrive at a"] if missing else []


# --- S5: an acknowledgement is believed in another term ---------------------------------------------------------------


def without_of_this_term(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(guards, "of_this_term", lambda answer, term: True)


def an_acknowledgement_comes_late() -> list[str]:
    world = answered_by_the_past()
    world.crash("a")
    world.link("b", "c")
    world.calm(3.0)
    alone = [command for command in world.log.values() if command not in applied(world, "b") + applied(world, "c")]
    return [f"a had {command!r} applied, and nobody else has it" for command in alone]


# --- S2, S3, S6: a snapshot ends what was only begun, or what was promised --------------------------------------------


def without_a_bound_on_what_is_committed(patch: pytest.MonkeyPatch) -> None:
    def heard_leader(it: Raft, peer: str, term: int) -> bool:
        it._deliver(it._node(peer), type="append_entries", term=term, commit_index=10**9)
        return True

    patch.setattr(Raft, "heard_leader", heard_leader)


def a_snapshot_is_offered_to_somebody_with_a_log_of_its_own() -> list[str]:
    return offered_what_it_must_not_commit().wrong


def without_alignment(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Journal, "align", Journal.reset)


def all_are_restarted_after_a_snapshot() -> list[str]:
    world = restarted_after_a_snapshot_in_the_middle_of_its_log()
    there = applied(world, "b")
    return [f"{command!r} was acknowledged and is lost" for command in world.log.values() if command not in there]


def without_a_look_at_what_it_holds(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Raft, "holds", lambda it, index, term: False)
    patch.setattr(Journal, "reset", lambda journal, index, term: journal._entries.replace(index, term))


def a_snapshot_is_offered_to_somebody_with_a_longer_log() -> list[str]:
    world = offered_what_its_log_goes_beyond()
    lost = world.members["a"].journal[-1][1] - world.members["b"].journal[-1][1]
    return [f"{lost} acknowledged entries are thrown away"] if lost else []


# --- S8: whoever got a vote does not count ----------------------------------------------------------------------------


def without_votes_from_the_log(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Raft, "_proved_by_later_changes", lambda it: 0)
    patch.setattr(Journal, "getRaftCommitIndex", lambda journal: 1)


def two_of_five_are_back() -> list[str]:
    return ["two of five elect a leader"] if ever_led(grown_to_five_and_two_are_back()) else []


# --- S7: a request is answered with what became of another ------------------------------------------------------------


def a_process_is_killed_and_asks_again() -> list[str]:
    """It is killed as soon as its requests are answered, and asks for as many other things when it is back."""
    with SimulatedCluster(1) as cluster:
        for life in ("first", "second"):
            cluster.run(2.0)
            for number in range(20):
                cluster.add(Resource(f"{life}{number}", kind="held"), via="a")
            for _ in range(100):
                cluster.run(0.001)
                if not cluster.uncertain:
                    break
            cluster.kill("a")
            cluster.start("a")
        cluster.run(2.0)
        there = cluster.nodes["b"].state.records
        return [f"{id} was acknowledged, and was never applied" for id in cluster.acknowledged if id not in there]


GUARDS = (
    Guard("S1", without_only_news, a_leader_dies_while_it_sends_again, needs="_small_messages"),
    Guard("S2", without_a_bound_on_what_is_committed, a_snapshot_is_offered_to_somebody_with_a_log_of_its_own),
    Guard("S3", without_alignment, all_are_restarted_after_a_snapshot),
    Guard("S4", without_back_to_commit, somebody_comes_back_with_a_long_log_of_its_own, needs="_small_messages"),
    Guard("S5", without_of_this_term, an_acknowledgement_comes_late),
    Guard("S6", without_a_look_at_what_it_holds, a_snapshot_is_offered_to_somebody_with_a_longer_log),
    Guard("S7", request_ids_begin_again, a_process_is_killed_and_asks_again),
    Guard("S8", without_votes_from_the_log, two_of_five_are_back),
)


def test_every_defect_has_its_guard():
    assert [guard.defect for guard in GUARDS] == [f"S{number}" for number in range(1, 9)]


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.defect)
def test_with_its_guard_the_scene_goes_well(guard: Guard, request: pytest.FixtureRequest):
    request.getfixturevalue(guard.needs)

    assert guard.scene() == []


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.defect)
def test_without_its_guard_the_scene_goes_wrong(
    guard: Guard, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
):
    request.getfixturevalue(guard.needs)
    guard.without(monkeypatch)

    assert guard.scene() != []


def test_pysyncobj_is_given_no_callbacks_that_a_late_answer_could_reach():
    """S7 by construction: what became of a command is seen when it is applied, by its own id."""
    called: dict[str, object] = {}

    class Core:
        def _isLeader(self) -> bool:
            return False

        def _applyCommand(self, command: bytes, callback: object, kind: int) -> None:
            called["callback"] = callback

    alone = raft.Raft.__new__(raft.Raft)
    alone._core = Core()
    alone.submit(b"an entry")

    assert called == {"callback": None}
