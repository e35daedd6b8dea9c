"""
`Counterpart`, what a kind or a source is checked with, and `Checked`, what every scene is played with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from pydrm.agent.kind import Kind
from pydrm.core.resource import Resource
from pydrm.errors import InvalidResource
from pydrm.intake import Subscriber
from pydrm.testing.held import Held, until
from pydrm.testing.held_cluster import HeldCluster

__all__ = ["PATIENCE_S", "Checked", "Counterpart"]

# A promise that takes longer than this is broken.
PATIENCE_S = 20.0


class Counterpart(Protocol):
    """What the kind's resources are held at: a server, or as good as one."""

    async def start(self) -> None:
        """Begin to serve, again after `stop`."""

    async def stop(self) -> None:
        """Serve nobody any more; what is connected is cut off."""

    def is_held(self) -> bool:
        """Whether somebody has the resource open there now; for what is asked now and then, whether it still is."""


class Checked:
    """One scene's holds of *resource*, and what is asked about them. Each check raises AssertionError."""

    def __init__(self, kind: Kind, resource: Resource, counterpart: Counterpart, close_timeout_s: float = 5.0) -> None:
        self.kind = kind
        self.resource = resource
        self.counterpart = counterpart
        self.close_timeout_s = close_timeout_s
        self.patience_s = PATIENCE_S
        self._clusters: list[HeldCluster] = []

    def check_fields(self, refused: Iterable[tuple[Resource, str]]) -> None:
        self.kind.validate(self.resource)
        for wrong, field in refused:
            found = self._refusal(wrong)
            assert found is not None, f"{wrong} is not refused, should be for {field!r}"
            assert found.field == field, f"{wrong} is refused for {found.field!r}, should be for {field!r}: {found}"

    def _refusal(self, wrong: Resource) -> InvalidResource | None:
        try:
            self.kind.validate(wrong)
        except InvalidResource as error:
            return error
        return None

    def hold(self) -> Held:
        if not isinstance(self.kind, Subscriber):
            return Held(self.kind, self.resource)
        # What it delivers goes on being due when the hold is over: whoever still sends then is seen.
        cluster = HeldCluster(self.kind, self.resource)
        self._clusters.append(cluster)
        return Held(self.kind, self.resource, cluster=cluster)

    async def close(self) -> None:
        for cluster in self._clusters:
            await cluster.close()

    async def hold_open(self) -> Held:
        held = self.hold()
        await self.until(lambda: held.is_open, f"it is never open; it said {held.told}")
        await self.until(self.counterpart.is_held, "it says that it is open, and the counterpart does not see it")
        return held

    async def until(self, condition: Callable[[], bool], otherwise: str) -> None:
        try:
            await until(condition, self.patience_s)
        except TimeoutError:
            raise AssertionError(otherwise) from None

    async def until_gone(self, otherwise: str) -> None:
        await self.until(lambda: not self.counterpart.is_held(), otherwise)
