"""
The codec: what goes in comes out, and whatever else comes in is refused with `CodecError`, and only with it.
"""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pydrm.core.budget_commands import (
    EndHoldback,
    EndHour,
    HoldBack,
    Return,
    ReturnPermits,
    SetBudget,
    Take,
    TakePermits,
)
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
from pydrm.core.handle_commands import (
    Failure,
    GiveUp,
    Handle,
    HandleReport,
    RaiseWatermark,
    Release,
    Report,
    Save,
    SaveCheckpoints,
)
from pydrm.core.ledger_commands import (
    Claim,
    ClaimDeliveries,
    ForgetPublished,
    Publish,
    Publisher,
    ReplayDeliveries,
    SettleDeliveries,
    Settlement,
    Verdict,
)
from pydrm.core.records import Condition, Definition, Role
from pydrm.core.resource import FIELDS_BYTES_MAX, Resource
from pydrm.core.settings import Voter
from pydrm.engine.codec import (
    CodecError,
    UnknownCommand,
    decode_entry,
    decode_json,
    definition_of,
    encode_command,
    encode_entry,
    encode_json,
    encode_request,
    request_of,
    resource_of,
    split_entry,
)
from pydrm.engine.frames import (
    Append,
    Forward,
    Frame,
    Hello,
    Mail,
    NextIndex,
    Ping,
    PreVote,
    PreVoteAnswer,
    Refusal,
    RequestVote,
    SnapshotDone,
    SnapshotOffer,
    SnapshotPiece,
    SnapshotWant,
    StateDigest,
    TimeoutNow,
    Vote,
    decode_frame,
    encode_frame,
)
from pydrm.errors import InvalidResource

COMMANDS: list[Command] = [
    Form("orders-1", (Voter("a", "replica-a", "a.example:7000"), Voter("b", "replica-b")), 2000),
    Join("a", "nonce", 3, 2000, "directory", "a.example:7000", 2, Role.WORKER),
    Renew("a", 4, 2**40, 2000),
    Expire("a", 4, 7),
    Drain("a", 4),
    Resign("a", 4),
    AddResources(
        (Definition("trädes", "websocket", b"\x80\xff", 7, True), Definition("x", "custom", b"", topics=("a.*",))), True
    ),
    AddResources((Definition("x", "custom", b"", source="feed"),), source=Handle("feed", 0, 11)),
    AddResources((Definition("x", "custom", b"", group="g"),)),
    RemoveResources(("one", "two")),
    RemoveResources(("one",), Handle("feed", 0, 11)),
    Release("a", 4, (Handle("one", 0, 11), Handle("two", 1, 12, b"last", True))),
    Report("a", 4, tuple(HandleReport("one", 0, 11, condition, "why") for condition in Condition)),
    ForceRelease("one", 0, 11, "it is stuck"),
    Place(),
    AddVoter("d", "replica-d", "d.example:7000", 4),
    RemoveVoter("d", "replica-d", 5),
    RaiseProtocol(2),
    EndRecovery("orders-1"),
    SaveCheckpoints("a", 4, (Save("one", 0, 11, b"\x00value"),)),
    PauseResources(("one", "two"), "maintenance"),
    ResumeResources(("one",)),
    GiveUp("a", 4, (Failure("one", 0, 11, "refused"),), 60_000),
    EndQuarantine("one", 12),
    Publish("evt_1", "a.b", b"\x00{}", "application/json", True, Publisher("one", 0, 11)),
    ClaimDeliveries("a", 4, (Claim("one", 0, 11, 77, 2, True),)),
    SettleDeliveries("a", 4, tuple(Settlement("one", 11, 77, 2, verdict, 5000, "why") for verdict in Verdict)),
    ReplayDeliveries((("one", 77),)),
    ForgetPublished(70),
    RaiseWatermark("a", 4, 1_800_000_000_123),
    SetBudget("api.example.com", 2.5, 10, 100.0, 300),
    SetBudget("api.example.com", connections=10, if_absent=True),
    TakePermits("a", 4, (Take("one", 0, 11, "api.example.com"), Take("two", 1, 12, "api.example.com", True))),
    HoldBack("a", 4, "api.example.com", 30_000, "429"),
    EndHoldback("api.example.com", 13),
    EndHour("api.example.com", 14),
    ReturnPermits("a", 4, (Return("one", 0, 11, 3),)),
]

# For ever: whoever changes one of these makes the logs of all clusters unreadable.
NUMBERS = {
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

FRAMES: list[Frame] = [
    Hello(
        3,
        "orders",
        "a",
        "voter",
        "replica-a",
        "orders-1",
        3,
        "nonce",
        "a:7000",
        ("a", "b"),
        (("a", "replica-a"),),
        7,
        2,
    ),
    Refusal("no"),
    Ping(),
    RequestVote(4, 100, 3),
    Vote(4),
    Append(4, 90, 99, 3, ((b"\x00command", 100, 4), (b"\x01", 101, 4))),
    NextIndex(4, 102, True, False),
    Forward(b"\x00command"),
    PreVote(4, 100, 3),
    PreVoteAnswer(4, True),
    SnapshotOffer(4, 100, 3, 1000),
    SnapshotWant(4, 100, 500),
    SnapshotPiece(4, 100, 500, b"piece"),
    SnapshotDone(4, 100, "no room"),
    TimeoutNow(4),
    StateDigest(256, "0f"),
    Mail("a", "b", 7, True, 4, 0, b"\x00abc", "no way"),
]

hostile = [
    b"",
    b"\xc1",
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\x91" * 100_000,
    b"\x81\xa1a" * 100_000,
    b"\x92\x02\xa1\xff",
    b"\x92\x0e\xc4\x01\x00tail",
    b"\x91\x93\x0c\xc0" + b"\x91" * 100_000,
]


def name_of(value: object) -> str:
    return type(value).__name__


# --- entries of the log ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS, ids=name_of)
def test_a_command_comes_out_as_it_went_in(command: Command):
    """With its request id, and without."""
    requests = [Request(command), Request(command, RequestId("a", 4, 2**40, 17))]

    assert decode_entry(encode_entry(map(encode_request, requests))) == requests


@pytest.mark.parametrize("command", COMMANDS, ids=name_of)
def test_a_request_made_of_an_encoded_command_is_the_same(command: Command):
    """Byte for byte: nobody can tell in which of the two ways it was made."""
    id = RequestId("a", 4, 2**40, 17)

    assert request_of(encode_command(command), id) == encode_request(Request(command, id))


@pytest.mark.parametrize(
    "command",
    [
        RemoveResources((5,)),
        PauseResources(("r1",), None),
        PauseResources(("r1",), "half \ud800"),
        ForceRelease("r1", 0, 2**70, "stuck"),
        AddResources((Definition("r1", "k", b"", topics=(7,)),)),
        RemoveResources((object(),)),
    ],
    ids=lambda command: type(command).__name__,
)
def test_a_command_that_nobody_could_read_again_is_not_written(command: Command):
    """Once in the log it would stop every replica, for good."""
    with pytest.raises(CodecError, match=type(command).__name__):
        encode_command(command)


def test_each_command_has_the_number_that_it_always_had():
    """All commands that there are, each under its own number; nothing else is in the log."""
    written = {
        type(command): msgspec.msgpack.decode(encode_entry([encode_request(Request(command))]))[0][0]
        for command in COMMANDS
    }

    assert written == NUMBERS
    assert set(written) == set(get_args(Command))


def test_requests_of_one_entry_keep_their_order():
    """They are applied in order; an entry may also be empty."""
    requests = [Request(Drain("a", number)) for number in range(100)]

    assert decode_entry(encode_entry(map(encode_request, requests))) == requests
    assert decode_entry(encode_entry([])) == []


def test_a_command_without_a_field_that_has_a_default_is_read():
    """So a field can be added: what an older version wrote has none."""
    written = msgspec.msgpack.encode([(2, None, {"node": "a", "nonce": "n", "replaces": 0, "lease_ttl_ms": 2000})])

    assert decode_entry(written) == [Request(Join("a", "n", 0, 2000))]


def test_a_command_of_a_newer_version_is_refused_and_its_number_named():
    """It must not be skipped: the others will not skip it."""
    written = msgspec.msgpack.encode([(99, None, {})])

    with pytest.raises(UnknownCommand, match="command 99 is of a newer version of pydrm"):
        decode_entry(written)


@pytest.mark.parametrize(
    "entry",
    [
        None,
        {},
        [[]],
        [(5, None, {"node": "a"})],
        [(5, None, {"node": "a", "incarnation": "4"})],
        [(5, None, {"node": 4, "incarnation": 4})],
        [(10, None, {"node": "a", "incarnation": 4, "reports": [{"condition": "no such condition"}]})],
        [(5, {"node": "a"}, {"node": "a", "incarnation": 4})],
        [("5", None, {"node": "a", "incarnation": 4})],
    ],
)
def test_an_entry_of_another_shape_is_refused(entry: object):
    """Whatever is missing or of another type."""
    with pytest.raises(CodecError):
        decode_entry(msgspec.msgpack.encode(entry))


@pytest.mark.parametrize("data", hostile)
def test_a_hostile_entry_is_refused(data: bytes):
    """Lengths that lie, nesting without end, text that is none: an error, not a crash and not gigabytes."""
    with pytest.raises(CodecError):
        decode_entry(data)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.binary(max_size=200))
def test_an_entry_of_any_bytes_is_read_or_refused(data: bytes):
    """Nothing but CodecError comes out."""
    try:
        decode_entry(data)
    except CodecError:
        return


@settings(derandomize=True, deadline=None, max_examples=500)
@given(st.sampled_from(COMMANDS), st.data())
def test_a_damaged_entry_is_read_or_refused(command: Command, data: st.DataObject):
    """So close to a real one that it gets deep into the reading."""
    entry = bytearray(encode_entry([encode_request(Request(command, RequestId("a", 4, 20, 17)))]))
    for place in data.draw(st.lists(st.integers(0, len(entry) - 1), min_size=1, max_size=3)):
        entry[place] = data.draw(st.integers(0, 255))
    try:
        decode_entry(bytes(entry))
    except CodecError:
        return


def test_an_entry_is_split_into_its_requests_if_all_of_them_can_be_read():
    """ValueError, because it is a peer's fault: its link is closed."""
    requests = [encode_request(Request(Drain("a", 4))), encode_request(Request(Place()))]
    entry = encode_entry(requests)

    assert split_entry(entry) == requests
    for bad in (entry[:-1], b"\x00" + entry, b"", msgspec.msgpack.encode([(127, None, {})])):
        with pytest.raises(ValueError, match=r"an entry of the log|newer version"):
            split_entry(bad)


# --- frames ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frame", FRAMES, ids=name_of)
def test_a_frame_comes_out_as_it_went_in(frame: Frame):
    """From bytes, and from a view of a larger buffer."""
    data = encode_frame(frame)

    assert decode_frame(data) == frame
    assert decode_frame(memoryview(b"<" + data + b">")[1:-1]) == frame


def test_every_frame_that_there_is_was_tried():
    """The test of the test."""
    assert {type(frame) for frame in FRAMES} == set(get_args(Frame))


def test_a_hello_without_members_is_read():
    """A field at the end with a default may be left out."""
    fields = [1, 1, "orders", "a", "voter", "replica-a", "", 1, "nonce", "a:7000", ["a"]]

    assert decode_frame(msgspec.msgpack.encode(fields)) == Hello(
        1, "orders", "a", "voter", "replica-a", "", 1, "nonce", "a:7000", ("a",)
    )


def test_a_hello_of_a_wire_format_to_come_is_read():
    """It has fields that nobody knows here; what is wrong can be said only to whoever was understood."""
    fields = [1, 8, "orders", "a", "voter", "replica-a", "", 1, "nonce", "a:7000", ["a"], [], 0, 7, "new", {"newer": 1}]

    assert decode_frame(msgspec.msgpack.encode(fields)) == Hello(
        8, "orders", "a", "voter", "replica-a", "", 1, "nonce", "a:7000", ("a",), oldest_version=7
    )


@pytest.mark.parametrize("fields", [[99, 1], [10, 1, 2], [10, 1, 2, "3"], [12, 1, 1, 1, 1, [["text", 1, 1]]], [], {}])
def test_a_frame_of_another_shape_is_refused(fields: object):
    """An unknown number, a field that is missing, or of another type."""
    with pytest.raises(CodecError, match="a frame cannot be read"):
        decode_frame(msgspec.msgpack.encode(fields))


@pytest.mark.parametrize("data", hostile)
def test_a_hostile_frame_is_refused(data: bytes):
    """Anybody who can connect can send these."""
    with pytest.raises(CodecError, match="a frame cannot be read"):
        decode_frame(data)


@settings(derandomize=True, deadline=None, max_examples=500)
@given(st.binary(max_size=200))
@example(b"\x9a\x01" + b"\xff" * 60)
def test_a_frame_of_any_bytes_is_read_or_refused(data: bytes):
    """Nothing but CodecError comes out."""
    try:
        decode_frame(data)
    except CodecError:
        return


@settings(derandomize=True, deadline=None, max_examples=500)
@given(st.sampled_from(FRAMES), st.data())
def test_a_damaged_frame_is_read_or_refused(frame: Frame, data: st.DataObject):
    """So close to a real one that it gets deep into the reading."""
    written = bytearray(encode_frame(frame))
    for place in data.draw(st.lists(st.integers(0, len(written) - 1), min_size=1, max_size=3)):
        written[place] = data.draw(st.integers(0, 255))
    try:
        decode_frame(bytes(written))
    except CodecError:
        return


# --- resources -------------------------------------------------------------------------------------------------------


def test_a_resource_comes_out_of_its_definition_as_it_went_in():
    """With all its fields, whatever JSON they are."""
    resource = Resource(
        "trädes", kind="websocket", weight=7, overlap=True, url="wss://x", headers={"a": [1, 2.5, None, True, "ü"]}
    )

    definition = definition_of(resource)

    assert (definition.id, definition.kind, definition.weight, definition.overlap) == ("trädes", "websocket", 7, True)
    assert resource_of(definition) == resource


def test_equal_resources_have_equal_definitions_whatever_the_order_of_their_fields():
    """Otherwise adding the same again would close and open it."""
    one = Resource("x", kind="custom", b=1, a={"d": [{"f": 1, "e": 2}], "c": 2})
    other = Resource("x", kind="custom", a={"c": 2, "d": [{"e": 2, "f": 1}]}, b=1)

    assert definition_of(one) == definition_of(other)


def test_what_is_too_large_names_the_largest_field():
    """That one should be looked at first."""
    resource = Resource("x", kind="custom", small="a", large="b" * FIELDS_BYTES_MAX, middle="c" * 100)

    with pytest.raises(InvalidResource, match=f"more than {FIELDS_BYTES_MAX}; this is the largest") as refusal:
        definition_of(resource)
    assert (refusal.value.resource, refusal.value.field) == ("x", "large")


def test_what_just_fits_is_kept():
    """The limit is of all fields together, in bytes as they are kept."""
    room = FIELDS_BYTES_MAX - len(definition_of(Resource("x", kind="custom", text="b" * 60000)).fields) + 60000

    assert len(definition_of(Resource("x", kind="custom", text="b" * room)).fields) == FIELDS_BYTES_MAX
    with pytest.raises(InvalidResource):
        definition_of(Resource("x", kind="custom", text="b" * (room + 1)))


# --- small files -----------------------------------------------------------------------------------------------------


def test_json_for_people_comes_out_as_it_went_in():
    """Indented, with a line end."""
    value = {"name": "ä", "members": {"a": "1"}}

    assert encode_json(value) == '{\n  "name": "ä",\n  "members": {\n    "a": "1"\n  }\n}\n'.encode()
    assert decode_json(encode_json(value), dict) == value


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b'{"a": "b"}', b'{"a": "\xff"}', b"[" * 100_000])
def test_json_of_another_shape_is_refused(data: bytes):
    """A damaged file is somebody's to mend, not a bug."""
    with pytest.raises(CodecError):
        decode_json(data, dict[str, int])


@pytest.mark.parametrize("data", [b'{"a": "\xff"}', b'{"a": ' + b"[" * 100_000])
def test_json_whose_text_is_none_or_that_is_nested_without_end_is_refused(data: bytes):
    """Damage of a disk can look like anything."""
    with pytest.raises(CodecError):
        decode_json(data, dict[str, object])
