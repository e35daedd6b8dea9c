"""
Random lives of a cluster: whatever is said, late, twice or by the dead, the two promises hold.

After each step the invariants are checked, and nobody holds what another holds (unless overlap or force
was asked for). At the end the world calms down: then everything is held once, and evenly.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pydrm.core import placement
from pydrm.core.answers import Refused
from pydrm.core.commands import (
    AddResources,
    AddVoter,
    Command,
    Drain,
    Expire,
    ForceRelease,
    Join,
    Place,
    RaiseProtocol,
    RemoveResources,
    RemoveVoter,
    Renew,
    Request,
    RequestId,
)
from pydrm.core.handle_commands import Handle, Release
from pydrm.core.invariants import check
from pydrm.core.placement import unfinished
from pydrm.core.records import Condition, Definition, NodeState, Phase
from tests.core.actors import Process, World
from tests.core.build import LEASE_TTL_MS, through_bytes

NODES = "abcd"
IDS = [f"r{number}" for number in range(7)]

nodes = st.sampled_from(NODES)
ids = st.sampled_from(IDS)
definitions = st.builds(
    Definition,
    id=ids,
    kind=st.just("websocket"),
    fields=st.sampled_from([b"one", b"two"]),
    weight=st.sampled_from([1, 1, 1, 2, 5]),
    overlap=st.sampled_from([False, False, False, True]),
)
adds = st.builds(
    AddResources,
    definitions=st.lists(definitions, min_size=1, max_size=5, unique_by=lambda d: d.id).map(tuple),
    if_absent=st.booleans(),
)


class Lives(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.mail: list[Request] = []
        self.limit = placement.STEP_ASSIGNMENTS_MAX

    def teardown(self) -> None:
        try:
            self.calm_down()
        finally:
            placement.STEP_ASSIGNMENTS_MAX = self.limit

    @initialize(
        limit=st.sampled_from([1, 2, 3, 500]),
        first=st.integers(1, len(NODES)),
        eager=st.sets(nodes),
        added=adds,
        more=adds,
    )
    def begin(self, limit: int, first: int, eager: set[str], added: AddResources, more: AddResources) -> None:
        # A small limit, so that seven resources are as many as a million.
        placement.STEP_ASSIGNMENTS_MAX = limit
        self.world.eager = eager
        for node in NODES[:first]:
            self.world.start(node, f"disk-{node}", nonce=f"{node}-1")
        for command in (added, more):
            self.world.apply(Request(command))

    # --- who runs

    def send(self, command: Command, by: Process | None = None, *, now: bool) -> None:
        """Propose: it is applied now, or is in the mail and will be applied later, several times or never."""
        request = Request(command, by.request_id() if by is not None else None)
        if now:
            self.world.apply(request)
        else:
            self.mail.append(request)

    def some_process(self, data: st.DataObject) -> Process:
        return data.draw(st.sampled_from(self.world.running()), label="process")

    someone_runs = precondition(lambda self: bool(self.world.running()))

    @rule(node=nodes)
    def a_process_starts(self, node: str) -> None:
        """On its own directory, if no other process has the lock on that."""
        if all(process.node != node for process in self.world.running()):
            self.world.start(node, f"disk-{node}", nonce=f"{node}-{self.world.state.next_incarnation}")

    @rule(node=nodes)
    def a_process_starts_on_another_host(self, node: str) -> None:
        """While the lease of the former one runs, it may not have its place."""
        number = self.world.state.next_incarnation
        directory = f"disk-{node}-{number}"
        former = self.world.state.nodes.get(node)
        running = former is not None and former.lives

        outcome = self.world.start(node, directory, nonce=f"{node}-{number}")

        assert isinstance(outcome.answer, Refused) == running

    @someone_runs
    @rule(data=st.data())
    def a_process_is_killed(self, data: st.DataObject) -> None:
        self.some_process(data).die()

    @someone_runs
    @rule(data=st.data(), now=st.booleans())
    def a_process_renews(self, data: st.DataObject, now: bool) -> None:
        self.send(self.world.renew(self.some_process(data)), now=now)

    @precondition(lambda self: any(node.lives for node in self.world.state.nodes.values()))
    @rule(data=st.data(), now=st.booleans())
    def a_voter_finds_a_lease_over(self, data: st.DataObject, now: bool) -> None:
        living = [node.name for node in self.world.state.nodes.values() if node.lives]
        self.send(self.world.expire(data.draw(st.sampled_from(living))), now=now)

    @someone_runs
    @rule(data=st.data(), now=st.booleans())
    def a_process_drains(self, data: st.DataObject, now: bool) -> None:
        process = self.some_process(data)
        self.send(Drain(process.node, process.incarnation), process, now=now)

    @someone_runs
    @rule(data=st.data(), now=st.booleans())
    def a_process_resigns(self, data: st.DataObject, now: bool) -> None:
        process = self.some_process(data)
        self.send(self.world.resign(process), process, now=now)

    # --- what they do with handles

    @someone_runs
    @rule(data=st.data())
    def a_process_opens(self, data: st.DataObject) -> None:
        """Any token it was ever given and has not given up: its view may be old."""
        process = self.some_process(data)
        if tokens := self.world.can_open(process):
            token = data.draw(st.sampled_from(tokens), label="token")
            self.world.open(process, [token])

    @someone_runs
    @rule(data=st.data())
    def a_process_opens_all_it_can(self, data: st.DataObject) -> None:
        process = self.some_process(data)
        self.world.open(process, self.world.can_open(process))

    @someone_runs
    @rule(data=st.data())
    def a_handle_breaks_or_its_node_has_not_opened_it_yet(self, data: st.DataObject) -> None:
        process = self.some_process(data)
        if process.open:
            process.open.pop(data.draw(st.sampled_from(list(process.open)), label="token"))

    @someone_runs
    @rule(data=st.data())
    def a_handle_cannot_be_closed(self, data: st.DataObject) -> None:
        process = self.some_process(data)
        if process.open:
            process.stuck.add(data.draw(st.sampled_from(list(process.open)), label="token"))

    @someone_runs
    @rule(data=st.data(), with_id=st.booleans(), now=st.booleans())
    def a_process_closes_what_it_must(self, data: st.DataObject, with_id: bool, now: bool) -> None:
        process = self.some_process(data)
        if tokens := self.world.to_close(process):
            some = data.draw(st.lists(st.sampled_from(tokens), unique=True, min_size=1), label="tokens")
            self.send(self.world.release(process, some), process if with_id else None, now=now)

    @someone_runs
    @rule(data=st.data(), now=st.booleans())
    def a_process_closes_what_would_have_to_be_closed_next(self, data: st.DataObject, now: bool) -> None:
        process = self.some_process(data)
        if tokens := self.world.hopeless(process):
            self.send(self.world.release(process, [data.draw(st.sampled_from(tokens), label="token")]), now=now)

    @someone_runs
    @rule(data=st.data(), condition=st.sampled_from(Condition), now=st.booleans())
    def a_process_reports(self, data: st.DataObject, condition: Condition, now: bool) -> None:
        process = self.some_process(data)
        if process.given:
            tokens = list(process.open) if condition is Condition.OPEN else list(process.given)
            self.send(self.world.report(process, tokens, condition), now=now)

    # --- what operators and the network do

    @rule(command=adds, now=st.booleans())
    def somebody_adds(self, command: AddResources, now: bool) -> None:
        self.send(command, next(iter(self.world.running()), None), now=now)

    @rule(some=st.lists(ids, min_size=1, max_size=4), now=st.booleans())
    def somebody_removes(self, some: list[str], now: bool) -> None:
        self.send(RemoveResources(tuple(some)), next(iter(self.world.running()), None), now=now)

    @rule(id=ids, stale=st.booleans(), now=st.booleans())
    def somebody_uses_force(self, id: str, stale: bool, now: bool) -> None:
        assignment = self.world.state.assignments.get((id, 0))
        if assignment is not None and assignment.holder is not None:
            self.send(ForceRelease(id, 0, assignment.holder.token - stale, "why"), now=now)

    @rule(now=st.booleans())
    def somebody_goes_on_placing(self, now: bool) -> None:
        self.send(Place(), now=now)

    @rule(name=st.sampled_from("efg"), replica=st.integers(0, 2), stale=st.booleans(), now=st.booleans())
    def somebody_changes_the_voters(self, name: str, replica: int, stale: bool, now: bool) -> None:
        """Of those that have no node here: who may join is another rule's business."""
        settings = self.world.settings
        revision = settings.voters_revision - stale
        voter = settings.voter(name)
        if voter is None:
            self.send(AddVoter(name, f"replica-{name}{replica}", f"{name}.example:7000", revision), now=now)
        else:
            self.send(RemoveVoter(name, voter.replica_id, revision), now=now)

    @rule()
    def a_newer_version_is_there_for_processes_that_start(self) -> None:
        self.world.protocol += 1

    @rule(more=st.integers(0, 2), now=st.booleans())
    def somebody_raises_the_protocol(self, more: int, now: bool) -> None:
        """To what new processes have, so that they can join; it is refused while older ones live."""
        to = min(self.world.settings.protocol + more, self.world.protocol)
        self.send(RaiseProtocol(to), now=now)

    @precondition(lambda self: self.mail)
    @rule(data=st.data(), again=st.booleans())
    def a_command_is_delivered(self, data: st.DataObject, again: bool) -> None:
        """In any order; it may stay in the network and come again, whoever has died meanwhile."""
        place = data.draw(st.integers(0, len(self.mail) - 1), label="which")
        request = self.mail[place] if again else self.mail.pop(place)
        self.world.apply(request)

    @precondition(lambda self: self.mail)
    @rule()
    def the_newest_command_is_delivered(self) -> None:
        self.world.apply(self.mail.pop())

    @precondition(lambda self: self.mail)
    @rule(again=st.booleans())
    def all_is_delivered_in_order(self, again: bool) -> None:
        delivered = list(self.mail)
        if not again:
            self.mail.clear()
        for request in delivered:
            self.world.apply(request)
            assert self.world.faults() == []

    @rule(data=st.data(), node=nodes, incarnation=st.integers(0, 12), number=st.integers(0, 99), id=ids)
    def a_stranger_says_something(self, data: st.DataObject, node: str, incarnation: int, number: int, id: str) -> None:
        """Whatever it is, no living node has said it: then it ends nothing and takes nothing."""
        state = self.world.state
        living = state.is_current((node, incarnation))
        assignment = state.assignments.get((id, 0))
        true = assignment is not None and any(
            (claim.node, claim.incarnation, claim.token) == (node, incarnation, number) for claim in assignment.claims()
        )
        strange: list[Command] = [
            Expire(node, incarnation, number + 100),
            Join(node, "stranger", incarnation + 1000, LEASE_TTL_MS),
        ]
        if not true:
            strange.append(Release(node, incarnation, (Handle(id, 0, number),)))
        if not living:
            strange += [Renew(node, incarnation, number, LEASE_TTL_MS), Drain(node, incarnation)]
        command = data.draw(st.sampled_from(strange), label="command")
        before = {key: assignment.claims() for key, assignment in state.assignments.items()}
        settled = not unfinished(state)

        self.world.apply(Request(command))

        if settled:
            assert {key: assignment.claims() for key, assignment in state.assignments.items()} == before

    @rule(command=adds, node=nodes, incarnation=st.integers(0, 12), sequence=st.integers(1, 9))
    def a_request_comes_from_a_dead_incarnation(
        self, command: AddResources, node: str, incarnation: int, sequence: int
    ) -> None:
        if incarnation < self.world.state.next_incarnation and not self.world.state.is_current((node, incarnation)):
            id = RequestId(node, incarnation, sequence, floor=1)
            assert self.world.apply(Request(command, id)).changes == ()

    @rule()
    def a_replica_starts_from_a_picture(self) -> None:
        """It applies from here what the others apply, and must come to the same."""
        self.world.twin = through_bytes(self.world.state)
        assert check(self.world.twin) == []

    # --- what must be true

    @invariant()
    def nobody_holds_what_another_holds(self) -> None:
        assert self.world.faults() == []

    def calm_down(self) -> None:
        """Everybody does what the state asks: then all is held, once, and evenly."""
        # First with handles that cannot be closed: not everything has a holder then, but nothing may go on for ever.
        self.world.settle()
        for process in self.world.running():
            process.stuck.clear()
        self.world.settle()
        alive = {node.name for node in self.world.state.nodes.values() if node.state is NodeState.ALIVE}
        if alive:
            self.all_is_held()
            self.all_is_even(alive)

    def all_is_held(self) -> None:
        for assignment in self.world.state.assignments.values():
            record = self.world.state.records[assignment.resource]
            holder = assignment.holder
            assert assignment.phase is Phase.HELD
            assert holder is not None
            assert (holder.revision, holder.condition) == (record.revision, Condition.OPEN)
            assert assignment.weight == record.definition.weight
            assert assignment.excluded == ()
            assert self.world.process(holder.node, holder.incarnation).open[holder.token] == assignment.resource
        assert sum(len(process.open) for process in self.world.running()) == len(self.world.state.assignments)

    def all_is_even(self, alive: set[str]) -> None:
        load = dict.fromkeys(sorted(alive), 0)
        held = [(a.holder.node, a.weight) for a in self.world.state.assignments.values() if a.holder is not None]
        for node, weight in held:
            load[node] += weight
        assert all(weight >= load[node] - min(load.values()) for node, weight in held), load


TestRandomLives: Any = Lives.TestCase
