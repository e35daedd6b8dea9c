"""
`AdminServer`: the door to one node.

It listens at once and answers as soon as aiohttp is loaded, in a thread, so that a node that has to
take its resources back does not wait for an HTTP library. Until then callers queue at the socket.
"""

from __future__ import annotations

import asyncio
import importlib
import socket
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from pydrm.address import split_address
from pydrm.agent.courier import Delivered
from pydrm.agent.publishing import Publication
from pydrm.core.resource import Json, Resource
from pydrm.errors import ConfigurationError

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["AdminServer", "Manager"]

_BACKLOG = 128
_SHUTDOWN_TIMEOUT_S = 1.0


class Voters(Protocol):
    async def add(self, name: str, *, timeout: float) -> None: ...

    async def remove(self, name: str, *, timeout: float) -> None: ...

    async def replace(self, name: str, *, timeout: float) -> None: ...


class Budgets(Protocol):
    async def set(
        self,
        group: str,
        *,
        connects_per_second: float | None = None,
        connections: int | None = None,
        requests_per_second: float | None = None,
        sessions_per_day: int | None = None,
        timeout: float = 10,
    ) -> None: ...

    async def remove(self, group: str, *, timeout: float = 10) -> bool: ...

    def list(self) -> Sequence[Mapping[str, Any]]: ...


class Webhooks(Protocol):
    async def failed(self, resource: str | None = None) -> Sequence[Any]: ...

    async def replay(
        self, resource: str | None = None, *, event_ids: Sequence[str] | None = None, timeout: float = 10
    ) -> int: ...


class Manager(Protocol):
    """What the API asks of a node; `pydrm.ResourceManager` is one."""

    @property
    def budgets(self) -> Budgets: ...

    @property
    def voters(self) -> Voters: ...

    @property
    def webhooks(self) -> Webhooks: ...

    def status(self) -> dict[str, Any]: ...

    def resources(self) -> list[dict[str, Any]]: ...

    async def add(self, *resources: Resource, timeout: float) -> object: ...

    async def remove(self, *ids: str, timeout: float) -> list[str]: ...

    async def publish(
        self, topic: str, payload: Json, *, event_id: str | None = None, timeout: float = 10
    ) -> Publication: ...

    async def pause(self, *ids: str, reason: str, timeout: float) -> list[str]: ...

    async def resume(self, *ids: str, timeout: float) -> list[str]: ...

    async def send(self, id: str, data: str | bytes, *, timeout: float) -> Delivered: ...


class AdminServer:
    """
    The HTTP API of *manager* at *address*, host:port; port 0 takes any free one.

    There is no password: whoever reaches the address can add and remove resources. `async with` it
    around or inside that of the manager; it may be open before the node has joined.
    """

    def __init__(self, manager: Manager, address: str) -> None:
        self._manager = manager
        self._address = address
        self._socket: socket.socket | None = None
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where it listens, with the real port."""
        assert self._socket is not None, "it does not listen"
        host, port = self._socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def listen(self) -> None:
        """
        Take the port, so that one in use is known before anything else starts; idempotent.

        Raises:
            ConfigurationError: The address cannot be bound.
        """
        if self._socket is None:
            self._socket = _listener(self._address)

    async def start(self) -> None:
        """Return once requests are answered; idempotent."""
        self.listen()
        if self._runner is not None:
            return
        routes = await asyncio.to_thread(importlib.import_module, "pydrm.admin.routes")
        application = routes.application(self._manager, own_host=split_address(self._address)[0])
        self._runner = await routes.serve(application, self._socket, shutdown_timeout_s=_SHUTDOWN_TIMEOUT_S)

    async def stop(self) -> None:
        """Answer no more; idempotent."""
        runner, self._runner = self._runner, None
        listener, self._socket = self._socket, None
        if runner is not None:
            await runner.cleanup()
        if listener is not None:
            listener.close()

    async def __aenter__(self) -> AdminServer:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


def _listener(address: str) -> socket.socket:
    host, port = split_address(address)
    try:
        # The first answer is the one that clients try first, too.
        family, kind, protocol, _, resolved = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigurationError(f"cannot listen at {address}: {error.strerror}", field="admin") from error
    try:
        # Or a node that was killed could not start again while its last connections are in TIME_WAIT.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(resolved)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ConfigurationError(f"cannot listen at {address}: {error.strerror}", field="admin") from error
    return listener
