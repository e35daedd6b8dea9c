"""
`Link`: frames from a stream, however it arrives and whoever has written it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pydrm.engine.channel import Channel, proven
from pydrm.engine.frames import (
    Append,
    Forward,
    Frame,
    Hello,
    NextIndex,
    Ping,
    Refusal,
    Vote,
    encode_frame,
)
from pydrm.engine.link import Link
from pydrm.engine.tls import Tls
from tests.certificates import CLUSTER, Certificates

HELLO = Hello(1, "orders", "b", "voter", "replica-b", "", 3, "nonce", "b:7000", ("a", "b"))
FRAMES: list[Frame] = [
    HELLO,
    Ping(),
    Vote(4),
    Refusal("no"),
    NextIndex(4, 102, True, False),
    Append(4, 90, 99, 3, ((b"\x00command", 100, 4), (b"\x01", 101, 4))),
    Forward(bytes(300)),
]


class Stream(asyncio.Transport):
    """asyncio's side of a connection: what was written, and whether it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = False
        self.buffered = 0

    def get_extra_info(self, name: str, default: object = None) -> object:
        return ("127.0.0.1", 4711) if name == "peername" else default

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written += data

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close


class Reader:
    """An owner that takes whatever comes, of an accepted peer or of a stranger."""

    def __init__(self, channel: Channel | None = None, *, accepts: bool = False) -> None:
        self.frames: list[Frame] = []
        self.failures: list[str] = []
        self.ready = 0
        self._channel = channel
        self._accepts = accepts

    def link_opened(self, link: Link) -> None:
        if self._accepts:
            link.hello = HELLO
        if self._channel is not None:
            link.secure(self._channel)

    def link_ready(self, link: Link) -> None:
        self.ready += 1

    def link_received(self, link: Link, frame: Frame) -> None:
        assert link.open
        self.frames.append(frame)
        if frame == Vote(666):
            raise ValueError("a bad frame")
        if frame == Refusal("hang up"):
            link.hang_up()

    def link_failed(self, link: Link, error: Exception) -> None:
        assert link.open
        self.failures.append(f"{type(error).__name__}: {error}")
        link.abort()

    def link_closed(self, link: Link) -> None:
        raise AssertionError("nobody calls connection_lost here")


def read(parts: Sequence[bytes], *, accepts: bool = False, channel: Channel | None = None) -> tuple[Reader, Stream]:
    """What comes of a stream that arrives in *parts*."""
    reader, stream = Reader(channel, accepts=accepts), Stream()

    async def run() -> None:
        link = Link(reader)
        link.connection_made(stream)
        for part in parts:
            if stream.closed:  # as asyncio does
                break
            link.data_received(part)

    asyncio.run(run())
    return reader, stream


def written(*frames: Frame) -> bytes:
    return b"".join(len(data).to_bytes(4, "little") + data for data in map(encode_frame, frames))


def split(data: bytes, sizes: Sequence[int]) -> list[bytes]:
    """*data* in parts of *sizes*, over and over."""
    parts = []
    turn = 0
    while data:
        size = sizes[turn % len(sizes)]
        parts.append(data[:size])
        data, turn = data[size:], turn + 1
    return parts


sizes = st.lists(st.integers(1, 60), min_size=1, max_size=10)
frames = st.lists(st.sampled_from(FRAMES), max_size=12)
slow = settings(derandomize=True, deadline=None, max_examples=300, suppress_health_check=list(HealthCheck))


@slow
@given(frames, sizes, st.booleans())
def test_frames_come_out_whole_and_in_order_however_they_arrive(sent: list[Frame], sizes: list[int], accepts: bool):
    """Byte by byte, or several at once."""
    reader, stream = read(split(written(*sent), sizes), accepts=accepts)

    assert (reader.frames, reader.failures, stream.closed) == (sent, [], False)


@slow
@given(
    st.lists(
        st.one_of(
            st.sampled_from(FRAMES).map(written),
            st.binary(max_size=40),
            st.binary(max_size=60).map(lambda data: len(data).to_bytes(4, "little") + data),
            st.sampled_from([b"\x16\x03\x01\x02\x00", b"\xff" * 8, bytes(4), written(Vote(666), Vote(5))]),
        ),
        max_size=8,
    ).map(b"".join),
    sizes,
    st.booleans(),
)
@example(written(Vote(1), Refusal("hang up"), Vote(2)), [1], True)
@example((16 * 1024).to_bytes(4, "little") + bytes(16 * 1024), [60], False)
def test_what_comes_of_a_stream_does_not_depend_on_how_it_is_split(data: bytes, sizes: list[int], accepts: bool):
    """Whatever it is made of: the same frames, and the same failure, or none."""
    whole, whole_stream = read([data] if data else [], accepts=accepts)
    parts, parts_stream = read(split(data, sizes), accepts=accepts)

    assert (parts.frames, parts.failures) == (whole.frames, whole.failures)
    assert parts_stream.closed == whole_stream.closed
    assert len(whole.failures) <= 1
    assert whole_stream.written == b""


@slow
@given(frames.filter(bool), st.floats(0, 1, exclude_max=True), st.integers(1, 255), sizes)
def test_what_was_whole_before_the_damage_arrives_and_nothing_raises(
    sent: list[Frame], where: float, change: int, sizes: list[int]
):
    """So near to what it should be that it gets deep into the reading."""
    data = bytearray(written(*sent))
    place = int(where * len(data))
    data[place] ^= change
    before, position = [], 0
    for frame in sent:
        position += len(written(frame))
        if position > place:
            break
        before.append(frame)

    reader, stream = read(split(bytes(data), sizes), accepts=True)

    assert reader.frames[: len(before)] == before
    assert stream.closed == bool(reader.failures)


@slow
@given(frames, st.lists(st.integers(1, 700), min_size=1, max_size=10))
def test_under_tls_it_is_the_same(pair: tuple[Tls, Tls], sent: list[Frame], sizes: list[int]):
    """The handshake, and then frames of any length over records of any length."""
    dialling, answering = pair[0].channel(dials=True), pair[1].channel(dials=False)
    reader, stream = Reader(answering), Stream()

    async def run() -> None:
        link = Link(reader)
        link.connection_made(stream)
        for part in split(dialling.take(), sizes):
            link.data_received(part)
        dialling.receive(bytes(stream.written))
        dialling.send(written(*sent))
        for part in split(dialling.take(), sizes):
            link.data_received(part)

    asyncio.run(run())
    assert (reader.ready, reader.frames, reader.failures) == (1, sent, [])


@slow
@given(st.floats(0, 1, exclude_max=True), st.integers(1, 255), sizes)
def test_under_tls_nothing_that_was_changed_on_the_way_is_read(
    pair: tuple[Tls, Tls], where: float, change: int, sizes: list[int]
):
    """A bit of it is enough: the connection is closed."""
    dialling, answering = pair[0].channel(dials=True), pair[1].channel(dials=False)
    proven(dialling, answering)
    dialling.send(written(*FRAMES))
    data = bytearray(dialling.take())
    data[int(where * len(data))] ^= change

    reader, stream = read(split(bytes(data), sizes), channel=answering)

    assert reader.frames == []
    # A length that grew is waited for; that is what deadlines are there for.
    assert stream.closed == bool(reader.failures)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tls, Tls]:
    directory: Path = tmp_path_factory.mktemp("certificates")
    made = Certificates(directory)
    both = []
    for name in "ab":
        made.make(name)
        both.append(Tls(made.files(name), CLUSTER, name))
        both[-1].load()
    return both[0], both[1]


def test_a_stranger_may_send_a_small_frame_and_an_accepted_peer_a_large_one():
    """By the first four bytes; nothing is kept of what is too long."""
    assert read([(16 * 1024 + 1).to_bytes(4, "little")])[0].failures == ["CodecError: a frame of 16385 bytes"]
    assert read([(16 * 1024 + 1).to_bytes(4, "little")], accepts=True)[0].failures == []
    assert read([(8 * 1024 * 1024 + 1).to_bytes(4, "little")], accepts=True)[0].failures != []


@pytest.mark.parametrize("beginning", [b"\x16\x03\x01\x02\x00", b"\x15\x03\x03\x00\x02\x02\x46"])
def test_a_node_without_tls_knows_tls_when_it_hears_it(beginning: bytes):
    """A handshake, or the alert of somebody who was spoken to in plain."""
    reader, _ = read([beginning])

    assert reader.failures == [
        "CodecError: it speaks TLS and this node does not; set tls_cert, tls_key and tls_ca here"
    ]


def test_nothing_is_said_before_tls_is_ready_and_nothing_after_it_failed(pair: tuple[Tls, Tls]):
    """It would be in plain, or lost."""

    async def run() -> None:
        stream = Stream()
        link = Link(Reader(pair[1].channel(dials=False)))
        link.connection_made(stream)
        link.send(Vote(1))
        before = bytes(stream.written)
        link.data_received(b"hello there")
        after = bytes(stream.written)
        link.send(Vote(2))

        assert before == b""
        assert len(after) == 7  # an alert
        assert stream.written == after

    asyncio.run(run())


def test_an_end_that_tls_announces_closes_the_link(pair: tuple[Tls, Tls]):
    """No node does that, but others may; what came before it is read."""
    dialling, answering = pair[0].channel(dials=True), pair[1].channel(dials=False)
    proven(dialling, answering)
    dialling.send(written(Vote(1)))
    with contextlib.suppress(ssl.SSLWantReadError):
        dialling._tls.unwrap()

    reader, stream = read([dialling.take()], channel=answering)

    assert (reader.frames, reader.failures, stream.closed) == ([Vote(1)], [], True)


@pytest.mark.parametrize("secured", [False, True])
def test_a_queue_that_is_too_long_closes_the_link(pair: tuple[Tls, Tls], secured: bool):
    """As the stream counts it: under TLS too, since a channel keeps nothing back."""

    async def run() -> None:
        stream = Stream()
        dialling, answering = pair[0].channel(dials=True), pair[1].channel(dials=False)
        link = Link(Reader(answering if secured else None))
        link.connection_made(stream)
        if secured:
            link.data_received(dialling.take())
            dialling.receive(bytes(stream.written))
            link.data_received(dialling.take())
            stream.written.clear()
        link.send(Forward(bytes(100_000)))
        stream.buffered = 64 * 1024 * 1024
        link.send(Vote(1))
        open_before = link.open
        stream.buffered += 1
        link.send(Vote(2))

        assert (open_before, link.open) == (True, False)
        assert len(stream.written) > 100_000

    asyncio.run(run())
