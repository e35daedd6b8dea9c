"""Records: what was written before a field was added is read after it, and what was written after it before."""

from __future__ import annotations

import gc

import msgspec
import pytest
from msgspec import Struct, defstruct

from pydrm.core.answers import Done, Reason, Refused
from pydrm.core.records import Definition
from pydrm.core.sessions import Floor, Remembered
from tests.core.build import opening_at_b


def one_of_each() -> list[Struct]:
    """A record of each kind, with something in every place that can hold something."""
    house = opening_at_b()
    house.force("r1")
    state = house.state
    assert state.settings is not None
    return [
        state.settings,
        house.record("r2").definition,
        house.record("r2"),
        house.assignment("r2"),
        house.assignment("r1"),
        house.claim("r2"),
        state.nodes["a"],
        state.audit[1],
        Floor(("a", 1), 7),
        Remembered(("a", 1), 8, Done(missing=("r1",))),
        Remembered(("a", 1), 9, Refused(Reason.STALE, "why")),
        Done(number=3),
        Done(foreign=("r1",)),
        Definition("r1", "websocket", b"", source="feed"),
        Refused(Reason.BUG),
    ]


EACH = pytest.mark.parametrize("record", one_of_each(), ids=lambda record: type(record).__name__)


def with_a_field_more(kind: type[Struct]) -> type[Struct]:
    """The same record as a later version might have it."""
    config = kind.__struct_config__
    return defstruct(
        kind.__name__,
        [("zone", str, "anywhere")],
        bases=(kind,),
        frozen=True,
        gc=False,
        array_like=config.array_like,
        omit_defaults=config.omit_defaults,
        tag=config.tag,
    )


@EACH
def test_a_record_is_read_back_equal(record: Struct):
    """From the bytes that a snapshot keeps."""
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(record), type=type(record)) == record


@EACH
def test_a_later_version_with_a_field_more_reads_what_an_earlier_one_wrote(record: Struct):
    """The new field, which must be the last and have a default, then has its default."""
    later = with_a_field_more(type(record))

    read = msgspec.msgpack.decode(msgspec.msgpack.encode(record), type=later)

    assert read.zone == "anywhere"  # type: ignore[attr-defined]
    assert [getattr(read, name) for name in record.__struct_fields__] == list(msgspec.structs.astuple(record))


@EACH
def test_an_earlier_version_reads_what_one_with_a_field_more_wrote(record: Struct):
    """It does not know the field, and as long as nobody uses it that makes no difference."""
    newer = with_a_field_more(type(record))(*msgspec.structs.astuple(record), "west")

    assert msgspec.msgpack.decode(msgspec.msgpack.encode(newer), type=type(record)) == record


@EACH
def test_the_collector_does_not_see_a_record(record: Struct):
    """There may be a million of each."""
    assert not gc.is_tracked(record)


def test_definitions_share_the_name_of_their_kind():
    """A million resources are of a few kinds, and each is decoded with a string of its own."""
    written = msgspec.msgpack.encode(Definition("r1", "websocket", b""))

    one, other = (msgspec.msgpack.decode(written, type=Definition) for _ in range(2))

    assert one.kind is other.kind
