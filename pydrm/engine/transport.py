"""
`Transport`: authenticated, ordered, bounded links between the nodes of one cluster.

One TCP connection joins each pair of nodes. Both dial, so that it is enough if one can reach the other;
when two connections meet, both sides keep the one that the node with the smaller name dialled, unless
the other end has been restarted since. The larger name waits a moment before it dials, so that this is rare.

PySyncObj assumes that between "connected" and "disconnected" no message is lost and none overtakes another.
TCP gives that as long as nothing is ever dropped here: what cannot be sent closes the connection.

Before its Hello is accepted a peer can cost little: small frames only, few connections, a short deadline.

    frame   length (u32, little-endian), msgpack (see `codec`)
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable, Mapping
from typing import cast

from pydrm.address import split_address
from pydrm.clock import Clock, Random
from pydrm.engine.codec import CodecError, Frame, Hello, Ping, Refusal, decode_frame, encode_frame
from pydrm.engine.handshake import objection
from pydrm.errors import ConfigurationError

__all__ = ["Link", "Transport"]

_log = logging.getLogger(__name__)

_LENGTH = struct.Struct("<I")
_HELLO_BYTES_MAX = 16 * 1024
_FRAME_BYTES_MAX = 8 * 1024 * 1024
_QUEUE_BYTES_MAX = 64 * 1024 * 1024
_STRANGERS_MAX = 64
_HANDSHAKE_TIMEOUT_S = 2.0
_CONNECT_TIMEOUT_S = 1.0
_PING_S = 1.0
_IDLE_TIMEOUT_S = 3.0
_BACKOFF_LEAST_S = 0.05
_BACKOFF_MOST_S = 1.0
_REFUSED_BACKOFF_S = 2.0
_YIELD_S = 0.15  # how long the larger name waits for the smaller one's connection
_SAY_AGAIN_S = 60.0
_SAID_MAX = 256


class Link(asyncio.Protocol):
    """One connection: cuts the stream into frames. Decides nothing."""

    def __init__(self, transport: Transport, dialled: str = "") -> None:
        self.dialled = dialled  # the name of the node that was expected there; "" if the other end dialled
        self.hello: Hello | None = None  # what the other end said of itself, once it is accepted
        self.host = self.address = "?"
        self.received_at = 0.0
        self.sent_at = 0.0
        self._owner = transport
        self._buffer = bytearray()
        self._stream: asyncio.Transport | None = None
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._stream = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        if peer:
            self.host, self.address = peer[0], f"{peer[0]}:{peer[1]}"
        self._owner._opened(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        position = 0
        try:
            while len(self._buffer) - position >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(self._buffer, position)
                if length > (_FRAME_BYTES_MAX if self.hello else _HELLO_BYTES_MAX):
                    raise CodecError(f"a frame of {length} bytes")
                end = position + _LENGTH.size + length
                if len(self._buffer) < end:
                    break
                frame = decode_frame(bytes(self._buffer[position + _LENGTH.size : end]))
                position = end
                self._owner._received(self, frame)
                if self._stream is None or self._stream.is_closing():
                    return
        except (CodecError, ValueError) as error:
            _log.warning("closed the connection with %s: %s", self.address, error)
            self.abort()
            return
        del self._buffer[:position]

    def connection_lost(self, exc: Exception | None) -> None:
        self._stream = None
        self._owner._closed(self)
        if not self.closed.done():
            self.closed.set_result(None)

    def send(self, frame: Frame) -> None:
        if self._stream is None or self._stream.is_closing():
            return
        data = encode_frame(frame)
        self._stream.write(_LENGTH.pack(len(data)) + data)
        if self._stream.get_write_buffer_size() > _QUEUE_BYTES_MAX:
            _log.warning("closed the connection with %s: it does not keep up", self.address)
            self.abort()

    def refuse(self, reason: str) -> None:
        """Say why, and hang up."""
        self.send(Refusal(reason))
        self.hang_up()

    def hang_up(self) -> None:
        """Close once all that was sent has gone out."""
        if self._stream is not None:
            self._stream.close()

    def abort(self) -> None:
        if self._stream is not None:
            self._stream.abort()


class Transport:
    """All links of one node. Belongs to the engine's loop."""

    def __init__(
        self,
        bind: str,
        addresses: Mapping[str, str],
        *,
        hello: Callable[[], Hello],
        linked: Callable[[str, Hello], None],
        unlinked: Callable[[str], None],
        receive: Callable[[str, Frame], None],
        clock: Clock,
        random: Random,
    ) -> None:
        """
        Args:
            addresses: Where the other nodes are expected, by name; what they say of themselves is tried as well.
            hello: What this node says of itself now.
            linked, unlinked: Called in turn for each peer, with its newest Hello; `linked` again when it changes.
            receive: Gets the frames of accepted peers. A ValueError closes the link.
        """
        self.problem = ""
        self._bind = bind
        self._addresses = dict(addresses)
        self._hello = hello
        self._linked = linked
        self._unlinked = unlinked
        self._receive = receive
        self._clock = clock
        self._random = random
        self._links: dict[str, Link] = {}
        self._strangers: dict[Link, asyncio.TimerHandle] = {}
        self._newest_boot: dict[str, tuple[int, str]] = {}
        self._heard_address: dict[str, str] = {}
        self._refused_by: set[str] = set()
        self._said: dict[tuple[str, str], float] = {}
        self._server: asyncio.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    async def start(self) -> None:
        """Raises ConfigurationError if the address cannot be bound."""
        loop = asyncio.get_running_loop()
        host, port = split_address(self._bind)
        try:
            self._server = await loop.create_server(lambda: Link(self), host, port)
        except OSError as error:
            message = f"cannot listen on {self._bind}: {error.strerror or error}"
            raise ConfigurationError(message, field="bind") from error
        self._tasks = [loop.create_task(self._keep_linked(name)) for name in self._addresses]
        self._tasks.append(loop.create_task(self._keep_alive()))

    async def stop(self) -> None:
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            self._server.close()
        # What was sent goes out; nobody waits for an answer.
        links = [*self._links.values(), *self._strangers]
        for link in links:
            link.hang_up()
        if links:
            await asyncio.wait([link.closed for link in links], timeout=0.2)
        for link in links:
            link.abort()

    def expect(self, addresses: Mapping[str, str]) -> None:
        """These nodes are to be linked as well from now on; whom it knows already it will find there too."""
        new = [name for name in addresses if name not in self._addresses]
        self._addresses.update(addresses)
        loop = asyncio.get_running_loop()
        self._tasks += [loop.create_task(self._keep_linked(name)) for name in new]

    def send(self, peer: str, frame: Frame) -> None:
        """Send, or let the peer see a closed link; never lose one of several."""
        link = self._links.get(peer)
        if link is not None:
            link.sent_at = self._clock.now()
            link.send(frame)

    def announce(self) -> None:
        """Tell everybody who has heard this node's Hello that it has changed."""
        # Those too whose own has not arrived yet: they will not hear this node's again.
        for link in [*self._links.values(), *self._strangers]:
            link.send(self._hello())

    def heard(self) -> dict[str, Hello]:
        """The newest Hello of each linked peer."""
        return {name: link.hello for name, link in self._links.items() if link.hello is not None}

    # --- the life of a link ------------------------------------------------------------------------------------------

    def _opened(self, link: Link) -> None:
        if self._stopping or (len(self._strangers) >= _STRANGERS_MAX and not link.dialled):
            link.abort()
            return
        deadline = asyncio.get_running_loop().call_later(_HANDSHAKE_TIMEOUT_S, link.abort)
        self._strangers[link] = deadline
        link.send(self._hello())

    def _received(self, link: Link, frame: Frame) -> None:
        link.received_at = self._clock.now()
        match frame:
            case Hello():
                self._greet(link, frame)
            case Refusal(reason=reason):
                self._refused(link, reason)
            case Ping():
                pass
            case _ if link.hello is None:
                raise CodecError("a frame before the Hello")
            case _ if self._links.get(link.hello.node) is link:
                self._receive(link.hello.node, frame)

    def _greet(self, link: Link, theirs: Hello) -> None:
        if link.hello is not None and link.hello.node != theirs.node:
            raise CodecError(f"{link.hello.node!r} calls itself {theirs.node!r} now")
        mine = self._hello()
        reason = objection(mine, theirs, self._newest_boot.get(theirs.replica_id))
        if link.dialled and link.dialled != theirs.node:
            reason = f"{link.dialled!r} was expected there"
        if reason:
            self._say((theirs.node, reason), f"refused {theirs.node!r} of {link.host}: {reason}")
            if link.dialled:
                # The other side hangs up as well, and who of the two is heard first is chance.
                self._refused_by.add(link.dialled)
                self.problem = f"{link.dialled} does not fit: {reason}"
            link.refuse(reason)
            return
        first = link.hello is None
        if first and not self._prefer(link, mine, theirs):
            link.refuse("")
            return
        link.hello = theirs
        self._newest_boot[theirs.replica_id] = (theirs.boot, theirs.nonce)
        self._heard_address[theirs.node] = theirs.address
        self._refused_by.discard(theirs.node)
        if not self._refused_by:
            self.problem = ""
        if first:
            self._strangers.pop(link).cancel()
            former = self._links.pop(theirs.node, None)
            if former is not None:
                self._unlinked(theirs.node)
                former.refuse("")
                # Its host may be dark, and then nobody answers.
                asyncio.get_running_loop().call_later(_HANDSHAKE_TIMEOUT_S, former.abort)
            self._links[theirs.node] = link
        self._linked(theirs.node, theirs)

    def _prefer(self, link: Link, mine: Hello, theirs: Hello) -> bool:
        """Whether to take *link* although there is another to the same node already."""
        former = self._links.get(theirs.node)
        if former is None or former.hello is None or former.hello.nonce != theirs.nonce:
            return True
        return bool(link.dialled) == (mine.node < theirs.node)

    def _refused(self, link: Link, reason: str) -> None:
        link.abort()
        if not reason:
            return  # only a second connection where one is enough
        name = link.hello.node if link.hello else link.dialled
        if not name:
            return  # whoever it is, this node has no need of it
        self._refused_by.add(name)
        self.problem = f"{name} refuses this node: {reason}"
        self._say((name, reason), self.problem)

    def _closed(self, link: Link) -> None:
        deadline = self._strangers.pop(link, None)
        if deadline is not None:
            deadline.cancel()
        if link.hello is not None and self._links.get(link.hello.node) is link:
            del self._links[link.hello.node]
            self._unlinked(link.hello.node)

    # --- dialling ----------------------------------------------------------------------------------------------------

    async def _keep_linked(self, name: str) -> None:
        yields = self._hello().node > name
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
            if name in self._refused_by:
                pause = _REFUSED_BACKOFF_S

    def _candidates(self, name: str) -> list[str]:
        heard = self._heard_address.get(name)
        return list(dict.fromkeys(address for address in (heard, self._addresses[name]) if address))

    async def _dial(self, name: str, address: str) -> None:
        """Return when the link is accepted, or is not going to be."""
        loop = asyncio.get_running_loop()
        try:
            host, port = split_address(address)
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                _, link = await loop.create_connection(lambda: Link(self, dialled=name), host, port)
        except (OSError, TimeoutError, ValueError, OverflowError):
            return  # nobody is there, or what a peer said of itself is not an address
        while name not in self._links and not link.closed.done() and link in self._strangers:
            await asyncio.wait([link.closed], timeout=0.01)

    async def _keep_alive(self) -> None:
        while True:
            await self._clock.sleep(_PING_S)
            now = self._clock.now()
            for link in list(self._links.values()):
                if now - link.received_at > _IDLE_TIMEOUT_S:
                    _log.warning(
                        "closed the connection with %s: nothing heard for %.1f s", link.address, _IDLE_TIMEOUT_S
                    )
                    link.abort()
                elif now - link.sent_at >= _PING_S:
                    link.send(Ping())

    def _say(self, what: tuple[str, str], message: str) -> None:
        """Log *message* once, and again if *what* it is about is still so a minute later."""
        now = self._clock.now()
        if now - self._said.get(what, -_SAY_AGAIN_S) < _SAY_AGAIN_S:
            return
        if len(self._said) >= _SAID_MAX:  # strangers can make up names without end
            self._said.clear()
        self._said[what] = now
        _log.warning(message)
