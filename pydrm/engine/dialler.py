"""
`Dialler`: calls each expected node that is not linked, again and again, at all addresses that are known of it.

Both ends of a pair dial. The larger name waits a moment before, so that two connections seldom meet. Who does not
answer is called less and less often, up to a bound; who does not fit, rarely.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from pydrm.address import split_address
from pydrm.clock import Clock, Random
from pydrm.engine.complaints import Complaints
from pydrm.engine.link import Link
from pydrm.engine.lobby import Lobby
from pydrm.engine.reach import Reach

__all__ = ["Dialler"]

_CONNECT_TIMEOUT_S = 1.0
_BACKOFF_LEAST_S = 0.05
_BACKOFF_MOST_S = 1.0
_REFUSED_BACKOFF_S = 2.0
_YIELD_S = 0.15  # how long the larger name waits for the smaller one's connection


class Dialler:
    """Belongs to the engine's loop."""

    def __init__(
        self,
        node: str,
        addresses: Mapping[str, str],
        links: Mapping[str, Link],
        lobby: Lobby,
        complaints: Complaints,
        *,
        link: Callable[[str], Link],
        reach: Reach,
        clock: Clock,
        random: Random,
    ) -> None:
        """
        Args:
            node: This node's own name.
            addresses: Where the others are expected, by name.
            links: Which of them are linked; looked at, not changed.
            lobby: Has those that are not linked yet, and may be.
            link: Makes the end of a connection that is dialled to the node of that name.
        """
        self._node = node
        self._addresses = dict(addresses)
        self._heard: dict[str, str] = {}
        self._links = links
        self._lobby = lobby
        self._complaints = complaints
        self._link = link
        self._reach = reach
        self._clock = clock
        self._random = random
        self._tasks: list[asyncio.Task[None]] = []

    def __contains__(self, name: str) -> bool:
        """Whether the node *name* is expected."""
        return name in self._addresses

    def start(self) -> None:
        self._dial_all(list(self._addresses))

    def expect(self, addresses: Mapping[str, str]) -> None:
        """These nodes are to be linked as well from now on; whom it knows already it will find there too."""
        new = [name for name in addresses if name not in self._addresses]
        self._addresses.update(addresses)
        self._dial_all(new)

    def heard(self, name: str, address: str) -> None:
        """What *name* says of where it is; tried first."""
        self._heard[name] = address

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _dial_all(self, names: list[str]) -> None:
        loop = asyncio.get_running_loop()
        self._tasks += [loop.create_task(self._keep_linked(name)) for name in names]

    async def _keep_linked(self, name: str) -> None:
        yields = self._node > name
        pause = 0.0
        while True:
            if name in self._links:
                await asyncio.wait([self._links[name].closed])
                pause = 0.0
            await self._clock.sleep(pause * (0.5 + self._random.random()) + (_YIELD_S if yields else 0.0))
            if name in self._links:
                continue
            for address in self._candidates(name):
                await self._dial(name, address)
                if name in self._links:
                    break
            pause = min(max(2 * pause, _BACKOFF_LEAST_S), _BACKOFF_MOST_S)
            if name in self._complaints:
                pause = _REFUSED_BACKOFF_S

    def _candidates(self, name: str) -> list[str]:
        heard = self._heard.get(name)
        return list(dict.fromkeys(address for address in (heard, self._addresses[name]) if address))

    async def _dial(self, name: str, address: str) -> None:
        """Return when the link is accepted, or is not going to be."""
        loop = asyncio.get_running_loop()
        try:
            host, port = split_address(address)
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                if not await self._reach.covers(address):
                    reason = f"{name} is at {address}, not on loopback: set tls_cert, tls_key and tls_ca"
                    self._complaints.note(name, reason)
                    self._complaints.say((name, reason), reason)
                    return
                _, link = await loop.create_connection(lambda: self._link(name), host, port)
        except (OSError, TimeoutError, ValueError, OverflowError):
            return  # nobody is there, or what a peer said of itself is not an address
        while name not in self._links and not link.closed.done() and link in self._lobby:
            await asyncio.wait([link.closed], timeout=0.01)
