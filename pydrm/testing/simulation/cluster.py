"""
`SimulatedCluster`: whole nodes under faults, and the verdict.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Self

from pydrm.core.records import ParkedCause
from pydrm.manager import ResourceManager
from pydrm.testing.simulation.host import SimHost
from pydrm.testing.simulation.machines import Machines
from pydrm.testing.simulation.node import SimulatedNode, Version
from pydrm.testing.simulation.publishing import Publishing
from pydrm.testing.simulation.sourcing import Sourcing
from pydrm.testing.simulation.surroundings import Surroundings

__all__ = ["SimulatedCluster", "SimulatedNode", "Version"]

_LOOK_S = 0.05
_REST_S = 1.0
_VOTES_AGAIN_S = 3.0


class SimulatedCluster(Machines, Surroundings, Sourcing, Publishing):
    """
    Some nodes, a third party, and one seed for all that chance decides.

    Every verb takes effect at once; time passes in `run` and `settle` only. After anything, `verify` says whether the
    promises were kept.

    Attributes:
        trace: What was done and what happened, line by line, with the time.
        acknowledged, uncertain: See `Judge`.
    """

    def __init__(
        self,
        seed: int,
        *,
        nodes: int = 3,
        workers: int = 0,
        lease_ttl: float = 2.0,
        set_up: Callable[[ResourceManager, SimHost], None] | None = None,
    ) -> None:
        """
        Args:
            nodes: How many voters: a, b, c and so on.
            workers: How many nodes that only follow them: w1, w2 and so on.
            set_up: Registers handlers on each node's manager, whenever a process of it starts. Without it there is
                the kind "held", which keeps a connection to the third party.
        """
        super().__init__(seed, nodes=nodes, workers=workers, lease_ttl=lease_ttl, set_up=set_up)
        self._votes_asked_at = 0.0
        for name in self.nodes:
            self.start(name)

    # --- time --------------------------------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        end = self.scheduler.now + seconds
        while self.scheduler.now < end:
            self.scheduler.run_until(min(self.scheduler.now + _LOOK_S, end))
            self._judge.look()
            self._list_judge.look()

    def settle(self, within: float = 30.0) -> None:
        """
        End all faults, start who is down, and wait until every resource is held once and the load is even.

        Then nothing may move any more.
        """
        self.heal()
        self.third_party_works()
        self.third_party.moody = False
        self.receiver.works()
        self.listing.works()
        for name, node in self.nodes.items():
            node.host.set_rate(1.0)
            node.host.resume()
            node.host.free_app()
            self.mend_disk(name)
            self.start(name)
        # What the faults have begun, such as a lease that runs out, ends by then.
        calm = self.scheduler.now + self._lease_ttl
        end = self.scheduler.now + within
        while self.scheduler.now < end and (self.scheduler.now < calm or self._unsettled()):
            self.run(0.25)
            for name in self.nodes:
                self.start(name)
            self._give_votes_back()
            self._resume_all()
        unsettled = self._unsettled()
        if unsettled:
            self._judge.object(f"{within} s after all faults ended: {unsettled}")
            return
        moves = self.third_party.moves
        self.run(_REST_S)
        if self.third_party.moves != moves:
            self._judge.object("at rest, something moved without a cause")

    # --- the verdict -------------------------------------------------------------------------------------------------

    def verify(self) -> list[str]:
        """Everything that went against the promises so far, in words."""
        return [
            *self._judge.verdict(),
            *self._list_judge.violations,
            *self.receiver.problems(self._states()),
            *self.scheduler.errors,
        ]

    def fingerprint(self) -> str:
        """Equal for equal lives."""
        return blake2b("\n".join(self.trace).encode(), digest_size=16).hexdigest()

    def close(self) -> None:
        """End every process; nothing is left to be collected at an odd moment. To be called last."""
        for node in self.nodes.values():
            node.host.kill()
        self.scheduler.run_until(self.scheduler.now)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- how ---------------------------------------------------------------------------------------------------------

    def _give_votes_back(self) -> None:
        """Each voter that lost its disk is replaced, and each that lost its vote gets one."""
        if self.scheduler.now < self._votes_asked_at + _VOTES_AGAIN_S:
            return
        self._votes_asked_at = self.scheduler.now
        voting = [name for name in self._voting() if not self.nodes[name].is_out]
        for name in self._peers:
            if voting and self.nodes[name].is_out:
                self.change_voters("replace", name, via=voting[0])
            elif voting and name not in self._voting():
                self.change_voters("add", name, via=voting[0])

    def _resume_all(self) -> None:
        """Have what is paused held again; somebody may have asked for a pause that takes effect only now."""
        for node in self.nodes.values():
            paused = [
                id
                for id, record in (node.state.records.items() if node.state is not None else ())
                if record.parked is not None and record.parked.cause.value == ParkedCause.PAUSED.value
            ]
            for id in paused:
                self.resume_resource(id, via=node.name)

    def _voting(self) -> list[str]:
        """Who has a vote, as whoever has heard most of it knows."""
        known = [state.settings for state in self._states() if state.settings is not None]
        newest = max(known, key=lambda one: one.voters_revision, default=None)
        return [voter.name for voter in newest.voters] if newest is not None else []

    def _unsettled(self) -> str:
        # One that has lost its disk is there by name until it is replaced.
        without = sorted({name for name in self._peers if name not in self._voting() or self.nodes[name].is_out})
        if self.formed and without:
            return f"{', '.join(without)} have no vote"
        looks = (self.receiver.unsettled, self._list_judge.unsettled)
        missing = (look(state) for state in self._states() for look in looks)
        return self._judge.unsettled() or next(filter(None, missing), "")
