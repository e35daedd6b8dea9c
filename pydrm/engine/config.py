"""
What the engine is told, and what it says of itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs
import msgspec

from pydrm.engine.tls import Security

__all__ = ["EngineConfig", "EngineStatus"]


@attrs.frozen
class EngineConfig:
    """
    Attributes:
        bind, advertise: "host:port" to listen on, and where peers reach that.
        voters: Each voter's address by name, this node's too if it is one; none or only itself is a cluster of one.
        data_dir: None keeps everything in memory; only for a cluster of one, and for workers.
        nonce: Random; tells this process from any other that runs under this name.
        security: How peers are known and what they say is kept secret; by default only on loopback, and not at all.
        role: "voter", or "worker" for one that only follows.
    """

    cluster: str
    node: str
    bind: str
    advertise: str
    voters: Mapping[str, str]
    data_dir: Path | None
    nonce: str
    role: str = "voter"
    security: Security = attrs.field(factory=Security)


class EngineStatus(msgspec.Struct, frozen=True):
    """
    Attributes:
        has_majority: Whether a majority answered lately, as far as this node can tell.
        linked: The peers that are connected.
        votes: Whether this node has a vote.
        voters: Who has.
        problem: What keeps it from taking part, in words; "" if nothing does.
    """

    leader: str | None = None
    term: int = 0
    applied: int = 0
    has_majority: bool = False
    formed: bool = False
    linked: tuple[str, ...] = ()
    votes: bool = False
    voters: tuple[str, ...] = ()
    problem: str = ""
