"""
Sources of an app's own: a class with `fetch_resources`, registered under a name, for the kind "source.NAME".

    class Customers:
        def setup(self, config, api): ...        # once, when this node gets the source; may be left out
        def fetch_resources(self): ...           # the whole list; None: nothing to compare with
        def tear_down(self): ...                 # once, when it goes elsewhere or the node stops; may be left out

Each may be sync or async. Each hold has an instance of its own, made without arguments. Sync ones run in a
thread of that instance, one after the other, so they may block; what such a one is at when the hold ends comes to
nothing, and `tear_down` comes after it.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pydrm.agent.hold import Hold
from pydrm.clock import Clock
from pydrm.core.resource import Json, Resource
from pydrm.errors import ConfigurationError, Fenced
from pydrm.sources.fetching import Api, Fetched, Fetcher, FetchFailed
from pydrm.sources.fields import Fields
from pydrm.sources.options import Options

__all__ = ["PluginOrigin"]

POLL_S = 60.0


class PluginOrigin:
    """
    An Origin, for `SourceKind`. Fields: `config`, an object that `setup` is given.

    Raises:
        ConfigurationError: *plugin* has no `fetch_resources`.
    """

    def __init__(self, name: str, plugin: Callable[[], Any], clock: Clock) -> None:
        if not callable(plugin) or not callable(getattr(plugin, "fetch_resources", None)):
            raise ConfigurationError(
                f"source {name!r} needs a class with the method fetch_resources, not {plugin!r}", field="source"
            )
        self._plugin = plugin
        self._clock = clock

    def check(self, resource: Resource) -> Options:
        fields = Fields(resource)
        options = Options.read(resource, fields, poll_s=POLL_S)
        fields.table("config")
        fields.refuse_others()
        return options

    def fetcher(self, hold: Hold) -> Fetcher:
        return _PluginFetcher(self._plugin, Fields(hold.resource).table("config"), self._clock)


class _PluginFetcher:
    def __init__(self, plugin: Callable[[], Any], config: Mapping[str, Json], clock: Clock) -> None:
        self._make = plugin
        self._config = config
        self._clock = clock
        self._plugin: Any = None
        # Of its own, because what a plugin has opened may be bound to the thread that it did it in, as with sqlite3.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pydrm source")

    async def open(self, api: Api) -> None:
        try:
            plugin = self._make()
            # Torn down from here on, whatever becomes of its setup.
            self._plugin = plugin
            if hasattr(plugin, "setup"):
                await self._call(plugin.setup, self._config, api)
        except (FetchFailed, Fenced):
            await self._tear_down()
            raise
        except Exception as error:  # the border to the app's code
            await self._tear_down()
            raise FetchFailed(f"setup raised {type(error).__name__}: {error}") from error

    async def fetch(self, known: Mapping[str, Json]) -> Fetched:
        try:
            entries = await self._call(_listed(self._plugin.fetch_resources))
        except (FetchFailed, Fenced):
            raise
        except Exception as error:  # the border to the app's code
            raise FetchFailed(f"fetch_resources raised {type(error).__name__}: {error}") from error
        if entries is not None and (isinstance(entries, (str, bytes, Mapping)) or not hasattr(entries, "__iter__")):
            raise FetchFailed(f"fetch_resources returned {type(entries).__name__}, which is no list")
        return Fetched(entries if entries is None or isinstance(entries, list) else [*entries])

    async def wait(self, seconds: float) -> None:
        await (self._clock.sleep(seconds) if seconds else asyncio.Event().wait())

    async def close(self) -> None:
        try:
            await self._tear_down()
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _tear_down(self) -> None:
        plugin, self._plugin = self._plugin, None
        if plugin is not None and hasattr(plugin, "tear_down"):
            await self._call(plugin.tear_down)

    async def _call(self, method: Callable[..., Any], *arguments: object) -> Any:
        if inspect.iscoroutinefunction(method):
            return await method(*arguments)
        result = await asyncio.get_running_loop().run_in_executor(self._thread, method, *arguments)
        # A sync method may hand out a coroutine that some other library has made.
        return await result if inspect.isawaitable(result) else result


def _listed(fetch: Callable[[], Any]) -> Callable[[], Any]:
    """*fetch*, with what it would only hand out bit by bit, as a generator or a cursor does, taken from it there."""
    if inspect.iscoroutinefunction(fetch):

        @functools.wraps(fetch)
        async def fetch_list() -> Any:
            return _taken(await fetch())

        return fetch_list
    return lambda: _taken(fetch())


def _taken(entries: Any) -> Any:
    return [*entries] if isinstance(entries, Iterator) else entries
