"""
`Link`: one connection between two nodes, from bytes to frames.

    frame   length (u32, little-endian), msgpack (see `codec`)

Under TLS all of that is inside a `Channel`. Decides nothing: its owner says what may be in the frames, and from whom.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from typing import Protocol, cast

from pydrm.engine.channel import Channel, TlsFailed, speaks_tls
from pydrm.engine.codec import CodecError
from pydrm.engine.frames import (
    Frame,
    Hello,
    Refusal,
    decode_frame,
    encode_frame,
)

__all__ = ["Link", "Owner"]

_log = logging.getLogger(__name__)

_LENGTH = struct.Struct("<I")
_HELLO_BYTES_MAX = 16 * 1024
_FRAME_BYTES_MAX = 8 * 1024 * 1024
_QUEUE_BYTES_MAX = 64 * 1024 * 1024


class Owner(Protocol):
    """What is done about a link. Each may close it."""

    def link_opened(self, link: Link) -> None:
        """It is connected. `link_ready`, or a channel for it, is the owner's to call or give."""

    def link_ready(self, link: Link) -> None:
        """Its TLS handshake is done; frames can be sent."""

    def link_received(self, link: Link, frame: Frame) -> None:
        """Raises ValueError or CodecError if that frame is a reason to close it."""

    def link_failed(self, link: Link, error: Exception) -> None:
        """It cannot go on, and is closed by the owner."""

    def link_closed(self, link: Link) -> None: ...


class Link(asyncio.Protocol):
    """
    Attributes:
        dialled: The name of the node that was expected there; "" if the other end dialled.
        hello: What the other end said of itself, once it is accepted.
        channel: None if it is not under TLS.
        lasts_until: When it must end, in seconds since 1970; for its owner.
    """

    def __init__(self, owner: Owner, dialled: str = "") -> None:
        self.dialled = dialled
        self.hello: Hello | None = None
        self.channel: Channel | None = None
        self.lasts_until = float("inf")
        self.host = self.address = "?"
        self.received_at = 0.0
        self.sent_at = 0.0
        self._owner = owner
        self._buffer = bytearray()
        self._stream: asyncio.Transport | None = None
        self._parted = False
        self.closed = asyncio.get_running_loop().create_future()

    @property
    def open(self) -> bool:
        return self._stream is not None and not self._parted and not self._stream.is_closing()

    @property
    def backlog(self) -> int:
        """How many bytes wait to be taken by the operating system."""
        return self._stream.get_write_buffer_size() if self._stream is not None else 0

    def secure(self, channel: Channel) -> None:
        """Speak through *channel* from now on; nothing may have been sent before."""
        self.channel = channel
        self._flush(channel)

    def send(self, frame: Frame) -> None:
        """Not before the TLS handshake is done: what would be said then is said once it is."""
        if self._stream is None or not self.open:
            return
        data = encode_frame(frame)
        data = _LENGTH.pack(len(data)) + data
        if self.channel is None:
            self._stream.write(data)
        elif self.channel.certificate is not None:
            try:
                self.channel.send(data)
            except TlsFailed as error:
                self._owner.link_failed(self, error)
                return
            self._flush(self.channel)
        # The stream's own queue, with or without TLS: a channel keeps nothing back.
        if self._stream is not None and self._stream.get_write_buffer_size() > _QUEUE_BYTES_MAX:
            _log.warning("closed the connection with %s: it does not keep up", self.address)
            self.abort()

    def refuse(self, reason: str) -> None:
        """Say why, and hang up."""
        self.send(Refusal(reason))
        self.hang_up()

    def hang_up(self) -> None:
        """Close once all that was sent has gone out."""
        # Without TLS's close_notify: who reads a part of a frame knows that it was cut short, and what was not answered
        # is sent again whether it was cut short or not.
        if self._stream is not None:
            self._stream.close()

    def part(self) -> None:
        """
        Send and read nothing more; the other end closes it, or somebody aborts it.

        Closed with something unread it would be reset, and the other end might never read why.
        """
        self._parted = True
        self._buffer.clear()
        if self._stream is not None and self._stream.can_write_eof():
            self._stream.write_eof()

    def abort(self) -> None:
        if self._stream is not None:
            self._stream.abort()

    # --- asyncio's side ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._stream = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        if peer:
            self.host, self.address = peer[0], f"{peer[0]}:{peer[1]}"
        self._owner.link_opened(self)

    def data_received(self, data: bytes) -> None:
        if self._parted:
            return
        try:
            self._buffer += data if self.channel is None else self._decrypted(self.channel, data)
            self._cut()
            if self.channel is not None and self.channel.ended:
                self.hang_up()
        except (CodecError, TlsFailed, ValueError) as error:
            self._owner.link_failed(self, error)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stream = None
        self._owner.link_closed(self)
        if not self.closed.done():
            self.closed.set_result(None)

    def _decrypted(self, channel: Channel, data: bytes) -> bytes:
        was_ready = channel.certificate is not None
        try:
            plain = channel.receive(data)
        finally:
            self._flush(channel)
        if not was_ready and channel.certificate is not None:
            self._owner.link_ready(self)
        return plain

    def _flush(self, channel: Channel) -> None:
        data = channel.take()
        if data and self._stream is not None:
            self._stream.write(data)

    def _cut(self) -> None:
        position = 0
        while self.open and len(self._buffer) - position >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer, position)
            if length > (_FRAME_BYTES_MAX if self.hello else _HELLO_BYTES_MAX):
                raise CodecError(_too_long(length, bytes(self._buffer[position : position + _LENGTH.size])))
            end = position + _LENGTH.size + length
            if len(self._buffer) < end:
                break
            frame = decode_frame(bytes(self._buffer[position + _LENGTH.size : end]))
            position = end
            self._owner.link_received(self, frame)
        del self._buffer[:position]


def _too_long(length: int, beginning: bytes) -> str:
    # Whatever TLS begins with would be a longer frame than any Hello.
    if speaks_tls(beginning):
        return "it speaks TLS and this node does not; set tls_cert, tls_key and tls_ca here"
    return f"a frame of {length} bytes"
