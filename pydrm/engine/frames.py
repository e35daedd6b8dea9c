"""
`Frame`: what nodes say to each other, each kind with a number that is never given to another.

They are arrays, so a field can be added at the end, with a default. What comes from outside is typed here, or refused.
"""

from __future__ import annotations

import msgspec

from pydrm.engine.codec import UNREADABLE, CodecError

__all__ = [
    "Append",
    "Forward",
    "Frame",
    "Hello",
    "Mail",
    "NextIndex",
    "Ping",
    "PreVote",
    "PreVoteAnswer",
    "Refusal",
    "RequestVote",
    "SnapshotDone",
    "SnapshotOffer",
    "SnapshotPiece",
    "SnapshotWant",
    "StateDigest",
    "TimeoutNow",
    "Vote",
    "decode_frame",
    "encode_frame",
]

_encoder = msgspec.msgpack.Encoder()


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """
    The first frame on every connection, and again whenever it changes.

    It and `Refusal` are read in every wire format: all that may change about them is a field more at the end.

    Attributes:
        version: The newest wire format that the node speaks; see `handshake`.
        cluster_id: "" until the cluster is formed.
        role: "voter" or "worker": what it is configured as.
        boot, nonce: The how manyth start of this data directory it is, and which process.
        voters: Whom its configuration lists.
        members, members_revision: (name, replica id) of each voter, once formed, as of that revision.
        oldest_version: The oldest wire format that it speaks; 0 if that is the newest.
    """

    version: int
    cluster: str
    node: str
    role: str
    replica_id: str
    cluster_id: str
    boot: int
    nonce: str
    address: str
    voters: tuple[str, ...]
    members: tuple[tuple[str, str], ...] = ()
    members_revision: int = 0
    oldest_version: int = 0


class Refusal(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The last frame on a connection: why the other side is not wanted."""

    reason: str


class Ping(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Shows that the connection lives; not answered."""


class RequestVote(msgspec.Struct, frozen=True, array_like=True, tag=10):
    term: int
    last_index: int
    last_term: int


class Vote(msgspec.Struct, frozen=True, array_like=True, tag=11):
    term: int


class Append(msgspec.Struct, frozen=True, array_like=True, tag=12):
    term: int
    commit_index: int
    previous_index: int
    previous_term: int
    entries: tuple[tuple[bytes, int, int], ...]  # (command, index, term)


class NextIndex(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """The answer to Append. *term* is ours: PySyncObj sends none and believes stale ones (defect S5)."""

    term: int
    next_index: int
    reset: bool
    success: bool


class Forward(msgspec.Struct, frozen=True, array_like=True, tag=14):
    """A log entry for the leader to append."""

    command: bytes


class PreVote(msgspec.Struct, frozen=True, array_like=True, tag=15):
    """Would you vote for me in *term*? See `prevote`."""

    term: int
    last_index: int
    last_term: int


class PreVoteAnswer(msgspec.Struct, frozen=True, array_like=True, tag=16):
    term: int
    granted: bool


class SnapshotOffer(msgspec.Struct, frozen=True, array_like=True, tag=17):
    """What you need next is not in the log any more; take the state as of entry *index*. See `transfer`."""

    term: int
    index: int
    index_term: int
    size: int


class SnapshotWant(msgspec.Struct, frozen=True, array_like=True, tag=18):
    """Send the part from *offset* on."""

    term: int
    index: int
    offset: int


class SnapshotPiece(msgspec.Struct, frozen=True, array_like=True, tag=19):
    term: int
    index: int
    offset: int
    data: bytes


class SnapshotDone(msgspec.Struct, frozen=True, array_like=True, tag=20):
    """Everything up to entry *index* is here; or, with a *problem*, that snapshot is of no use."""

    term: int
    index: int
    problem: str = ""


class TimeoutNow(msgspec.Struct, frozen=True, array_like=True, tag=21):
    """Stand for election at once: the leader hands over (Ongaro, 2014, section 3.10)."""

    term: int


class StateDigest(msgspec.Struct, frozen=True, array_like=True, tag=22):
    """What the state of this replica was as of entry *index*. See `agreement`."""

    index: int
    digest: str


class Mail(msgspec.Struct, frozen=True, array_like=True, tag=30):
    """
    A piece of a letter from node *origin* to node *to*, who need not be the two that are linked here. See `post`.

    Attributes:
        number: Names the question; who asks it has given it.
        answers: Whether the letter is an answer.
        size, offset: How long the letter is, and where *data* begins in it.
        problem: Why the question is not answered; "" if this is not about one.
    """

    origin: str
    to: str
    number: int
    answers: bool
    size: int
    offset: int
    data: bytes
    problem: str = ""


Frame = (
    Hello
    | Refusal
    | Ping
    | RequestVote
    | Vote
    | Append
    | NextIndex
    | Forward
    | PreVote
    | PreVoteAnswer
    | SnapshotOffer
    | SnapshotWant
    | SnapshotPiece
    | SnapshotDone
    | TimeoutNow
    | StateDigest
    | Mail
)

_frame_decoder: msgspec.msgpack.Decoder[Frame] = msgspec.msgpack.Decoder(Frame)


def encode_frame(frame: Frame) -> bytes:
    return _encoder.encode(frame)


def decode_frame(data: bytes | memoryview) -> Frame:
    try:
        return _frame_decoder.decode(data)
    except UNREADABLE as error:
        raise CodecError(f"a frame cannot be read: {error}") from error
