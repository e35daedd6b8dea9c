"""
`Warden`: what becomes of the lease rule on the engine's thread, with a cluster, an app and a clock that stand still.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from itertools import count

import pytest
from msgspec.structs import replace

from pydrm.agent.fence import Fence
from pydrm.agent.lease import Lease
from pydrm.agent.warden import EXIT_UNFENCED, Warden
from pydrm.core.answers import Done
from pydrm.core.budget_commands import SetBudget
from pydrm.core.budget_records import Budget
from pydrm.core.changes import BudgetChanged, BudgetDropped
from pydrm.core.commands import (
    Command,
    Drain,
    EndRecovery,
    Expire,
    ForceRelease,
    Form,
    Join,
    Place,
    RaiseProtocol,
    Renew,
    Request,
)
from pydrm.core.handle_commands import Handle, HandleReport, Release, Report
from pydrm.core.machine import Outcome
from pydrm.core.placement import STEP_ASSIGNMENTS_MAX
from pydrm.core.records import AssignmentKey, Condition, Role
from pydrm.core.recovery import decide_begin_recovery
from pydrm.core.state import State, evolve
from pydrm.engine import Footing, Membership
from pydrm.errors import DrmError, Superseded
from tests.core.build import LEASE_TTL_MS, VOTERS, Cluster, add, cluster, join, numbered

START = 1000.0
STALL_TIMEOUT_S = 5.0


class StandingClock:
    def __init__(self) -> None:
        self.seconds = START
        self.slept: Callable[[], None] = lambda: None

    def now(self) -> float:
        return self.seconds

    def wall(self) -> float:
        return self.now()

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        self.slept()


class App:
    """The app's loop, and what is told there; it does what was posted when the test lets it."""

    def __init__(self) -> None:
        self.told: list[tuple[str, object]] = []
        self.busy = False
        self._posted: list[tuple[Callable[..., object], tuple[object, ...]]] = []

    def post(self, call: Callable[..., object], *arguments: object) -> None:
        self._posted.append((call, arguments))

    def run(self) -> None:
        posted, self._posted = self._posted, []
        for call, arguments in posted:
            call(*arguments)

    # Listener

    def changed(self, keys: Sequence[AssignmentKey]) -> None:
        self.told.append(("changed", list(keys)))

    def joined(self, incarnation: int) -> None:
        self.told.append(("joined", incarnation))

    def fenced(self, reason: str) -> None:
        self.told.append(("fenced", reason))

    def budgeted(self, groups: Sequence[str]) -> None:
        self.told.append(("budgeted", list(groups)))

    def unfenced(self) -> None:
        self.told.append(("unfenced", None))


class Scene:
    """
    Node a's warden; it is its engine's `Port` as well, and the log.

    Attributes:
        submitted: What the warden has put into the log and what `commit` has not applied yet.
        exits: The codes with which the process would have ended.
    """

    def __init__(self, built: Cluster | None = None, *, on_unfenced: str = "exit", fence: Fence | None = None) -> None:
        self.cluster = built if built is not None else cluster()
        self.clock = StandingClock()
        self.app = App()
        self.lease = Lease()
        self.fence = fence or Fence()
        self.submitted: list[Command] = []
        self.clients: list[tuple[str, int]] = []
        self.failures: list[DrmError] = []
        self.exits: list[int] = []
        nonces = count(1)
        self.warden = Warden(
            "a",
            self.lease,
            self.fence,
            lease_ttl_s=LEASE_TTL_MS / 1000,
            stall_timeout_s=STALL_TIMEOUT_S,
            on_unfenced=on_unfenced,
            address="a:7000",
            role=Role.VOTER,
            app=self.app,
            listener=self.app,
            on_failure=self.failures.append,
            clock=self.clock,
            new_nonce=lambda: f"nonce-{next(nonces)}",
            exit=self.exits.append,
        )
        self.warden.formed(self, Membership("orders", VOTERS, "directory-a"))

    # Port

    @property
    def state(self) -> State:
        return self.cluster.state

    def submit(self, command: Command) -> None:
        self.submitted.append(command)

    def speak_as(self, client: tuple[str, int]) -> None:
        self.clients.append(client)

    def wake(self) -> None:
        raise AssertionError("it has no need to")

    # What happens

    @property
    def now(self) -> float:
        return self.clock.seconds

    def wall(self) -> float:
        return self.now()

    @property
    def told(self) -> list[tuple[str, object]]:
        told, self.app.told = self.app.told, []
        return told

    def tick(self, after_s: float = 0.0, *, leads: bool = False, up_to_date: bool = True, applied: int = 1) -> None:
        self.clock.seconds += after_s
        heard = self.now if up_to_date else float("-inf")
        self.warden.tick(self.now, Footing(START - 100 if leads else None, "b", 1, applied, heard))
        if not self.app.busy:
            self.app.run()

    def apply(self, command: Command) -> Outcome:
        outcome = self.cluster.apply(command)
        self.warden.applied(Request(command), outcome, self.now)
        return outcome

    def after(self, command: Command) -> list[tuple[str, object]]:
        """What the app is told at the tick after *command* was applied."""
        self.apply(command)
        self.tick()
        return self.told

    def expire(self) -> None:
        """The cluster ends this node's lease."""
        node = self.state.nodes["a"]
        self.apply(Expire("a", node.incarnation, node.count))

    def commit(self) -> list[Command]:
        """All that was submitted is applied."""
        submitted, self.submitted = self.submitted, []
        for command in submitted:
            self.apply(command)
        return submitted

    def live(self, seconds: float, *, step_s: float = 0.05) -> None:
        """Everything works for a while."""
        end = self.now + seconds
        while self.now < end:
            self.tick(step_s)
            self.commit()
        self.tick()

    def wait(self, seconds: float, *, step_s: float = 0.01, up_to_date: bool = True) -> None:
        """Nothing is applied for a while; the warden ticks on."""
        end = self.now + seconds
        while self.now < end - step_s / 2:
            self.tick(step_s, up_to_date=up_to_date)
        self.submitted.clear()


def joined(**options: object) -> Scene:
    """Node a has joined, as incarnation 1 if nobody came before."""
    scene = Scene(**options)
    scene.tick()
    scene.commit()
    scene.tick()
    scene.app.told.clear()
    return scene


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Our end of a connection, and the third party's."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(10)
    with ours, theirs:
        yield ours, theirs


# --- forming, joining, renewing --------------------------------------------------------------------------------------


def test_the_leader_forms_the_cluster_until_it_is_formed():
    """What it was formed with comes from the data directory; a lost proposal is made again."""
    scene = Scene(Cluster())
    scene.tick()
    as_follower = list(scene.submitted)
    scene.tick(leads=True)
    scene.tick(0.4, leads=True)
    scene.tick(0.2, leads=True)
    form = Form("orders", VOTERS, LEASE_TTL_MS)

    assert as_follower == []
    assert scene.submitted == [form, form]
    scene.apply(form)
    scene.submitted.clear()
    scene.tick(1.0, leads=True)
    assert [type(command) for command in scene.submitted] == [Join]


def recovering() -> Scene:
    """Node a goes on alone with what it has."""
    scene = Scene(cluster("b", resources=["r1"]))
    begun = decide_begin_recovery(scene.state, node="a", replica_id="replica-a", cluster_id="orders-again")
    for change in begun.changes:
        evolve(scene.state, change)
    return scene


def ends(scene: Scene, seconds: float, *, leads_since: float | None = START) -> list[Command]:
    """What was proposed to end the recovery by then."""
    scene.clock.seconds = START + seconds
    scene.warden.tick(scene.now, Footing(leads_since, "a", 1, 1, scene.now))
    submitted, scene.submitted = scene.submitted, []
    return [command for command in submitted if isinstance(command, EndRecovery)]


def test_a_recovery_is_ended_when_the_leader_has_led_for_one_lease():
    """Until it is ended; a lost proposal is made again."""
    scene = recovering()
    end = EndRecovery("orders-again")

    assert ends(scene, 2.05) == []
    assert ends(scene, 2.15) == [end]
    assert ends(scene, 2.3) == []
    assert ends(scene, 2.7) == [end]
    scene.apply(end)
    assert ends(scene, 5.0) == []


def test_only_who_leads_ends_a_recovery_and_each_leader_waits_anew():
    """Who has led before may not have known of it."""
    scene = recovering()

    assert ends(scene, 10.0, leads_since=None) == []
    assert ends(scene, 11.0, leads_since=START + 10.0) == []
    assert ends(scene, 12.2, leads_since=START + 10.0) == [EndRecovery("orders-again")]


def test_where_nothing_was_recovered_nothing_is_ended():
    assert ends(Scene(), 10.0) == []


def test_a_node_joins_and_renews():
    """Its lease is known to it before it is told; the app's requests are made in its name from then on."""
    scene = Scene()
    scene.tick()
    submitted = scene.commit()
    scene.tick()

    assert submitted == [Join("a", "nonce-1", 0, LEASE_TTL_MS, "directory-a", "a:7000")]
    assert (scene.lease.incarnation, scene.lease.valid(scene.now)) == (1, True)
    assert scene.clients == [("a", 1)]
    assert scene.told == [("joined", 1)]
    scene.live(60.0)
    assert scene.lease.valid(scene.now)
    assert scene.told == []


def test_it_says_when_it_is_to_be_on_time():
    """Its renewals and the end of its lease; if it leads, the end of the others' too."""
    outside = Scene().warden.next_at(START)
    scene = joined()
    scene.apply(join("b", nonce="b"))
    scene.tick(0.41)
    scene.commit()
    scene.tick()
    follows = scene.warden.next_at(scene.now)
    scene.warden.resign()
    leaves, lease_ends = scene.warden.next_at(scene.now), scene.lease.deadline
    scene.tick(leads=True)
    leads = scene.warden.next_at(scene.now)
    scene.fence.opened(7)
    scene.expire()
    cut = scene.warden.next_at(scene.now)

    assert outside == START
    assert follows == pytest.approx(START + 0.81)
    assert leaves == lease_ends
    assert leads == pytest.approx(START + 2.0)
    assert cut == scene.now


def test_a_node_that_resigned_renews_no_more():
    """Its lease ends by a Resign, or by itself."""
    scene = joined()
    scene.warden.resign()

    scene.live(1.6)

    assert scene.submitted == []
    assert scene.lease.valid(scene.now)


def test_what_keeps_a_node_from_joining_can_be_read():
    """A former process of it, on another directory, may still be alive."""
    scene = Scene(cluster("a"))
    scene.tick()
    scene.commit()

    assert scene.warden.waits_for == "the lease of a's former process has not ended"
    assert scene.lease.incarnation == 0


def test_a_node_whose_app_stalls_renews_no_more_until_it_answers_again():
    """It could not be told to close anything, so it must not keep it."""
    scene = joined()
    scene.live(1.0)
    scene.app.busy = True
    busy_at = scene.now
    renewed_at = []
    while scene.now < busy_at + 10:
        scene.tick(0.05)
        if scene.submitted:
            renewed_at.append(scene.now)
        scene.commit()

    assert busy_at + STALL_TIMEOUT_S - 0.8 < renewed_at[-1] < busy_at + STALL_TIMEOUT_S + 0.1
    assert not scene.lease.valid(scene.now)
    scene.app.busy = False
    scene.tick()
    scene.tick(0.05)
    scene.commit()
    scene.tick()
    assert scene.lease.valid(scene.now)
    assert scene.told == [("fenced", "the lease ran out"), ("unfenced", None)]


def test_an_app_that_is_busy_for_less_than_that_costs_nothing():
    """That is what the engine has a thread of its own for."""
    scene = joined()
    scene.app.busy = True

    scene.live(STALL_TIMEOUT_S - 0.6)

    assert scene.lease.valid(scene.now)


def test_a_node_that_hears_no_leader_renews_no_more():
    """It could not learn that it lost something."""
    scene = joined()

    scene.tick(1.0, up_to_date=False)

    assert scene.submitted == []


# --- what the agent is told ------------------------------------------------------------------------------------------


def test_the_agent_is_told_once_in_a_tick_what_changed_for_this_node():
    """Only keys: it looks for itself at what is so then. What others hold is not its business."""
    scene = joined()
    scene.apply(join("b", nonce="b"))
    scene.apply(add("one", "two", "three", "four"))
    mine = [key for key, assignment in scene.state.assignments.items() if assignment.holder.node == "a"]
    before = scene.told
    scene.tick()
    after = scene.told
    scene.tick()

    assert before == []
    assert after == [("changed", mine)]
    assert len(mine) == 2
    assert scene.told == []


def test_the_agent_is_told_of_what_is_taken_from_this_node():
    """When it must close it, and when it has nothing to do with it any more; not of what becomes of it then."""
    scene = joined()
    scene.apply(add("one"))
    scene.apply(join("b", nonce="b"))
    scene.tick()
    scene.app.told.clear()

    told = [scene.after(Drain("a", 1))]
    told.append(scene.after(Release("a", 1, (Handle("one", 0, scene.cluster.token("one")),))))
    opened = HandleReport("one", 0, scene.cluster.token("one"), Condition.OPEN)
    told.append(scene.after(Report("b", 2, (opened,))))

    assert (scene.cluster.holder("one"), scene.cluster.claim("one").condition) == ("b", Condition.OPEN)
    assert told == [[("changed", [("one", 0)])], [("changed", [("one", 0)])], []]


def test_the_agent_is_not_told_of_what_it_has_said_itself():
    """It changes nothing that it has to do, and there is one for each resource that is opened."""
    scene = joined()
    scene.apply(add("one"))
    scene.tick()
    scene.app.told.clear()

    opened = HandleReport("one", 0, scene.cluster.token("one"), Condition.OPEN)
    told = scene.after(Report("a", 1, (opened,)))

    assert scene.cluster.claim("one").condition is Condition.OPEN
    assert told == []


def test_the_agent_is_told_of_what_is_forced_from_this_node():
    """It is excluded from it until its handle is gone, and so is still concerned."""
    scene = joined()
    scene.apply(add("one"))
    scene.apply(join("b", nonce="b"))
    scene.tick()
    scene.app.told.clear()
    (claim,) = scene.state.assignments["one", 0].claims()

    scene.apply(ForceRelease("one", 0, claim.token, "it is stuck"))
    scene.tick()

    assert claim.node == "a"
    assert claim in scene.state.assignments["one", 0].excluded
    assert scene.told == [("changed", [("one", 0)])]


# --- ending the leases of others -------------------------------------------------------------------------------------


def test_the_agent_is_told_once_in_a_tick_whose_budgets_are_other_ones():
    scene = joined()

    for number in range(50):
        scene.apply(SetBudget("x", connections=1 + number))
    scene.apply(SetBudget("y", connections=1))
    scene.tick()

    assert scene.told == [("budgeted", ["x", "y"])]


def test_after_a_snapshot_the_agent_is_told_of_budgets_that_are_there_and_of_those_that_are_gone():
    scene = joined()
    scene.after(SetBudget("old", connections=1))
    evolve(scene.state, BudgetDropped("old"))
    evolve(scene.state, BudgetChanged(Budget("new", connections=2)))

    scene.warden.restored(scene.now)
    scene.tick()

    assert ("budgeted", ["old", "new"]) in scene.told


def test_the_leader_ends_a_lease_that_was_not_renewed():
    """And nobody else does."""
    scene = joined()
    scene.apply(join("b", nonce="b"))
    scene.wait(2.1)
    scene.tick()
    as_follower = [command for command in scene.submitted if isinstance(command, Expire)]

    scene.tick(leads=True)

    assert as_follower == []
    assert Expire("b", 2, 0) in scene.submitted


def test_the_leader_goes_on_with_placement_where_it_was_left_one_step_after_the_other():
    """Two at a time in the log, and a renewal behind them would wait for both."""
    scene = joined()
    scene.cluster.apply(add(*numbered(2 * STEP_ASSIGNMENTS_MAX + 1)))

    scene.tick(applied=7)
    as_follower = list(scene.submitted)
    for applied in (7, 7, 8, 9):
        scene.tick(leads=True, applied=applied)
    before_it_is_applied = scene.submitted.count(Place())
    scene.commit()
    scene.tick(leads=True, applied=10)

    assert Place() not in as_follower
    assert before_it_is_applied == 1
    assert scene.submitted == [Place()]


def test_a_step_of_placement_that_was_lost_is_asked_for_again():
    scene = joined()
    scene.cluster.apply(add(*numbered(STEP_ASSIGNMENTS_MAX + 1)))
    scene.tick(leads=True, applied=7)
    scene.submitted.clear()

    scene.tick(1.0, leads=True, applied=8)

    assert Place() in scene.submitted


def test_a_leader_with_nothing_to_place_does_not_ask_for_it():
    """An idle log stays idle."""
    scene = joined()
    scene.apply(add("one"))

    for applied in range(10):
        scene.tick(leads=True, applied=applied)

    assert Place() not in scene.submitted


def all_voters_join_at(scene: Scene, protocol: int) -> None:
    for voter in VOTERS[1:]:
        scene.cluster.apply(replace(join(voter.name, nonce=voter.name), protocol=protocol))


def test_the_leader_raises_the_protocol_when_all_can_apply_more(monkeypatch: pytest.MonkeyPatch):
    """It looks when something was applied, and not all the time; a proposal that was lost is made again."""
    monkeypatch.setattr("pydrm.core.protocol.PROTOCOL", 2)
    monkeypatch.setattr("pydrm.agent.lease.PROTOCOL", 2)
    scene = joined()
    scene.tick(leads=True, applied=1)
    all_voters_join_at(scene, 2)

    scene.tick(1.0, applied=2)
    as_follower = list(scene.submitted)
    raises = []
    for after_s, applied in ((0.0, 2), (1.0, 2), (0.1, 3), (0.3, 4), (1.0, 4)):
        scene.tick(after_s, leads=True, applied=applied)
        raises.append(scene.submitted.count(RaiseProtocol(2)))

    assert RaiseProtocol(2) not in as_follower
    assert raises == [1, 1, 2, 2, 3]
    scene.commit()
    assert scene.state.settings is not None
    assert scene.state.settings.protocol == 2
    scene.tick(1.0, leads=True, applied=5)
    assert RaiseProtocol(2) not in scene.submitted


def test_the_leader_does_not_raise_what_somebody_could_not_apply(monkeypatch: pytest.MonkeyPatch):
    """It is not even asked for."""
    monkeypatch.setattr("pydrm.core.protocol.PROTOCOL", 2)
    monkeypatch.setattr("pydrm.agent.lease.PROTOCOL", 2)
    scene = joined()
    all_voters_join_at(scene, 1)

    scene.tick(1.0, leads=True, applied=2)

    assert not any(isinstance(command, RaiseProtocol) for command in scene.submitted)


# --- fencing ---------------------------------------------------------------------------------------------------------


def test_when_the_lease_runs_out_all_sockets_are_cut_on_the_engines_thread(pair: tuple[socket.socket, socket.socket]):
    """The app's loop may be busy; it is told when it has time."""
    ours, theirs = pair
    scene = joined()
    scene.fence.register(7, ours)
    scene.app.busy = True
    scene.wait(1.69)
    ours.send(b"still held")
    held = theirs.recv(100)

    scene.tick(0.02)

    assert held == b"still held"
    assert theirs.recv(100) == b""
    assert scene.told == []
    scene.app.run()
    assert scene.told == [("fenced", "the lease ran out")]


def test_a_lease_that_was_ended_by_the_cluster_is_cut_when_that_is_applied(pair: tuple[socket.socket, socket.socket]):
    """Somebody else may hold it from now on. The node joins anew."""
    ours, theirs = pair
    scene = joined()
    scene.fence.register(7, ours)

    scene.apply(Expire("a", 1, 0))

    assert theirs.recv(100) == b""
    assert not scene.lease.valid(scene.now)
    scene.fence.closed(7)
    scene.live(0.5)
    assert scene.told == [("fenced", "the lease was ended by the cluster"), ("joined", 2)]
    assert scene.clients == [("a", 1), ("a", 2)]
    assert scene.exits == []


def test_a_lease_that_goes_on_is_told():
    """A renewal that was made after the fence came through; the incarnation is the same."""
    scene = joined()
    scene.wait(1.8)

    scene.live(1.0)

    assert scene.told == [("fenced", "the lease ran out"), ("unfenced", None)]
    assert scene.lease.incarnation == 1


def test_a_handle_that_is_gone_in_time_costs_nothing():
    """Half the margin is for that."""
    scene = joined()
    scene.fence.opened(7)
    scene.wait(1.84)
    scene.fence.closed(7)

    scene.wait(5.0)

    assert scene.exits == []


def test_a_handle_that_stays_ends_the_process(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]):
    """Half the margin after its lease, so that it is gone before anybody else may hold it."""
    scene = joined()
    for token in (7, 8, 9):
        scene.fence.opened(token)
    scene.wait(1.71)
    scene.fence.closed(8)
    scene.wait(0.14)
    before = list(scene.exits)

    scene.wait(0.02)

    assert before == []
    assert scene.exits == [EXIT_UNFENCED] == [70]
    assert scene.now < START + LEASE_TTL_MS / 1000
    scene.wait(3.0)
    assert scene.exits == [70]
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.CRITICAL] == [
        "2 handles could not be cut in time (tokens 7, 9): this process exits"
    ]
    assert "this process exits with 70" in capsys.readouterr().err, "an app that has set up no logging is told nothing"


def test_a_handle_that_stays_ends_the_process_through_a_new_incarnation_too():
    """The node has joined again before the time was up; whoever holds it now is not helped by that."""
    scene = joined()
    scene.live(1.0)
    scene.fence.opened(7)
    scene.expire()
    scene.tick(0.01)
    scene.commit()
    scene.tick(0.01)
    assert scene.lease.incarnation == 2
    scene.fence.opened(8)
    scene.live(0.1, step_s=0.01)
    before = list(scene.exits)

    scene.live(0.1, step_s=0.01)

    assert before == []
    assert scene.exits == [70]


def test_being_cut_twice_gives_a_handle_no_more_time():
    """It counts from when its lease ran out, not from when the cluster ended that as well."""
    scene = joined()
    scene.fence.opened(7)
    scene.wait(1.8)
    scene.expire()

    scene.wait(0.07)

    assert scene.exits == [70]


def test_handles_of_the_new_incarnation_are_no_reason_to_exit():
    """Only what was cut has to be gone."""
    scene = joined()
    scene.live(1.0)
    scene.fence.opened(7)
    scene.expire()
    scene.tick(0.01)
    scene.commit()
    scene.fence.closed(7)
    scene.fence.opened(8)

    scene.live(5.0)

    assert scene.exits == []
    assert scene.fence.tokens() == [8]


def test_a_lease_that_goes_on_forgives_a_handle_that_was_not_gone_yet():
    """It is this node's again, under the same token."""
    scene = joined()
    scene.fence.opened(7)
    scene.wait(1.75, up_to_date=False)
    scene.tick(0.01)
    scene.commit()

    scene.live(5.0)

    assert ("unfenced", None) in scene.told
    assert scene.exits == []


def test_with_tokens_as_the_fence_the_process_goes_on(caplog: pytest.LogCaptureFixture):
    """The third party refuses old tokens; it is said once, as an error."""
    scene = joined(on_unfenced="token")
    scene.fence.opened(7)

    scene.wait(5.0)

    assert scene.exits == []
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == [
        "1 handles could not be cut in time (tokens 7): their tokens must fence them"
    ]


def test_another_process_under_this_name_ends_this_one(pair: tuple[socket.socket, socket.socket]):
    """It has joined on the same directory, whose lock this one has lost."""
    ours, theirs = pair
    scene = joined()
    scene.fence.register(7, ours)
    foreign = join("a", nonce="of another process", replaces=1, directory="directory-a")

    outcome = scene.apply(foreign)
    scene.tick(0.5)

    assert outcome.answer == Done(number=2)
    assert theirs.recv(100) == b""
    assert not scene.lease.valid(scene.now)
    (failure,) = scene.failures
    assert isinstance(failure, Superseded)
    assert failure.reason == "superseded"
    assert not [command for command in scene.submitted if isinstance(command, Join | Renew)]


def test_former_processes_of_this_node_end_nobody():
    """Their Joins come by when the log is replayed."""
    scene = Scene()
    scene.apply(join("a", nonce="of a former process", directory="directory-a"))

    scene.live(0.5)

    assert scene.failures == []
    assert scene.lease.incarnation == 2


# --- stopping --------------------------------------------------------------------------------------------------------


class NotedFence(Fence):
    """Notes whether the lease was valid whenever it was asked what is left."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[bool] = []
        self.valid: Callable[[], bool] = lambda: True

    def tokens(self) -> list[int]:
        self.asked.append(self.valid())
        return super().tokens()


def test_a_node_that_stops_ends_its_lease_before_it_looks_what_is_left():
    """Whoever opens something at that moment has told the fence, or sees that the lease is over."""
    fence = NotedFence()
    scene = joined(fence=fence)
    fence.valid = lambda: scene.lease.valid(scene.now)
    scene.live(1.0)
    fence.asked.clear()
    assert fence.valid()

    asyncio.run(scene.warden.stopped())

    assert fence.asked == [False]
    assert not scene.lease.valid(scene.now)
    assert scene.told == []


def test_a_node_that_stops_cuts_what_is_left_and_waits_for_it(pair: tuple[socket.socket, socket.socket]):
    """Its data directory's lock goes next, and then its successor may hold the same."""
    ours, theirs = pair
    scene = joined()
    scene.fence.register(7, ours)

    def gone_soon() -> None:
        if scene.now > START + 0.1:
            scene.fence.closed(7)

    scene.clock.slept = gone_soon

    asyncio.run(scene.warden.stopped())
    scene.app.run()

    assert theirs.recv(100) == b""
    assert scene.told == [("fenced", "the node stops")]
    assert scene.exits == []
    assert START + 0.1 < scene.now < START + 0.15


def test_a_node_that_stops_does_not_leave_a_handle_behind():
    """What cannot be cut in half the margin goes with the process."""
    scene = joined()
    scene.fence.opened(7)

    asyncio.run(scene.warden.stopped())

    assert scene.exits == [70]
    assert scene.now == pytest.approx(START + 0.15, abs=0.02)
