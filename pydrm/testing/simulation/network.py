"""
`SimNetwork`: streams between simulated hosts, as TCP gives them, and the ways in which they fail.

A stream delivers all bytes in order or breaks; in how many pieces they arrive is chance. Between two hosts each
direction can be cut on its own: what is sent meanwhile waits, as TCP sends it again, and arrives in one burst when the
cut is over, even if the sender has closed the stream meanwhile and talks on another. A killed process resets its
streams; a host without power says nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from pydrm.testing.simulation.scheduler import Scheduler, SimLoop

__all__ = ["SimNetwork"]

_LATENCY_S = 0.0002
_TORN_SHARE = 0.02


class SimNetwork:
    def __init__(self, scheduler: Scheduler, random: Random) -> None:
        self._scheduler = scheduler
        self._random = random
        self._listeners: dict[tuple[str, int], tuple[Any, SimLoop, Callable[[], asyncio.Protocol]]] = {}
        self._streams: list[_Stream] = []
        self._cut: set[tuple[str, str]] = set()
        self._slow: dict[tuple[str, str], float] = {}
        self._names: dict[str, str] = {}

    def give_address(self, name: str, address: str) -> None:
        """*address* (without a port) is that of host *name*."""
        self._names[address] = name

    # --- faults ------------------------------------------------------------------------------------------------------

    def cut(self, source: str, target: str) -> None:
        """Nothing arrives at *target* from *source* any more."""
        self._cut.add((source, target))

    def heal(self, source: str, target: str) -> None:
        self._cut.discard((source, target))
        for stream in list(self._streams):
            stream.flush(source, target)

    def slow(self, source: str, target: str, latency_s: float) -> None:
        """From now on it takes so long; 0 is back to normal."""
        self._slow[source, target] = latency_s

    def reset(self, one: str, other: str) -> None:
        """Break every stream between two hosts, as a middlebox does."""
        for stream in list(self._streams):
            if stream.joins(one, other):
                stream.break_off()

    def host_gone(self, name: str, *, silently: bool) -> None:
        """A process was killed, or (silently) its host lost power."""
        for address in [address for address in self._listeners if self._names[address[0]] == name]:
            del self._listeners[address]
        for stream in list(self._streams):
            stream.end_gone(name, silently=silently)

    # --- what loops ask for ------------------------------------------------------------------------------------------

    def listen(
        self, host: Any, loop: SimLoop, factory: Callable[[], asyncio.Protocol], address: str, port: int
    ) -> _Listener:
        if (address, port) in self._listeners:
            raise OSError(98, "Address already in use")
        self._listeners[address, port] = (host, loop, factory)
        return _Listener(self._listeners, (address, port))

    async def connect(
        self, host: Any, loop: SimLoop, factory: Callable[[], asyncio.Protocol], address: str, port: int
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        name = self._names[address]
        there = self.latency(host.name, name)
        back = self.latency(name, host.name)
        if (host.name, name) in self._cut or (name, host.name) in self._cut:
            await loop.create_future()  # the caller's deadline ends it
        await asyncio.sleep(there)
        listener = self._listeners.get((address, port))
        if listener is None:
            await asyncio.sleep(back)
            raise ConnectionRefusedError(111, f"{address}:{port} refused")
        stream = _Stream(self, self._scheduler, (host, loop), listener[:2])
        self._streams.append(stream)
        stream.open_passive(listener[2])
        await asyncio.sleep(back)
        return stream.open_active(factory)

    def latency(self, source: str, target: str) -> float:
        slow = self._slow.get((source, target), 0.0)
        return (slow or _LATENCY_S) * (0.5 + self._random.random())

    def torn_at(self, size: int) -> int:
        """After how many of so many bytes the rest arrives by itself; seldom anything but all of them."""
        return int(size * self._random.random() / _TORN_SHARE) if size else 0

    def is_cut(self, source: str, target: str) -> bool:
        return (source, target) in self._cut

    def forget(self, stream: _Stream) -> None:
        """Neither end will send anything any more."""
        if stream in self._streams:
            self._streams.remove(stream)


class _Listener:
    def __init__(self, listeners: dict[tuple[str, int], Any], address: tuple[str, int]) -> None:
        self._listeners = listeners
        self._address = address

    def close(self) -> None:
        self._listeners.pop(self._address, None)


class _Stream:
    """Two ends, and what is under way between them."""

    def __init__(
        self, network: SimNetwork, scheduler: Scheduler, active: tuple[Any, SimLoop], passive: tuple[Any, SimLoop]
    ) -> None:
        self.network = network
        self.scheduler = scheduler
        self.ends = (_End(self, 0, *active), _End(self, 1, *passive))

    def open_passive(self, factory: Callable[[], asyncio.Protocol]) -> None:
        end = self.ends[1]

        def made() -> None:
            end.protocol = factory()
            end.protocol.connection_made(end)

        end.loop.call_soon(made)

    def open_active(self, factory: Callable[[], asyncio.Protocol]) -> tuple[asyncio.Transport, asyncio.Protocol]:
        end = self.ends[0]
        end.protocol = factory()
        end.protocol.connection_made(end)
        end.receive_early()
        return end, end.protocol

    def joins(self, one: str, other: str) -> bool:
        return {self.ends[0].host.name, self.ends[1].host.name} == {one, other}

    def flush(self, source: str, target: str) -> None:
        for end in self.ends:
            if (end.host.name, end.peer.host.name) == (source, target):
                end.send_stalled()

    def break_off(self) -> None:
        for end in self.ends:
            end.break_off()

    def end_gone(self, name: str, *, silently: bool) -> None:
        for end in self.ends:
            if end.host.name == name and not end.gone:
                end.vanish(silently=silently)

    def end_over(self) -> None:
        if all(end.over for end in self.ends):
            self.network.forget(self)


class _End(asyncio.Transport):
    """One end of a stream: asyncio's transport."""

    def __init__(self, stream: _Stream, number: int, host: Any, loop: SimLoop) -> None:
        super().__init__()
        self.host = host
        self.loop = loop
        self.protocol: asyncio.Protocol | None = None
        self.gone = False
        self._stream = stream
        self._number = number
        self._closing = False
        self._arrives_at = 0.0
        self._stalled: list[bytes | None] = []
        self._early: list[bytes | None] = []

    @property
    def peer(self) -> _End:
        return self._stream.ends[1 - self._number]

    # What asyncio's users call.

    def write(self, data: Any) -> None:
        if not self._closing:
            self.send(bytes(data))

    def close(self) -> None:
        if not self._closing:
            self.send(None)
            self.lose(None)

    def abort(self) -> None:
        if not self._closing:
            self._stalled.clear()
            self.close()

    def is_closing(self) -> bool:
        return self._closing

    def get_write_buffer_size(self) -> int:
        return sum(len(data) for data in self._stalled if data)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return (self.peer.host.name, 0) if name == "peername" else default

    # What happens on the way.

    @property
    def over(self) -> bool:
        """Whether it has nothing to send any more, and never will."""
        return (self._closing or self.gone) and not self._stalled

    def send(self, data: bytes | None) -> None:
        """Bytes, or None for the end of the stream. What is gone says nothing more."""
        if self.gone:
            return
        if self._stalled or self._stream.network.is_cut(self.host.name, self.peer.host.name):
            self._stalled.append(data)
        else:
            self._transmit(data)

    def _transmit(self, data: bytes | None) -> None:
        piece = self._stream.network.torn_at(len(data or b""))
        if data is not None and 0 < piece < len(data):
            self._carry(data[:piece])
            data = data[piece:]
        self._carry(data)

    def _carry(self, data: bytes | None) -> None:
        latency = self._stream.network.latency(self.host.name, self.peer.host.name)
        self._arrives_at = max(self._arrives_at, self._stream.scheduler.now + latency)
        self._stream.scheduler.call_at(self._arrives_at, partial(self._arrived, data))

    def _arrived(self, data: bytes | None) -> None:
        self.peer.loop.call_soon(self.peer.receive, data)

    def send_stalled(self) -> None:
        """The way is free again: the kernel sends all that has waited, whether the process is still there or not."""
        stalled, self._stalled = self._stalled, []
        burst = b"".join(data for data in stalled if data is not None)
        if burst:
            self._transmit(burst)
        if None in stalled:
            self._transmit(None)
        self._stream.end_over()

    def vanish(self, *, silently: bool) -> None:
        """Its process is gone; *silently* its host as well, with what waited there to be sent."""
        if silently:
            self._stalled.clear()
        else:
            self.send(None)
        self.gone = True
        self._stream.end_over()

    def break_off(self) -> None:
        self._stalled.clear()
        self.lose(ConnectionResetError(104, "reset"))

    def receive(self, data: bytes | None) -> None:
        if self._closing or self.gone:
            return
        if self.protocol is None:
            self._early.append(data)
            return
        if data is None:
            self.lose(None)
        else:
            self.protocol.data_received(data)

    def receive_early(self) -> None:
        """What arrived before somebody was there to read it."""
        for data in self._early:
            self.loop.call_soon(self.receive, data)

    def lose(self, error: Exception | None) -> None:
        if self._closing:
            return
        self._closing = True
        self._stream.end_over()
        if not self.gone and self.protocol is not None:
            self.loop.call_soon(self.protocol.connection_lost, error)
