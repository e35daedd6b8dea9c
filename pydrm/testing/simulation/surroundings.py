"""
`Surroundings`: what is done to all that is around the nodes: the network and the third party.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydrm.testing.simulation.stage import Stage

__all__ = ["Surroundings"]


class Surroundings(Stage):
    """Every verb takes effect at once; time passes elsewhere."""

    # --- the network -------------------------------------------------------------------------------------------------

    def partition(self, *groups: Sequence[str]) -> None:
        """Only nodes of the same group reach each other; who is in two groups is a bridge."""
        self._note("partition " + " | ".join("".join(group) for group in groups))
        for one in self.nodes:
            for other in self.nodes:
                if one != other and not any(one in group and other in group for group in groups):
                    self.network.cut(one, other)

    def cut(self, source: str, target: str) -> None:
        """One way. What is sent meanwhile arrives in one burst when it is healed."""
        self._note(f"cut {source} -> {target}")
        self.network.cut(source, target)

    def join(self, source: str, target: str) -> None:
        """One way; the opposite of `cut`."""
        self._note(f"join {source} -> {target}")
        self.network.heal(source, target)

    def slow(self, source: str, target: str, latency_s: float) -> None:
        """One way."""
        self._note(f"slow {source} -> {target}: {latency_s:.3f} s")
        self.network.slow(source, target, latency_s)

    def reset(self, one: str, other: str) -> None:
        """Break every connection between two nodes."""
        self._note(f"reset {one} - {other}")
        self.network.reset(one, other)

    def heal(self) -> None:
        """Everybody reaches everybody, at normal speed."""
        self._note("heal")
        for one in self.nodes:
            for other in self.nodes:
                if one != other:
                    self.network.slow(one, other, 0.0)
                    self.network.heal(one, other)

    # --- the third party ---------------------------------------------------------------------------------------------

    def third_party_refuses(self) -> None:
        self._note("the third party refuses")
        self.third_party.refuses = True

    def third_party_stalls(self) -> None:
        """It answers nobody until it works again; then all at once, whether they still wait or not."""
        self._note("the third party stalls")
        self.third_party.stalls = True

    def third_party_answers_late(self, seconds: float) -> None:
        """By so much at the most, and without asking who still waits for it."""
        self._note(f"the third party is up to {seconds:.3f} s late")
        self.third_party.late_s = seconds

    def third_party_works(self) -> None:
        self._note("the third party works")
        self.third_party.refuses = self.third_party.stalls = False
        self.third_party.late_s = 0.0
