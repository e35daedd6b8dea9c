"""
Processes that hold handles, as nodes would: the world that the state machine is there to keep in order.

A `Process` is one incarnation. It keeps the rules that agents keep and uses every freedom they leave: it
opens late, under any token it was ever given; it closes late; what it proposes is delivered late, in any
order, often or never. `World.faults` says in words where somebody holds what another holds too.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from pydrm.core.answers import Answer, Done, Refused
from pydrm.core.commands import (
    AddResources,
    Command,
    Expire,
    ForceRelease,
    Form,
    Join,
    Place,
    RemoveResources,
    Renew,
    Request,
    RequestId,
    Resign,
)
from pydrm.core.handle_commands import Handle, HandleReport, Release, Report
from pydrm.core.invariants import check
from pydrm.core.machine import Outcome, apply
from pydrm.core.placement import unfinished
from pydrm.core.records import Assignment, Condition, Definition, Phase
from pydrm.core.settings import Settings
from pydrm.core.state import State
from tests.core.build import LEASE_TTL_MS, VOTERS

ROUNDS_MAX = 60


@attrs.define(eq=False)
class Process:
    """
    One incarnation of a node.

    Attributes:
        given: Every token it was ever told to open, with its resource.
        open: The handles it has, by token.
        given_up: Tokens for which it has proposed Release: it never opens under these again.
        fenced_at: The renewal whose lease it found to be over; it holds nothing until a newer one is applied.
        stuck: Tokens of handles it cannot close.
        runs: Whether the process exists. A dead one has no handles, whatever the cluster thinks.
    """

    node: str
    incarnation: int
    directory: str
    given: dict[int, str] = attrs.Factory(dict)
    open: dict[int, str] = attrs.Factory(dict)
    given_up: set[int] = attrs.Factory(set)
    stuck: set[int] = attrs.Factory(set)
    fenced_at: int = -1
    count: int = 0
    sequence: int = 0
    leaving: bool = False
    runs: bool = True

    def request_id(self) -> RequestId:
        self.sequence += 1
        return RequestId(self.node, self.incarnation, self.sequence, floor=max(1, self.sequence - 5))

    def fence(self, count: int) -> None:
        """The lease of renewal *count* is over: everything is aborted, whatever else was going on."""
        self.fenced_at = max(self.fenced_at, count)
        self.open.clear()
        self.stuck.clear()

    def die(self) -> None:
        self.runs = False
        self.open.clear()
        self.stuck.clear()


class World:
    def __init__(self) -> None:
        self.state = State()
        self.protocol = 1  # Of the version that is installed when a process starts.
        self.twin: State | None = None  # A replica that began from a picture of the state.
        self.processes: list[Process] = []
        self.eager: set[str] = set()  # Nodes whose processes open at once whatever they may.
        self.answers: dict[RequestId, Answer] = {}
        self.wanted: dict[str, Definition] = {}  # What must be under management, by the answers that were given.
        self.overlapping: set[str] = set()  # Ids that have ever asked for overlap.
        self.forced: set[str] = set()  # Ids that have ever been taken by force.
        self.forgotten: set[str] = set()  # Those of them whose record went, and with it who is excluded.
        self.highest: dict[str, int] = {}  # The highest token that each id has had.
        # One voter, which is always there: the protocol is not raised before every voter has joined.
        self.apply(Request(Form("orders", VOTERS[:1], LEASE_TTL_MS)))

    # --- the log

    def apply(self, request: Request) -> Outcome:
        number, incarnation, before = self.state.next_number, self.state.next_incarnation, self.state.digest
        outcome = apply(self.state, request)
        assert check(self.state) == []
        if self.twin is not None:
            assert apply(self.twin, request) == outcome
            assert (self.twin.digest, check(self.twin)) == (self.state.digest, [])
        assert self.state.next_number >= number
        assert self.state.next_incarnation >= incarnation
        if outcome.changes == ():
            assert self.state.digest == before
        if request.id is None or request.id not in self.answers:
            self._note_wishes(request.command, outcome.answer)
        self._check_repetition(request, outcome)
        self._check_wishes()
        self._tell_processes()
        return outcome

    def _note_wishes(self, command: Command, answer: Answer) -> None:
        if isinstance(answer, Refused):
            return
        match command:
            case AddResources(definitions=definitions, if_absent=if_absent):
                for definition in definitions:
                    if not (if_absent and definition.id in self.wanted):
                        self.wanted[definition.id] = definition
                    if definition.overlap:
                        self.overlapping.add(definition.id)
            case RemoveResources(ids=ids):
                for id in ids:
                    self.wanted.pop(id, None)
                    self.forgotten |= {id} & self.forced
            case ForceRelease(resource=resource):
                self.forced.add(resource)
                self.forgotten |= {resource} - self.wanted.keys()
            case _:
                pass

    def _check_wishes(self) -> None:
        """Every acknowledged add and remove is in the records, at any moment."""
        managed = {}
        for id, record in self.state.records.items():
            removing = self.state.assignments[id, 0].phase is Phase.REMOVING
            if not removing or record.following is not None:
                managed[id] = record.following if removing else record.definition
        assert managed == self.wanted

    def _check_repetition(self, request: Request, outcome: Outcome) -> None:
        if request.id is None:
            return
        if request.id in self.answers:
            assert outcome.changes == (), "a request took effect twice"
            forgotten = isinstance(outcome.answer, Refused) and outcome.answer.reason.value in ("forgotten", "expired")
            assert forgotten or outcome.answer == self.answers[request.id]
        else:
            self.answers[request.id] = outcome.answer

    def _tell_processes(self) -> None:
        """What an applied entry means at once: the dead are dead, and claims are news to those who have them."""
        for process in self.processes:
            if process.runs and not self.state.is_current((process.node, process.incarnation)):
                # The lease rule: by the time this is applied its lease is over, so it has fenced itself.
                assert not process.open, f"{process.node} {process.incarnation} ended with {process.open} open"
                process.die()
        for assignment in self.state.assignments.values():
            for claim in assignment.claims():
                process = self.process(claim.node, claim.incarnation)
                if claim.token not in process.given:
                    self._give(process, claim.token, assignment.resource)
            self.highest[assignment.resource] = max(
                [self.highest.get(assignment.resource, 0), *(claim.token for claim in assignment.claims())]
            )
        for process in self.running():
            if process.node in self.eager:
                self.open(process, self.can_open(process))

    def _give(self, process: Process, token: int, resource: str) -> None:
        highest = self.highest.get(resource, 0)
        assert token > highest, f"{resource} got {token} after {highest}"
        if resource not in self.overlapping | self.forgotten:
            assert resource not in process.open.values(), f"{process.node} gets {resource} and has it open still"
        process.given[token] = resource

    # --- processes

    @property
    def settings(self) -> Settings:
        assert self.state.settings is not None
        return self.state.settings

    def process(self, node: str, incarnation: int) -> Process:
        return next(p for p in self.processes if (p.node, p.incarnation) == (node, incarnation))

    def running(self) -> list[Process]:
        return [process for process in self.processes if process.runs]

    def start(self, node: str, directory: str, *, nonce: str) -> Outcome:
        """A process of that name starts and joins; on the directory's lock, so no other runs on it."""
        assert all(p.directory != directory for p in self.running())
        old = self.state.nodes.get(node)
        replaces = old.incarnation if old else 0
        number = self.state.next_incarnation
        self.processes.append(Process(node, number, directory))
        command = Join(node, nonce, replaces, LEASE_TTL_MS, directory, protocol=self.protocol)
        outcome = self.apply(Request(command))
        if outcome.answer != Done(number=number):
            self.processes.pop()
        return outcome

    def lease_holds(self, process: Process) -> bool:
        node = self.state.nodes[process.node]
        return process.runs and not process.leaving and node.count > process.fenced_at

    def can_open(self, process: Process) -> list[int]:
        """Every token it could open if it knew nothing newer: far more than it should."""
        if not self.lease_holds(process):
            return []
        return [token for token in process.given if token not in process.given_up and token not in process.open]

    def open(self, process: Process, tokens: Iterable[int]) -> None:
        process.open.update({token: process.given[token] for token in tokens})

    def to_close(self, process: Process) -> list[int]:
        """Tokens whose release the state asks for."""
        tokens = []
        for key in self.state.held_by(process.node, process.incarnation):
            assignment = self.state.assignments[key]
            if assignment.phase in (Phase.RELEASING, Phase.REMOVING) and assignment.holder is not None:
                tokens.append(assignment.holder.token)
            tokens += [claim.token for claim in assignment.excluded]
        return [token for token in dict.fromkeys(tokens) if token in process.given]

    def release(self, process: Process, tokens: Iterable[int]) -> Release:
        """Close these handles, then say so; never before, and never open them again."""
        closed = [token for token in tokens if token not in process.stuck]
        for token in closed:
            process.open.pop(token, None)
            process.given_up.add(token)
        handles = tuple(Handle(process.given[token], 0, token) for token in closed)
        return Release(process.node, process.incarnation, handles)

    def hopeless(self, process: Process) -> list[int]:
        """With overlap: tokens that it was to open beside the holder and that will be released before they count."""
        tokens = []
        for key in self.state.held_by(process.node, process.incarnation):
            assignment = self.state.assignments[key]
            target = assignment.target
            if target is None or (target.node, target.incarnation) != (process.node, process.incarnation):
                continue
            outdated = target.revision != self.state.records[key[0]].revision
            if assignment.phase is Phase.REMOVING or (assignment.phase is Phase.RELEASING and outdated):
                tokens.append(target.token)
        return tokens

    def report(self, process: Process, tokens: Iterable[int], condition: Condition = Condition.OPEN) -> Report:
        reports = tuple(HandleReport(process.given[token], 0, token, condition) for token in tokens)
        return Report(process.node, process.incarnation, reports)

    def renew(self, process: Process) -> Renew:
        process.count += 1
        return Renew(process.node, process.incarnation, process.count, LEASE_TTL_MS)

    def expire(self, node: str) -> Expire:
        """A voter saw no renewal for a whole ttl; the node itself stopped a margin before that."""
        record = self.state.nodes[node]
        process = self.process(node, record.incarnation)
        process.fence(record.count)
        return Expire(node, record.incarnation, record.count)

    def resign(self, process: Process) -> Command:
        """Everything is closed and nothing is opened again; only then the lease is given back."""
        process.leaving = True
        process.open.clear()
        process.stuck.clear()
        return Resign(process.node, process.incarnation)

    # --- judging

    def faults(self) -> list[str]:
        """Ids that are held twice at this moment though nobody had asked for that."""
        holders: dict[str, list[str]] = {}
        for process in self.running():
            for token, resource in process.open.items():
                holders.setdefault(resource, []).append(f"{process.node}/{process.incarnation} under {token}")
        return [
            f"{resource} is held by {' and by '.join(who)}"
            for resource, who in holders.items()
            if len(who) > 1 and resource not in self.overlapping | self.forced
        ]

    def settle(self) -> None:
        """Everybody does what the state asks, at once and as well as it can; it must come to an end."""
        self.eager.clear()
        for _ in range(ROUNDS_MAX):
            if not self._one_round():
                return
        raise AssertionError(f"still moving after {ROUNDS_MAX} rounds: {self._under_way()}")

    def _one_round(self) -> bool:
        before = self.state.digest
        for node in list(self.state.nodes.values()):
            if node.lives and not self.lease_holds(self.process(node.name, node.incarnation)):
                self.apply(Request(self.expire(node.name)))
        for process in self.running():
            self.apply(Request(self.release(process, self.to_close(process))))
            for token in [*process.open]:
                if token not in self._wanted(process) and token not in process.stuck:
                    del process.open[token]
            self.open(process, [token for token in self._wanted(process) if token not in process.given_up])
            self.apply(Request(self.report(process, process.open)))
            assert self.faults() == []
        if unfinished(self.state):
            assert self.apply(Request(Place())).changes
        return self.state.digest != before

    def _wanted(self, process: Process) -> list[int]:
        """What a node that knows the newest state has open."""
        if not self.lease_holds(process):
            return []
        tokens = []
        for key in self.state.held_by(process.node, process.incarnation):
            assignment = self.state.assignments[key]
            revision = self.state.records[key[0]].revision
            for claim in (assignment.holder, assignment.target):
                if claim is None or (claim.node, claim.incarnation) != (process.node, process.incarnation):
                    continue
                may_open = assignment.phase in (Phase.HELD, Phase.OPENING) and claim.revision == revision
                if may_open or claim.token in process.open:
                    tokens.append(claim.token)
        return tokens

    def _under_way(self) -> list[Assignment]:
        return [a for a in self.state.assignments.values() if a.phase is not Phase.HELD]
