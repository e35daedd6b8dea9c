"""`SimulatedNode`: a machine and the process that runs, or ran last, on it."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from pydrm.core import invariants
from pydrm.core.state import State
from pydrm.manager import ResourceManager
from pydrm.node import Node
from pydrm.testing.simulation.host import SimHost

__all__ = ["SimulatedNode", "Version"]


@attrs.frozen
class Version:
    """
    What a node runs: pydrm as it is here, or a copy of it under another name that is another version.

    Attributes:
        manager_class: Its `ResourceManager`.
        check: Its `invariants.check`.
    """

    manager_class: Callable[..., ResourceManager] = ResourceManager
    check: Callable[[State], list[str]] = invariants.check


@attrs.define(eq=False)
class SimulatedNode:
    """
    Attributes:
        version: What its last process was started as, and its next one will be.
        failure: Why its last process stopped by itself, if it did.
        is_out: Whether it has forgotten what it promised to a formed cluster; it must have no vote before it is
            replaced by a command.
        asked: How many requests its process has not answered yet.
    """

    name: str
    host: SimHost
    version: Version = Version()
    manager: ResourceManager | None = None
    failure: BaseException | None = None
    is_out: bool = False
    asked: int = 0

    @property
    def state(self) -> State | None:
        node = self._node
        # An engine that failed stopped in the middle of something, and nobody knows at which entry its state is.
        works = node is not None and node.engine._failure is None
        return node.engine.state if node is not None and works else None

    @property
    def applied(self) -> int:
        node = self._node
        return node.engine.status().applied if node is not None else 0

    @property
    def votes(self) -> bool:
        """Whether it has a vote, as far as it knows."""
        node = self._node
        return node is not None and node.engine.status().votes

    @property
    def replica_id(self) -> str:
        """What its data directory is called; "" while nobody has it open."""
        replica = self._node.engine._replica if self._node is not None else None
        return replica.replica_id if replica is not None else ""

    @property
    def _node(self) -> Node | None:
        return self.manager._node if self.manager is not None and self.host.alive else None
