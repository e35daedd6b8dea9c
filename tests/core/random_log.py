"""
Long random logs, each made by one seed, for tests that compare replicas.

Run as a program it is one replica of its own: it reads a pickled log and prints the state's digest after
each request, and at the end the ids of the resources in the order in which the table gives them.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from pydrm.core import placement
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
from pydrm.core.commands import (
    AddResources,
    AddVoter,
    Command,
    Drain,
    EndQuarantine,
    Expire,
    ForceRelease,
    Form,
    Join,
    PauseResources,
    Place,
    RaiseProtocol,
    RemoveResources,
    RemoveVoter,
    Renew,
    Request,
    RequestId,
    Resign,
    ResumeResources,
)
from pydrm.core.events import Delivery, DeliveryState
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
from pydrm.core.ledger_commands import (
    Claim,
    ClaimDeliveries,
    ForgetPublished,
    Publish,
    Publisher,
    ReplayDeliveries,
    SettleDeliveries,
    Settlement,
    Verdict,
)
from pydrm.core.machine import Outcome, apply
from pydrm.core.records import Condition, Definition, Node, Role
from pydrm.core.settings import Settings
from pydrm.core.state import State
from tests.core.build import LEASE_TTL_MS, VOTERS

IDS = [f"resource-{number}" for number in range(80)]
SOURCES = ["feed-1", "feed-2", "feed-3"]
GROUPS = ["", "", "api.example.com", "feed.example.com"]
STEP_MAX = 7  # So small that steps often stop in the middle of something.


class RandomLog:
    """What nodes and operators might say to *state*, most of it sensible, some of it out of date or repeated."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.state = State()
        self.sequence = 0
        self.said: list[Request] = []

    def go_on(self, times: int) -> Iterator[tuple[Request, Outcome]]:
        """So many requests, each made for the state as it is then, and applied to it."""
        for _ in range(times):
            request = self._next()
            yield request, apply(self.state, request)

    def _next(self) -> Request:
        if self.state.settings is None:
            return Request(Form("orders", VOTERS, LEASE_TTL_MS))
        if self.said and self.random.random() < 0.08:
            return self.random.choice(self.said[-200:])
        makers: list[tuple[int, Callable[[], Command]]] = [
            (6, self._join),
            (8, self._renew),
            (3, self._expire),
            (1, self._drain),
            (1, self._resign),
            (14, self._add),
            (4, self._remove),
            (2, self._add_source),
            (1, self._remove_source),
            (30, self._release),
            (15, self._report),
            (2, self._force),
            (8, Place),
            (1, self._add_voter),
            (1, self._remove_voter),
            (4, self._raise_protocol),
            (1, self._pause),
            (2, self._resume),
            (3, self._give_up),
            (2, self._end_quarantine),
            (6, self._save),
            (4, self._raise_watermark),
            (12, self._publish),
            (14, self._claim),
            (12, self._settle_some),
            (2, self._replay),
            (1, self._forget),
            (2, self._set_budget),
            (10, self._take),
            (3, self._return),
            (2, self._hold_back),
            (3, self._end_holdback),
            (2, self._end_hour),
        ]
        make = self.random.choices([maker for _, maker in makers], [weight for weight, _ in makers])[0]
        request = Request(make(), self._request_id() if self.random.random() < 0.5 else None)
        self.said.append(request)
        return request

    def _node(self) -> Node | None:
        nodes = [node for _, node in sorted(self.state.nodes.items())]
        living = [node for node in nodes if node.lives]
        some = living if living and self.random.random() < 0.9 else nodes
        return self.random.choice(some) if some else None

    def _request_id(self) -> RequestId | None:
        node = self._node()
        if node is None:
            return None
        self.sequence += 1
        sequence = self.sequence - (self.random.randrange(5) if self.random.random() < 0.1 else 0)
        return RequestId(node.name, node.incarnation, sequence, floor=max(1, self.sequence - 20))

    def _join(self) -> Command:
        name = self.random.choice("abcdef")
        old = self.state.nodes.get(name)
        directory = self.random.choice([f"disk-{name}", "elsewhere", ""])
        replaces = old.incarnation if old else 0
        nonce = f"nonce-{self.random.randrange(10**9)}"
        protocol = self._settings().protocol + self.random.choice([-1, 0, 0, 0, 1, 1])
        voter = self._settings().voter(name) is not None
        role = Role.VOTER if voter != (self.random.random() < 0.05) else Role.WORKER
        return Join(name, nonce, replaces, LEASE_TTL_MS, directory, protocol=protocol, role=role)

    def _settings(self) -> Settings:
        assert self.state.settings is not None
        return self.state.settings

    def _add_voter(self) -> Command:
        name = self.random.choice("abcdef")
        revision = self._settings().voters_revision - (self.random.random() < 0.1)
        return AddVoter(name, f"replica-{self.random.randrange(10**9)}", f"{name}.example:7000", revision)

    def _remove_voter(self) -> Command:
        voter = self.random.choice(self._settings().voters)
        return RemoveVoter(voter.name, voter.replica_id, self._settings().voters_revision)

    def _raise_protocol(self) -> Command:
        return RaiseProtocol(self._settings().protocol + self.random.choice([0, 1, 1, 1, 2]))

    def _renew(self) -> Command:
        node = self._node()
        if node is None:
            return Renew("a", 0, 1, LEASE_TTL_MS)
        return Renew(node.name, node.incarnation, node.count + self.random.choice([0, 1, 1, 2]), LEASE_TTL_MS)

    def _expire(self) -> Command:
        node = self._node()
        return Expire(node.name, node.incarnation, node.count) if node else Expire("a", 0, 0)

    def _drain(self) -> Command:
        node = self._node()
        return Drain(node.name, node.incarnation) if node else Drain("a", 0)

    def _resign(self) -> Command:
        node = self._node()
        return Resign(node.name, node.incarnation) if node else Resign("a", 0)

    def _add(self) -> Command:
        ids = self.random.sample(IDS, self.random.choice([1, 1, 2, 5, 30]))
        definitions = (
            Definition(
                id,
                self.random.choice(["websocket", "poll"]),
                self.random.choice([b"one", b"two"]),
                weight=self.random.choice([1, 1, 1, 2, 7]),
                overlap=self.random.random() < 0.25,
                topics=self.random.choice([(), ("a.b",), ("a.*",), ("#.b", "a.b"), ("#",)]),
                group=self.random.choice(GROUPS),
            )
            for id in ids
        )
        return AddResources(tuple(definitions), if_absent=self.random.random() < 0.2, source=self._source())

    def _remove(self) -> Command:
        return RemoveResources(tuple(self.random.choices(IDS, k=self.random.choice([1, 1, 3]))), self._source())

    def _add_source(self) -> Command:
        kind = self.random.choice(["source.http"] * 5 + ["websocket"])
        return AddResources((Definition(self.random.choice(SOURCES), kind, self.random.choice([b"", b"", b"new"])),))

    def _remove_source(self) -> Command:
        return RemoveResources((self.random.choice(SOURCES),))

    def _source(self) -> Handle | None:
        """In whose name something is said: the app's, or that of a source that is held now, or was."""
        source = self.random.choice(SOURCES)
        assignment = self.state.assignments.get((source, 0))
        holder = assignment.holder if assignment is not None else None
        if holder is None or self.random.random() < 0.6:
            return None
        return Handle(source, 0, holder.token - (self.random.random() < 0.1))

    def _claims(self, node: Node) -> list[Handle]:
        assignments = [self.state.assignments[key] for key in self.state.held_by(node.name, node.incarnation)]
        last = self.random.choice([b"", b"", b"last"])
        return [Handle(a.resource, a.slot, claim.token, last) for a in assignments for claim in a.claims()]

    def _release(self) -> Command:
        node = self._node()
        if node is None:
            return Place()
        claims = self._claims(node)
        some = self.random.sample(claims, self.random.randint(0, len(claims)))
        return Release(node.name, node.incarnation, tuple(some))

    def _report(self) -> Command:
        node = self._node()
        if node is None:
            return Place()
        claims = self._claims(node)
        some = self.random.sample(claims, self.random.randint(0, len(claims)))
        condition = self.random.choice([Condition.OPEN, Condition.OPEN, Condition.RETRYING, Condition.STUCK])
        next_try_ms = self.random.choice([0, 0, 1_000])
        proven = self.random.random() < 0.2
        reports = (
            HandleReport(claim.resource, claim.slot, claim.token, condition, "", next_try_ms, proven) for claim in some
        )
        return Report(node.name, node.incarnation, tuple(reports))

    def _save(self) -> Command:
        node = self._node()
        if node is None:
            return Place()
        claims = self._claims(node)
        some = self.random.sample(claims, self.random.randint(0, min(len(claims), 5)))
        value = self.random.choice([b"", b"one", b"two"])
        saves = tuple(Save(claim.resource, claim.slot, claim.token, value) for claim in some)
        return SaveCheckpoints(node.name, node.incarnation, saves)

    def _raise_watermark(self) -> Command:
        node = self._node()
        if node is None:
            return Place()
        return RaiseWatermark(node.name, node.incarnation, self.random.randrange(1, 1000))

    def _publish(self) -> Command:
        id = f"event-{self.random.randrange(400)}"
        by = None
        if self.random.random() < 0.2:
            held = sorted((key, a.holder.token) for key, a in self.state.assignments.items() if a.holder is not None)
            if held:
                (name, slot), token = self.random.choice(held)
                by = Publisher(name, slot, token - (self.random.random() < 0.2))
        topic = self.random.choice(["a", "b", "a.b", "a.c", "c.b", "a.b.c"])
        return Publish(id, topic, self.random.randbytes(3), "text/plain", self.random.random() < 0.7, by)

    def _some_deliveries(self) -> list[Delivery]:
        deliveries = self.state.ledger.deliveries()
        return self.random.sample(deliveries, min(len(deliveries), self.random.choice([1, 3, 20])))

    def _claim(self) -> Command:
        node = self._node()
        if node is None:
            return Place()
        tokens = {claim.resource: claim.token for claim in self._claims(node)}
        claims = [
            Claim(
                delivery.resource,
                0,
                tokens.get(delivery.resource, delivery.token),
                delivery.event,
                delivery.attempt + self.random.choice([1, 1, 1, 1, 0]),
                self.random.random() < 0.3,
            )
            for delivery in self._some_deliveries()
        ]
        return ClaimDeliveries(node.name, node.incarnation, tuple(claims))

    def _settle_some(self) -> Command:
        claimed = [d for d in self.state.ledger.deliveries() if d.state is DeliveryState.CLAIMED]
        if not claimed:
            return Place()
        one = self.random.choice(claimed)
        some = [d for d in claimed if (d.node, d.incarnation) == (one.node, one.incarnation)]
        settlements = [
            Settlement(
                d.resource,
                d.token,
                d.event,
                d.attempt,
                self.random.choice([Verdict.DELIVERED, Verdict.DELIVERED, Verdict.AGAIN, Verdict.DEAD]),
                self.random.choice([0, 5000]),
                "why",
            )
            for d in self.random.sample(some, self.random.randint(1, len(some)))
        ]
        return SettleDeliveries(one.node, one.incarnation, tuple(settlements))

    def _replay(self) -> Command:
        dead = list(self.state.ledger.dead.values())
        return ReplayDeliveries(tuple(self.random.sample(dead, min(len(dead), 3))))

    def _forget(self) -> Command:
        return ForgetPublished(max(0, self.state.next_number - self.random.choice([0, 200, 2000])))

    def _pause(self) -> Command:
        return PauseResources(tuple(self.random.choices(IDS, k=self.random.choice([1, 1, 3]))), "why")

    def _resume(self) -> Command:
        return ResumeResources(tuple(self.random.choices(IDS, k=self.random.choice([1, 3, 9]))))

    def _give_up(self) -> Command:
        node = self._node()
        claims = self._claims(node) if node is not None else []
        if node is None or not claims:
            return Place()
        some = self.random.sample(claims, self.random.randint(1, min(len(claims), 3)))
        failures = tuple(Failure(claim.resource, claim.slot, claim.token, "refused") for claim in some)
        return GiveUp(node.name, node.incarnation, failures, 60_000)

    def _end_quarantine(self) -> Command:
        if not self.state.quarantined:
            return Place()
        resource, number = self.random.choice(sorted(self.state.quarantined.items()))
        return EndQuarantine(resource, number - (self.random.random() < 0.1))

    def _set_budget(self) -> Command:
        connections, sessions = self.random.choice([0, 1, 3, 8]), self.random.choice([0, 0, 5])
        return SetBudget(self.random.choice(GROUPS), self.random.choice([0.0, 2.5]), connections, 0.0, sessions)

    def _take(self) -> Command:
        node = self._node()
        if node is None:
            return Place()
        claims = self._claims(node)
        some = self.random.sample(claims, self.random.randint(0, len(claims)))
        takes = (Take(c.resource, c.slot, c.token, self._group(c.resource), self.random.random() < 0.1) for c in some)
        return TakePermits(node.name, node.incarnation, tuple(takes))

    def _group(self, resource: str) -> str:
        group = self.state.records[resource].definition.group
        return group if self.random.random() < 0.9 else self.random.choice(GROUPS)

    def _return(self) -> Command:
        node = self._node()
        if node is None:
            return Place()
        assignments = [self.state.assignments[key] for key in self.state.held_by(node.name, node.incarnation)]
        late = self.random.random() < 0.1
        there = [
            Return(a.resource, 0, claim.token, claim.permitted - late) for a in assignments for claim in a.claims()
        ]
        return ReturnPermits(node.name, node.incarnation, tuple(self.random.sample(there, len(there) // 2)))

    def _hold_back(self) -> Command:
        node = self._node()
        if node is None:
            return Place()
        duration_ms = self.random.choice([0, 1, 1_000, 5_000, 60_000])
        return HoldBack(node.name, node.incarnation, self.random.choice(GROUPS), duration_ms, "429")

    def _end_holdback(self) -> Command:
        there = [(g, h.number) for g, budget in sorted(self.state.budgets.items()) for h in budget.holdbacks]
        if not there:
            return EndHoldback("api.example.com", 1)
        return EndHoldback(*self.random.choice(there))

    def _end_hour(self) -> Command:
        hours = [(group, budget.hour) for group, budget in sorted(self.state.budgets.items()) if budget.hour]
        return EndHour(*self.random.choice(hours)) if hours else EndHour("api.example.com", 1)

    def _force(self) -> Command:
        held = sorted((key, a.holder.token) for key, a in self.state.assignments.items() if a.holder is not None)
        if not held:
            return Place()
        (id, slot), token = self.random.choice(held)
        return ForceRelease(id, slot, token, "why")


def main(path: str) -> None:
    placement.STEP_ASSIGNMENTS_MAX = STEP_MAX
    state = State()
    for request in pickle.loads(Path(path).read_bytes()):
        apply(state, request)
        sys.stdout.write(f"{state.digest:032x}\n")
    sys.stdout.write(" ".join(state.records))


if __name__ == "__main__":
    main(sys.argv[1])
