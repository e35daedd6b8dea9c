"""
`Reporter`: what this node tells the cluster about its handles.

That they are gone, how they are, and that another node should try. All of it is level-triggered: it is said for as long
as the state does not show it, and repeating it does no harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from pydrm.agent.backoff import Backoff
from pydrm.agent.cluster import Cluster
from pydrm.agent.outbox import Outbox
from pydrm.clock import Clock, Random
from pydrm.core.handle_commands import Failure, GiveUp, Handle, HandleReport, Release, Report
from pydrm.core.records import AssignmentKey, Phase

__all__ = ["Reporter"]

REPORT_GATHER_S = 0.003
GIVE_UP_GATHER_S = 0.05


class Reporter:
    """
    Args:
        let_go: Whether a release that was put here still has to be said.
        said: Called with the assignments whose release took effect.
        quarantine_s: How long the cluster is to leave alone what no node could open.
    """

    def __init__(
        self,
        node: str,
        cluster: Cluster,
        *,
        let_go: Callable[[Handle], bool],
        said: Callable[[Iterable[AssignmentKey]], None],
        clock: Clock,
        random: Random,
        quarantine_s: float,
    ) -> None:
        self._cluster = cluster
        self._incarnation = 0
        quarantine_ms = round(quarantine_s * 1000)

        def backoff() -> Backoff:
            return Backoff(random, base_s=0.05, cap_s=1.0)

        self._releases: Outbox[Handle] = Outbox(
            cluster,
            command=lambda handles: Release(node, self._incarnation, handles),
            due=let_go,
            said=lambda handles: said([(handle.resource, handle.slot) for handle in handles]),
            clock=clock,
            backoff=backoff(),
        )
        self._reports: Outbox[HandleReport] = Outbox(
            cluster,
            command=lambda reports: Report(node, self._incarnation, reports),
            due=self._is_news,
            said=lambda reports: None,
            clock=clock,
            backoff=backoff(),
            gather_s=REPORT_GATHER_S,
        )
        self._failures: Outbox[Failure] = Outbox(
            cluster,
            command=lambda failures: GiveUp(node, self._incarnation, failures, quarantine_ms),
            due=self._is_kept,
            said=lambda failures: None,
            clock=clock,
            backoff=backoff(),
            gather_s=GIVE_UP_GATHER_S,
        )

    def joined(self, incarnation: int) -> None:
        """Speak for *incarnation*; what was to be said for an older one is nobody's business any more."""
        self._incarnation = incarnation
        for outbox in (self._releases, self._reports, self._failures):
            outbox.clear()

    def released(self, handle: Handle) -> None:
        """There is no such handle, and there never will be."""
        self._releases.put(handle)

    def reported(self, report: HandleReport) -> None:
        self._reports.put(report)

    def reopened(self, report: HandleReport) -> None:
        """As `reported`; of a handle that is new, of which the state most often says already what it begins with."""
        if self._reports.holds(report.token) or self._is_news(report):
            self._reports.put(report)

    def gave_up(self, failure: Failure) -> None:
        self._failures.put(failure)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._releases.run(), name="pydrm releases")
            tasks.create_task(self._reports.run(), name="pydrm reports")
            tasks.create_task(self._failures.run(), name="pydrm failures")

    def _is_news(self, report: HandleReport) -> bool:
        assignment = self._cluster.state.assignments.get((report.resource, report.slot))
        claim = assignment.claim(report.token) if assignment is not None else None
        if assignment is None or claim is None:
            return False
        if report.proven and assignment.failed:
            return True
        said = (claim.condition, claim.detail, claim.next_try_ms)
        return said != (report.condition, report.detail, report.next_try_ms)

    def _is_kept(self, failure: Failure) -> bool:
        """Whether the cluster still thinks that this node keeps it."""
        assignment = self._cluster.state.assignments.get((failure.resource, failure.slot))
        holder = assignment.holder if assignment is not None and assignment.phase is Phase.HELD else None
        return holder is not None and holder.token == failure.token
