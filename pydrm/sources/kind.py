"""
`SourceKind`: holding a source: to fetch its list and have the cluster agree with it, again and again.

What cannot be fetched, and what should not be believed, changes nothing that is held. It shows as "retrying" with the
reason; and when this node could not fetch it for `max_retry`, the agent hears of a failure, and may ask another one.
"""

from __future__ import annotations

from collections.abc import Callable

from pydrm.agent.backoff import Backoff
from pydrm.agent.cluster import Cluster
from pydrm.agent.hold import Hold
from pydrm.clock import Clock, Random
from pydrm.core.resource import Resource
from pydrm.sources.fetching import Origin
from pydrm.sources.holding import Holding, Intake

__all__ = ["SourceKind"]

BACKOFF_CAP_S = 60.0


class SourceKind:
    """
    A Kind, for the agent.

    Args:
        cluster: Reaches the cluster; called only while something is held.
    """

    def __init__(
        self, origin: Origin, intake: Intake, cluster: Callable[[], Cluster], *, clock: Clock, random: Random
    ) -> None:
        self._origin = origin
        self._intake = intake
        self._cluster = cluster
        self._clock = clock
        self._random = random

    def validate(self, resource: Resource) -> None:
        self._origin.check(resource)

    async def run(self, hold: Hold) -> None:
        options = self._origin.check(hold.resource)
        fetcher = self._origin.fetcher(hold)
        holding = Holding(hold, options, fetcher, self._intake, self._cluster(), self._clock)
        try:
            await holding.live(self._backoff(options.poll_s))
        finally:
            await fetcher.close()

    def _backoff(self, poll_s: float) -> Backoff:
        """No slower than it polls when all is well, unless that is faster than anybody should who fails."""
        return Backoff(self._random, base_s=0.5, cap_s=max(1.0, min(poll_s or BACKOFF_CAP_S, BACKOFF_CAP_S)))
