"""
Builders for the tests of `core`: a cluster that a test can speak about in sentences.

`Cluster` sends the commands that nodes would send, with the incarnations, tokens and counts that the
state shows at that moment. Functions such as `renew` build single commands, with whatever in them.
After each command the invariants are checked, so no test needs to say so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import msgspec

from pydrm.core.answers import Answer, Done, Reason, Refused
from pydrm.core.budget_commands import (
    EndHoldback,
    EndHour,
    HoldBack,
    Return,
    ReturnPermits,
    SetBudget,
    Take,
    TakePermits,
)
from pydrm.core.budget_records import Budget
from pydrm.core.changes import AssignmentChanged
from pydrm.core.commands import (
    AddResources,
    Command,
    Drain,
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
from pydrm.core.handle_commands import (
    Failure,
    GiveUp,
    Handle,
    HandleReport,
    RaiseWatermark,
    Release,
    Report,
    Save,
    SaveCheckpoints,
)
from pydrm.core.invariants import check
from pydrm.core.machine import Outcome, apply
from pydrm.core.picture import SECTION_TYPES, Head, Section, take
from pydrm.core.placement import unfinished
from pydrm.core.records import Assignment, Condition, Definition, Holder, Phase, Record
from pydrm.core.restoring import Restoring
from pydrm.core.settings import Voter
from pydrm.core.state import State

VOTERS = tuple(Voter(name, f"replica-{name}", f"{name}.example:7000") for name in "abcdef")
LEASE_TTL_MS = 2000


class Cluster:
    """A state, the commands that happen to it, and what one may want to know of it."""

    def __init__(self, *, checked: bool = True) -> None:
        self.state = State()
        self.checked = checked

    def apply(self, command: Command, id: RequestId | None = None) -> Outcome:
        outcome = apply(self.state, Request(command, id))
        if self.checked:
            assert check(self.state) == []
        return outcome

    def do(self, command: Command, id: RequestId | None = None) -> Answer:
        return self.apply(command, id).answer

    # --- what nodes do

    def join(self, *names: str) -> Outcome:
        """New processes under these names, on data directories that nobody had before; the last one's outcome."""
        for name in names:
            number = self.state.next_incarnation
            outcome = self.apply(join(name, nonce=f"boot-{number}", replaces=self.incarnation(name)))
        return outcome

    def restart(self, name: str) -> Outcome:
        """A new process in place of one that may still have a lease, on the same data directory."""
        node = self.state.nodes[name]
        nonce = f"boot-{self.state.next_incarnation}"
        return self.apply(join(name, nonce=nonce, replaces=node.incarnation, directory=node.directory))

    def renew(self, name: str) -> Outcome:
        node = self.state.nodes[name]
        return self.apply(renew(name, incarnation=node.incarnation, count=node.count + 1))

    def expire(self, name: str) -> Outcome:
        node = self.state.nodes[name]
        return self.apply(Expire(name, node.incarnation, node.count))

    def drain(self, name: str) -> Outcome:
        return self.apply(Drain(name, self.incarnation(name)))

    def resign(self, name: str) -> Outcome:
        return self.apply(Resign(name, self.incarnation(name)))

    def release(self, *resources: str) -> Outcome:
        """The holder of each says that its handle is gone; the last holder's outcome."""
        handles = defaultdict(list)
        for resource in resources:
            claim = self.claim(resource)
            handles[claim.node, claim.incarnation].append(Handle(resource, 0, claim.token))
        for (node, incarnation), named in handles.items():
            outcome = self.apply(Release(node, incarnation, tuple(named)))
        return outcome

    def release_target(self, resource: str) -> Outcome:
        target = self.target(resource)
        return self.apply(Release(target.node, target.incarnation, (Handle(resource, 0, target.token),)))

    def open_target(self, resource: str) -> Outcome:
        """With overlap: the one that is to take over says that it has it open."""
        target = self.target(resource)
        opened = HandleReport(resource, 0, target.token, Condition.OPEN)
        return self.apply(Report(target.node, target.incarnation, (opened,)))

    def force(self, resource: str, reason: str = "it is stuck") -> Outcome:
        return self.apply(ForceRelease(resource, 0, self.claim(resource).token, reason))

    def give_up(self, resource: str, reason: str = "refused", quarantine_ms: int = 60_000) -> Outcome:
        """The holder says that it cannot open it."""
        claim = self.claim(resource)
        return self.apply(
            GiveUp(claim.node, claim.incarnation, (Failure(resource, 0, claim.token, reason),), quarantine_ms)
        )

    def save(self, resource: str, value: bytes, claim: Holder | None = None) -> Answer:
        """The holder, or who has *claim*, saves a checkpoint."""
        claim = claim or self.claim(resource)
        return self.do(SaveCheckpoints(claim.node, claim.incarnation, (Save(resource, 0, claim.token, value),)))

    def raise_watermark(self, node: str, until_us: int, incarnation: int | None = None) -> Answer:
        """*node* says that it may act for whatever it holds, as far as it is due by then."""
        return self.do(RaiseWatermark(node, incarnation or self.incarnation(node), until_us))

    def watermark(self, resource: str) -> int:
        """What the next holder would be given with the checkpoint."""
        return self.state.checkpoints[resource, 0].watermark_us

    def saved(self, resource: str) -> bytes | None:
        """The checkpoint that the next holder would be given."""
        checkpoint = self.state.checkpoints.get((resource, 0))
        return checkpoint.value if checkpoint is not None else None

    def limit(self, group: str, **limits: float) -> Answer:
        return self.do(SetBudget(group, **limits))

    def take(self, *resources: str, group: str = "g", claim: Holder | None = None, opened: bool = False) -> list[str]:
        """The holder of each, or who has *claim*, asks for a permit; those that get it."""
        got = []
        for resource in resources:
            who = claim or self.claim(resource)
            takes = (Take(resource, 0, who.token, group, opened),)
            answer = self.do(TakePermits(who.node, who.incarnation, takes))
            if isinstance(answer, Done) and not answer.missing:
                got.append(resource)
        return got

    def give_back(self, resource: str) -> Answer:
        claim = self.claim(resource)
        return self.do(
            ReturnPermits(claim.node, claim.incarnation, (Return(resource, 0, claim.token, claim.permitted),))
        )

    def hold_back(self, group: str, duration_ms: int, *, node: str = "a") -> Answer:
        return self.do(HoldBack(node, self.incarnation(node), group, duration_ms, "429"))

    def end_holdback(self, group: str, number: int) -> Answer:
        return self.do(EndHoldback(group, number))

    def end_hour(self, group: str) -> Answer:
        return self.do(EndHour(group, self.state.budgets[group].hour))

    def budget(self, group: str = "g") -> Budget:
        return self.state.budgets.get(group) or Budget(group)

    def permits(self, group: str = "g") -> int:
        return self.state.index.permits.get(group, 0)

    def settle(self) -> list[str]:
        """Let nodes open and close and placement go on until nothing is under way; which resources changed hands."""
        moved = []
        for _ in range(100):
            if unfinished(self.state):
                self.apply(Place())
            opening = [a.resource for a in self.state.assignments.values() if a.phase is Phase.OPENING]
            closing = [
                a.resource for a in self.state.assignments.values() if a.phase in (Phase.RELEASING, Phase.REMOVING)
            ]
            if not opening and not closing and not unfinished(self.state):
                return moved
            for resource in opening:
                self.open_target(resource)
            if closing:
                self.release(*closing)
                moved += closing
        raise AssertionError(f"still moving after 100 rounds: {sorted(set(moved))}")

    # --- what one may want to know

    @property
    def digest(self) -> int:
        return self.state.digest

    def incarnation(self, name: str) -> int:
        node = self.state.nodes.get(name)
        return node.incarnation if node else 0

    def record(self, resource: str) -> Record:
        return self.state.records[resource]

    def assignment(self, resource: str) -> Assignment:
        return self.state.assignments[resource, 0]

    def phase(self, resource: str) -> Phase:
        return self.assignment(resource).phase

    def claim(self, resource: str) -> Holder:
        holder = self.assignment(resource).holder
        assert holder is not None, f"nobody holds {resource}"
        return holder

    def target(self, resource: str) -> Holder:
        target = self.assignment(resource).target
        assert target is not None, f"nobody is to take over {resource}"
        return target

    def holder(self, resource: str) -> str:
        return self.claim(resource).node

    def token(self, resource: str) -> int:
        return self.claim(resource).token

    def held(self) -> dict[str, str]:
        """Who holds what is held, by resource."""
        return {name: a.holder.node for (name, _), a in self.state.assignments.items() if a.holder is not None}

    def loads(self) -> dict[str, int]:
        """The weight on each node that is alive."""
        return {name: self.state.index.load.get(name, 0) for name, node in self.state.nodes.items() if node.lives}

    def counts(self) -> list[int]:
        """How much each node has, most first."""
        return sorted(self.loads().values(), reverse=True)


def cluster(*names: str, resources: Iterable[str] = (), checked: bool = True, **definition: object) -> Cluster:
    """A formed cluster in which *names* have joined in this order (incarnation 1, 2, ...) and hold *resources*."""
    built = Cluster(checked=checked)
    built.apply(Form("orders", VOTERS, LEASE_TTL_MS))
    for number, name in enumerate(names, start=1):
        built.apply(join(name, nonce=f"boot-{number}", directory=f"disk-{name}"))
    if resources:
        built.apply(add(*resources, **definition))
    return built


def numbered(count: int, prefix: str = "r") -> list[str]:
    """r0000, r0001, ..."""
    return [f"{prefix}{number:04}" for number in range(count)]


def define(id: str, url: str = "", *, weight: int = 1, overlap: bool = False, group: str = "") -> Definition:
    return Definition(id, "websocket", url.encode(), weight, overlap, group=group)


def add(*ids: str, if_absent: bool = False, **definition: object) -> AddResources:
    return AddResources(tuple(define(id, **definition) for id in ids), if_absent)


def remove(*ids: str) -> RemoveResources:
    return RemoveResources(ids)


def join(
    name: str,
    *,
    nonce: str = "boot",
    replaces: int = 0,
    directory: str = "",
    lease_ttl_ms: int = LEASE_TTL_MS,
) -> Join:
    return Join(name, nonce, replaces, lease_ttl_ms, directory, address=f"{name}.example:7000")


def renew(name: str, *, incarnation: int = 1, count: int = 1, ttl_ms: int = LEASE_TTL_MS) -> Renew:
    return Renew(name, incarnation, count, ttl_ms)


def release(node: str, incarnation: int, *handles: tuple[str, int]) -> Release:
    return Release(node, incarnation, tuple(Handle(resource, 0, token) for resource, token in handles))


def changed_by(outcome: Outcome) -> list[str]:
    """The resources whose assignments an outcome changed, in order, once each."""
    return list(dict.fromkeys(c.assignment.resource for c in outcome.changes if isinstance(c, AssignmentChanged)))


def refused(outcome: Outcome) -> Reason | None:
    """Why it was refused, or None; what is refused must have changed nothing."""
    if isinstance(outcome.answer, Refused):
        assert outcome.changes == ()
        return outcome.answer.reason
    return None


def begun(house: Cluster) -> list[str]:
    """What is on its way from one holder to another."""
    under_way = (Phase.RELEASING, Phase.OPENING)
    return [a.resource for a in house.state.assignments.values() if a.phase in under_way]


def opening_at_b() -> Cluster:
    """r2 is being moved from a to b, with overlap: b is to open it while a keeps it."""
    house = cluster("a", resources=["r1", "r2"], overlap=True)
    house.join("b")
    assert house.phase("r2") is Phase.OPENING
    assert (house.holder("r2"), house.target("r2").node) == ("a", "b")
    return house


def through_bytes(state: State) -> State:
    """A state made of a picture of *state*, as a file would have it."""
    picture = take(state)
    restoring = Restoring(msgspec.msgpack.decode(msgspec.msgpack.encode(picture.head), type=Head))
    for section in Section:
        for chunk in picture.chunks(section):
            written = msgspec.msgpack.encode(chunk)
            restoring.add(section, msgspec.msgpack.decode(written, type=list[SECTION_TYPES[section]]))  # type: ignore[misc]
    for _ in restoring.finish():
        pass
    return restoring.state
