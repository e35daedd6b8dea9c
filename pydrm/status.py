"""
`status_of`: how a node sees its cluster, as JSON values.
"""

from __future__ import annotations

from typing import Any

import attrs

from pydrm.config import Config
from pydrm.handlers.counts import Counts
from pydrm.node import Node
from pydrm.view import node_rows, recovery_problem, resource_counts

__all__ = ["status_of"]


def status_of(config: Config, node: Node | None, counts: Counts, *, now: float) -> dict[str, Any]:
    """
    Args:
        node: The one that runs, or ran last; None if none ever did.
        counts: The messages that its app did not get.
        now: By the node's clock, in seconds.
    """
    known = {"node": config.node, "cluster": config.cluster}
    if node is None:
        return known | _NOT_RUNNING
    state, engine = node.engine.state, node.engine.status()
    own_problem = engine.problem if node.agent.incarnation else node.waits_for
    return known | {
        "leader": engine.leader,
        "term": engine.term,
        "applied": engine.applied,
        "has_majority": engine.has_majority,
        "voters": list(engine.voters),
        "nodes": node_rows(state, engine.voters or config.peers or [config.node]),
        "resources": resource_counts(state),
        "digest": f"{state.digest:032x}",
        "lease": {"valid": node.lease.valid(now), "incarnation": node.lease.incarnation},
        "messages": attrs.asdict(counts),
        "problem": "; ".join(filter(None, [own_problem, recovery_problem(state, engine.leader)])),
    }


_NOT_RUNNING: dict[str, Any] = {
    "leader": None,
    "term": 0,
    "applied": 0,
    "has_majority": False,
    "voters": [],
    "nodes": [],
    "resources": {"total": 0, "held": 0, "open": 0, "failing": 0, "unheld": 0, "moving": 0, "parked": 0},
    "digest": f"{0:032x}",
    "lease": {"valid": False, "incarnation": 0},
    "messages": attrs.asdict(Counts()),
    "problem": "it does not run",
}
