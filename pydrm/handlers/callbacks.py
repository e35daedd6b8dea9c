"""
`Callbacks`: the app's functions that receive messages, by the stable names that definitions use.

A replicated definition holds no function, so the name must be registered on each node that may hold it.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from pydrm.agent.hold import Hold
from pydrm.errors import ConfigurationError, Elsewhere

__all__ = ["Callback", "Callbacks"]

# It is given a `Message`, of the kind's own sort; what it returns is for the kind.
Callback = Callable[[Any], Awaitable[Any]]


class Callbacks:
    def __init__(self) -> None:
        self._callbacks: dict[str, Callback] = {}

    def register(self, name: str, callback: Callback) -> None:
        """
        Raises:
            ConfigurationError: It is not an async function, or the name is taken.
        """
        if not isinstance(name, str) or not name:
            raise ConfigurationError(f"must be a name that is not empty, not {name!r}", field="on_message")
        if not inspect.iscoroutinefunction(callback):
            raise ConfigurationError(
                f"{name!r} must be an async function, because it runs on the event loop", field="on_message"
            )
        if name in self._callbacks:
            raise ConfigurationError(f"{name!r} is registered already", field="on_message")
        self._callbacks[name] = callback

    def named_by(self, hold: Hold, name: str) -> Callback | None:
        """
        The one that the definition names; None if it names none, "".

        Raises:
            Elsewhere: There is none on this node, though there was one where the resource was added. Others may have
                it.
        """
        callback = self._callbacks.get(name)
        if name and callback is None:
            raise Elsewhere(f"no callback {name!r} is registered on node {hold.node!r}")
        return callback

    def get(self, name: str) -> Callback | None:
        return self._callbacks.get(name)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._callbacks))
