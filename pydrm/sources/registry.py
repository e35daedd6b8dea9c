"""
`Sources`: the kinds of sources that one manager knows: those of pydrm, of installed packages, and of the app.

A package brings some by entry points of the group "pydrm.sources"; each names a class as `pydrm.sources.plugin` wants.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydrm.agent.cluster import Cluster
from pydrm.agent.kind import Kinds
from pydrm.agent.readable import Readable
from pydrm.clock import Clock, Random
from pydrm.core.records import SOURCE_PREFIX
from pydrm.errors import ConfigurationError
from pydrm.sources.fetching import Origin
from pydrm.sources.file import FileOrigin
from pydrm.sources.holding import Intake
from pydrm.sources.http import HttpOrigin
from pydrm.sources.kind import SourceKind
from pydrm.sources.plugin import PluginOrigin

__all__ = ["GROUP", "Sources"]

logger = logging.getLogger(__name__)

GROUP = "pydrm.sources"


@cache
def _installed() -> tuple[EntryPoint, ...]:
    """It looks at every package there is, and a process has many managers in tests."""
    return tuple(entry_points(group=GROUP))


class Sources:
    """
    Args:
        cluster: Reaches the cluster; called only while something is held.
        readable: Where the files of file sources may be.
    """

    def __init__(
        self,
        kinds: Kinds,
        intake: Intake,
        cluster: Callable[[], Cluster],
        *,
        clock: Clock,
        random: Random,
        readable: Readable | None = None,
        installed: Iterable[EntryPoint] | None = None,
    ) -> None:
        self._kinds = kinds
        self._intake = intake
        self._cluster = cluster
        self._clock = clock
        self._random = random
        self.install("http", HttpOrigin(clock))
        self.install("file", FileOrigin(clock, readable or Readable()))
        for point in _installed() if installed is None else installed:
            self._load(point)

    def register(self, name: str, plugin: Callable[[], Any]) -> None:
        """
        Raises:
            ConfigurationError: It is no class with `fetch_resources`, or the name is taken.
        """
        if not isinstance(name, str) or not name:
            raise ConfigurationError(f"must be a name that is not empty, not {name!r}", field="source")
        self.install(name, PluginOrigin(name, plugin, self._clock))

    def install(self, name: str, origin: Origin) -> None:
        """Have the kind "source.NAME" fetch from *origin*. Raises ConfigurationError if the name is taken."""
        kind = SourceKind(origin, self._intake, self._cluster, clock=self._clock, random=self._random)
        self._kinds.register(SOURCE_PREFIX + name, kind)

    def _load(self, point: EntryPoint) -> None:
        try:
            self.register(point.name, point.load())
        except Exception as error:  # noqa: BLE001 (a package that is broken must not keep an app from starting)
            logger.warning("the source %r of %s cannot be used: %s", point.name, point.value, error)
