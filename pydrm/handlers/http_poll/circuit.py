"""
`Circuits`: hosts that this node leaves alone for a while, because all that was asked of them failed. Sans I/O.

The circuit breaker of Nygard, "Release It!" (2007), one for each host. It spares a host that is down the requests of
thousands of pollers, and each node has its own, since a host may be out of reach for one node only.

    closed     every request may go; FAILURES_MAX failures in a row open it
    open       none may, for a time that doubles with each failed probe
    half-open  that time is over: one request may go, as a probe, and its result closes or opens it
"""

from __future__ import annotations

import attrs

__all__ = ["FAILURES_MAX", "OPEN_FIRST_S", "OPEN_LONGEST_S", "Circuits"]

FAILURES_MAX = 5
OPEN_FIRST_S = 1.0
OPEN_LONGEST_S = 60.0
HOSTS_MAX = 10_000


@attrs.define
class _Circuit:
    """
    Attributes:
        open_s: How long it stays open this time.
        until: While open: when a probe may go.
        probe_until: When a probe that is under way counts as lost.
    """

    failures: int = 0
    open_s: float = OPEN_FIRST_S
    until: float = float("-inf")
    probe_until: float = float("-inf")


class Circuits:
    def __init__(self) -> None:
        # Only hosts with a failure are in it.
        self._circuits: dict[str, _Circuit] = {}

    def admit(self, host: str, now: float, timeout_s: float) -> float:
        """
        Seconds to leave *host* alone; 0 if a request may go now.

        Whoever is given 0 reports the result. A probe without one counts as lost after *timeout_s*: its handler ended.
        """
        circuit = self._circuits.get(host)
        if circuit is None or circuit.failures < FAILURES_MAX:
            return 0.0
        wait_s = max(circuit.until, circuit.probe_until) - now
        if wait_s > 0:
            return wait_s
        circuit.probe_until = now + timeout_s
        return 0.0

    def succeeded(self, host: str) -> None:
        """It answered, whatever it said."""
        self._circuits.pop(host, None)

    def failed(self, host: str, now: float) -> None:
        circuit = self._circuits.get(host)
        if circuit is None:
            self._forget_old(now)
            circuit = self._circuits[host] = _Circuit()
        circuit.failures += 1
        # Those that were under way when it opened say nothing new.
        if circuit.failures < FAILURES_MAX or now < circuit.until:
            return
        circuit.until = now + circuit.open_s
        circuit.probe_until = float("-inf")
        circuit.open_s = min(circuit.open_s * 2, OPEN_LONGEST_S)

    def _forget_old(self, now: float) -> None:
        if len(self._circuits) < HOSTS_MAX:
            return
        for host in [host for host, circuit in self._circuits.items() if circuit.until < now]:
            del self._circuits[host]
