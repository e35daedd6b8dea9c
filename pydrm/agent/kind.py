"""
`Kind`: what holding a resource means, found by a stable name.

A replicated definition holds no function, only the kind's name; each node looks the kind up among
those that its own app has registered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

from pydrm.agent.detail import told_by
from pydrm.agent.hold import Hold
from pydrm.core.resource import KIND_BYTES_MAX, Resource
from pydrm.errors import ConfigurationError, Elsewhere

__all__ = ["Grouped", "Kind", "Kinds", "Named"]


class Kind(Protocol):
    """How resources of one kind are held; one object serves all of them."""

    def validate(self, resource: Resource) -> None:
        """
        Check the fields that this kind reads. Must not block or connect.

        Raises:
            InvalidResource: A field cannot be used; it is named.
        """

    async def run(self, hold: Hold) -> None:
        """
        Open the resource, call `hold.ready()`, and keep it open until cancelled.

        When this returns or raises, nothing of the resource is open any more: that is what the agent
        tells the cluster. Cancelled while `hold.valid`, it may take leave politely, for as long as the
        close timeout; cancelled when it is not, or a second time, it must cut at once. Whatever it raises
        or returns otherwise is followed by another run after a backoff, except that `Permanent` ends it.
        """


@runtime_checkable
class Grouped(Protocol):
    """A kind that knows whom its resources connect to."""

    def group(self, resource: Resource) -> str:
        """The group whose budget *resource* is held within, such as the host that it connects to; "" for none."""


@runtime_checkable
class Named(Protocol):
    """A kind that says which fields it knows. A resource may have others, but none that looks like a slip."""

    @property
    def fields(self) -> frozenset[str]: ...


class Kinds:
    """
    The kinds that one manager knows.

    Args:
        find: Looks for one that nobody registered, such as one of an installed package; None if there is none.
    """

    def __init__(self, find: Callable[[str], Kind | None] = lambda name: None) -> None:
        self._kinds: dict[str, Kind] = {}
        self._find = find

    def register(self, name: str, kind: Kind) -> None:
        """
        Raises:
            ConfigurationError: The name cannot be a kind's, or has been given to another one.
        """
        if not isinstance(name, str) or not name or not name.isprintable() or len(name.encode()) > KIND_BYTES_MAX:
            raise ConfigurationError(
                f"must be a string of 1 to {KIND_BYTES_MAX} bytes without control characters, not {name!r}",
                field="kind",
            )
        if name in self._kinds:
            raise ConfigurationError(f"{name!r} has a handler already", field="kind")
        self._kinds[name] = kind

    def get(self, name: str) -> Kind | None:
        """Raises ConfigurationError if there is one, and it cannot be used."""
        kind = self._kinds.get(name)
        if kind is None:
            kind = self._find(name)
            if kind is not None:
                self._kinds[name] = kind
        return kind

    def here(self, name: str, node: str) -> Kind:
        """Like `get`; if it cannot be had on *node*, though it could where the resource was added, one that says so."""
        try:
            kind = self.get(name)
        except Exception as error:  # noqa: BLE001 (the border to what packages bring: it must not end the agent)
            return _Unusable(told_by(error) or type(error).__name__)
        return kind or _Unusable(f"kind {name!r} is not registered on node {node!r}")

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._kinds))


class _Unusable:
    def __init__(self, why: str) -> None:
        self._why = why

    def validate(self, resource: Resource) -> None:
        """It could be anything."""

    async def run(self, hold: Hold) -> None:
        # Another node may have it: an app is deployed to one after the other.
        raise Elsewhere(self._why)
