"""How far a stream was read, and what of it was cut off since."""

from __future__ import annotations

from typing import Any

import pytest

from pydrm.handlers.redis.position import NONE, Mark, StreamInfo, StreamPosition

TEN = StreamInfo(first="8-0", last="10-0", length=3, added=10)
UNCOUNTED = StreamInfo(first="8-0", last="10-0", length=3, added=0)


@pytest.mark.parametrize(
    ("info", "mark", "cut_off"),
    [
        (TEN, Mark("10-0", 10), 0),
        (TEN, Mark("8-0", 8), 0),
        (TEN, Mark("7-0", 7), 0),
        (TEN, Mark("5-0", 5), 2),
        (TEN, Mark(NONE, 0), 7),
        (TEN, Mark(NONE, 7), 0),
        (TEN, Mark("5-0", 0), -1),
        (UNCOUNTED, Mark("5-0", 0), -1),
        (UNCOUNTED, Mark("9-0", 0), 0),
        (UNCOUNTED, Mark(NONE, 0), 0),
        (StreamInfo(first="", last="10-0", length=0, added=10), Mark("9-0", 9), 1),
        (StreamInfo(first="", last="10-0", length=0, added=10), Mark("10-0", 10), 0),
    ],
)
def test_what_was_cut_off_unread_is_counted_as_far_as_the_server_counts(
    info: StreamInfo, mark: Mark, cut_off: int
) -> None:
    assert info.cut_off(mark) == cut_off


def test_ids_are_compared_as_numbers() -> None:
    info = StreamInfo(first="9-2", last="10-11", length=5, added=5)

    assert not info.is_another(Mark("10-9", 4))
    assert info.is_another(Mark("100-0", 4))


@pytest.mark.parametrize(("start", "mark"), [("$", Mark("10-0", 10)), ("0", Mark(NONE, 7)), ("9-0", Mark("9-0", 0))])
def test_where_a_new_resource_begins(start: str, mark: Mark) -> None:
    assert TEN.mark(start) == mark


@pytest.mark.parametrize(
    "checkpoint",
    [None, b"bytes", [], {"definition": "other", "marks": {"s": ["1-0", 1]}}, {"definition": "d", "marks": {"s": "1"}},
     {"definition": "d", "marks": {"s": ["x", 1]}}, {"definition": "d", "marks": 7}],
)  # fmt: skip
def test_a_checkpoint_that_cannot_be_used_marks_nothing(checkpoint: Any) -> None:
    assert StreamPosition.read(checkpoint, "d").marks == {}


def test_a_position_survives_its_checkpoint() -> None:
    position = StreamPosition("d", {"s": Mark("1-0", 1), "t": Mark(NONE, 0)})

    assert StreamPosition.read(position.to_json(), "d") == position
