"""
Bytes and back, for the wire, the log and the disk: msgpack by msgspec, and nowhere else.

What comes from outside is typed here, in one place, or refused with `CodecError`; nothing is ever unpickled.
Commands are written as maps by field name, so that a field with a default can be added without a new number.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from pydrm.core.budget_commands import EndHoldback, EndHour, HoldBack, ReturnPermits, SetBudget, TakePermits
from pydrm.core.commands import (
    AddResources,
    AddVoter,
    Command,
    Drain,
    EndQuarantine,
    EndRecovery,
    Expire,
    ForceRelease,
    Form,
    Join,
    PauseResources,
    Place,
    RaiseProtocol,
    RemoveResources,
    RemoveVoter,
    Renew,
    Request,
    RequestId,
    Resign,
    ResumeResources,
)
from pydrm.core.handle_commands import GiveUp, RaiseWatermark, Release, Report, SaveCheckpoints
from pydrm.core.ledger_commands import (
    ClaimDeliveries,
    ForgetPublished,
    Publish,
    ReplayDeliveries,
    SettleDeliveries,
)
from pydrm.core.records import Definition
from pydrm.core.resource import FIELDS_BYTES_MAX, Resource
from pydrm.errors import DrmError, InvalidResource

__all__ = [
    "UNREADABLE",
    "CodecError",
    "UnknownCommand",
    "changes_voters",
    "decode_checkpoint",
    "decode_entry",
    "decode_json",
    "definition_of",
    "encode_checkpoint",
    "encode_command",
    "encode_entry",
    "encode_json",
    "encode_request",
    "encoded_bytes",
    "is_participants",
    "is_renewal",
    "is_voters_change",
    "request_of",
    "resource_of",
    "split_entry",
]


T = TypeVar("T")


# What msgspec raises for bytes that somebody else made; the last two it lets through (strings, deep nesting).
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class CodecError(DrmError):
    """Bytes that are not what they should be: damaged, hostile, or of a newer version."""


class UnknownCommand(CodecError):
    """A command that came with a newer version of pydrm; what is in the log must not be skipped."""


# --- the log's entries -----------------------------------------------------------------------------------------------

# Numbers are for ever: a number that was used is never given to another command.
_NUMBERS: dict[type, int] = {
    Form: 1,
    Join: 2,
    Renew: 3,
    Expire: 4,
    Drain: 5,
    Resign: 6,
    AddResources: 7,
    RemoveResources: 8,
    Release: 9,
    Report: 10,
    ForceRelease: 11,
    Place: 12,
    AddVoter: 13,
    RemoveVoter: 14,
    RaiseProtocol: 15,
    EndRecovery: 16,
    SaveCheckpoints: 17,
    PauseResources: 18,
    ResumeResources: 19,
    GiveUp: 20,
    EndQuarantine: 21,
    Publish: 22,
    ClaimDeliveries: 23,
    SettleDeliveries: 24,
    ReplayDeliveries: 25,
    ForgetPublished: 26,
    RaiseWatermark: 27,
    SetBudget: 30,
    TakePermits: 31,
    HoldBack: 32,
    EndHoldback: 33,
    EndHour: 34,
    ReturnPermits: 35,
}

_RENEWAL = bytes((0x93, _NUMBERS[Renew]))
_VOTERS_CHANGES = (bytes((0x93, _NUMBERS[AddVoter])), bytes((0x93, _NUMBERS[RemoveVoter])))

_encoder = msgspec.msgpack.Encoder()


class _Voter(msgspec.Struct):
    name: str


_voter_decoder = msgspec.msgpack.Decoder(_Voter)
_raw_decoder = msgspec.msgpack.Decoder(list[msgspec.Raw])
_entry_decoder = msgspec.msgpack.Decoder(list[tuple[int, RequestId | None, msgspec.Raw]])
_command_decoders: dict[int, msgspec.msgpack.Decoder[Any]] = {
    number: msgspec.msgpack.Decoder(command) for command, number in _NUMBERS.items()
}


def encode_request(request: Request) -> bytes:
    """One request, to be put into an entry by `encode_entry`."""
    return _encoder.encode((_NUMBERS[type(request.command)], request.id, request.command))


def encode_command(command: Command) -> bytes:
    """
    What `request_of` takes: its number, below 128, and the command.

    Raises:
        CodecError: It holds what nobody could read again, such as a number where a name belongs. Nothing checks that
            when a command is made, and once in the log it would stop every replica.
    """
    number = _NUMBERS[type(command)]
    try:
        encoded = _encoder.encode(command)
        _command_decoders[number].decode(encoded)
    except (*UNREADABLE, UnicodeEncodeError, TypeError, OverflowError) as error:
        raise CodecError(f"{type(command).__name__} cannot be written to the log: {error}") from error
    return number.to_bytes() + encoded


def encoded_bytes(part: object) -> int:
    """How many bytes *part*, of a command, is in it."""
    return len(_encoder.encode(part))


def request_of(command: bytes, id: RequestId) -> bytes:
    """What `encode_request` makes, of what `encode_command` made: a long command is not encoded twice."""
    return _encoder.encode((command[0], id, msgspec.Raw(memoryview(command)[1:])))


def encode_entry(requests: Iterable[bytes]) -> bytes:
    """One entry of the log, of what `encode_request` made; its requests are applied in order."""
    return _encoder.encode([msgspec.Raw(request) for request in requests])


def decode_entry(data: bytes) -> list[Request]:
    """
    Read `encode_entry`'s bytes.

    Raises:
        UnknownCommand: It holds a command of a newer version.
        CodecError: It holds something that cannot be read. Neither must be skipped.
    """
    try:
        return [Request(_decode_command(number, raw), id) for number, id, raw in _entry_decoder.decode(data)]
    except UNREADABLE as error:
        raise CodecError(f"an entry of the log cannot be read: {error}") from error


# A request is an array of three, whose first is a number below 128; so is an entry of one request, in an array of one.


def is_renewal(request: bytes) -> bool:
    """Whether what `encode_request` made is a Renew."""
    return request[:2] == _RENEWAL


def is_participants(request: bytes) -> bool:
    """Whether what `encode_request` made has no id: a participant's own, which a lease may depend on."""
    return request[2:3] == b"\xc0"


def is_voters_change(request: bytes) -> bool:
    """Whether what `encode_request` made changes who votes; such a one is to be alone in its entry."""
    return request[:2] in _VOTERS_CHANGES


def changes_voters(entry: bytes) -> bool:
    """Whether *entry* changes who votes."""
    return entry[:1] == b"\x91" and entry[1:3] in _VOTERS_CHANGES


def voter_to_change(entry: bytes) -> tuple[str, bool]:
    """Whose vote an entry that `changes_voters` is about, and whether it goes away."""
    ((number, _, raw),) = _entry_decoder.decode(entry)
    return _voter_decoder.decode(raw).name, bytes((0x93, number)) == _VOTERS_CHANGES[1]


def split_entry(entry: bytes) -> list[bytes]:
    """
    The requests in *entry*, as `encode_request` made them.

    Raises:
        ValueError: It holds what `decode_entry` cannot read: once in the log, that would stop every replica.
    """
    try:
        decode_entry(entry)
        return [bytes(raw) for raw in _raw_decoder.decode(entry)]
    except (CodecError, *UNREADABLE) as error:
        raise ValueError(str(error)) from error


def _decode_command(number: int, raw: msgspec.Raw) -> Command:
    decoder = _command_decoders.get(number)
    if decoder is None:
        raise UnknownCommand(f"command {number} is of a newer version of pydrm")
    command: Command = decoder.decode(raw)
    return command


# --- resources -------------------------------------------------------------------------------------------------------

# Sorted, so that equal definitions are equal bytes whatever order their fields were written in.
_canonical = msgspec.msgpack.Encoder(order="sorted")
_fields_decoder: msgspec.msgpack.Decoder[dict[str, Any]] = msgspec.msgpack.Decoder(dict[str, Any])


def definition_of(resource: Resource, *, topics: tuple[str, ...] = (), group: str = "") -> Definition:
    """
    *resource* as the cluster keeps it.

    Raises:
        InvalidResource: Its free fields are more than `FIELDS_BYTES_MAX` bytes together.
    """
    fields = _canonical.encode(dict(resource.fields))
    if len(fields) > FIELDS_BYTES_MAX:
        largest = max(resource.fields, key=lambda name: len(_canonical.encode(resource.fields[name])))
        message = f"all fields together are {len(fields)} bytes, more than {FIELDS_BYTES_MAX}; this is the largest"
        raise InvalidResource(message, resource=resource.id, field=largest)
    return Definition(resource.id, resource.kind, fields, resource.weight, resource.overlap, topics=topics, group=group)


def resource_of(definition: Definition) -> Resource:
    """The resource that *definition* was made of."""
    fields = _fields_decoder.decode(definition.fields)
    return Resource.as_kept(definition.id, definition.kind, definition.weight, definition.overlap, fields)


# --- checkpoints ------------------------------------------------------------------------------------------------------


def encode_checkpoint(value: object) -> bytes:
    """
    What `decode_checkpoint` reads: JSON values, and bytes.

    Raises:
        TypeError: It holds something else.
    """
    return _encoder.encode(value)


def decode_checkpoint(data: bytes) -> Any:
    """What a holder saved; as with JSON, a tuple comes back as a list."""
    return msgspec.msgpack.decode(data)


# --- small files -----------------------------------------------------------------------------------------------------


def encode_json(value: object) -> bytes:
    """For files that people read."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def decode_json(data: bytes, type: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=type)
    except UNREADABLE as error:
        raise CodecError(str(error)) from error
