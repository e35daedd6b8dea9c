"""
`Settings`: what all nodes must agree on, and `Voter`, who votes.
"""

from __future__ import annotations

import msgspec

__all__ = ["Settings", "Voter"]


class Voter(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """
    One that votes: a node under the id that was born with its data directory, so that one that lost it is another.

    Attributes:
        address: Where peers reach it, as it was when it became a voter.
    """

    name: str
    replica_id: str
    address: str = ""

    def parts(self) -> tuple[object, ...]:
        return (self.name, self.replica_id, self.address)


class Settings(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """
    What all nodes must agree on; set when the cluster is formed, changed by command.

    Attributes:
        voters: By name.
        protocol: The one in force; see `protocol`.
        voters_revision: Grows by one with each change of the voters.
        recovering: Made of what one replica had, after a majority was lost for good: see `recovery`.
    """

    cluster_id: str
    voters: tuple[Voter, ...]
    lease_ttl_ms: int
    protocol: int = 1
    voters_revision: int = 1
    recovering: bool = False

    def voter(self, name: str) -> Voter | None:
        return next((voter for voter in self.voters if voter.name == name), None)

    def parts(self) -> tuple[object, ...]:
        voters = tuple([voter.parts() for voter in self.voters])
        parts = (self.cluster_id, voters, self.lease_ttl_ms, self.protocol, self.voters_revision)
        return (*parts, True) if self.recovering else parts
