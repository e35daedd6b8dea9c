"""
`Complaints`: once in the log, always in the status, and nothing that a terminal obeys.
"""

from __future__ import annotations

import logging

import pytest

from pydrm.engine.complaints import Complaints


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return self.now()

    async def sleep(self, seconds: float) -> None:
        raise AssertionError


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_what_is_still_so_is_said_once_a_minute(clock: Clock, caplog: pytest.LogCaptureFixture):
    """Another reason, or another node, is another line."""
    complaints = Complaints(clock)
    for second in range(130):
        clock.time = 1000.0 + second
        complaints.say(("b", "why"), "refused b: why")
    complaints.say(("b", "another"), "refused b: another")
    complaints.say(("c", "why"), "refused c: why")

    assert caplog.messages == ["refused b: why"] * 3 + ["refused b: another", "refused c: why"]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_strangers_that_make_up_names_get_so_many_lines_a_minute(clock: Clock, caplog: pytest.LogCaptureFixture):
    """A log is on somebody's disk."""
    complaints = Complaints(clock)
    for number in range(10_000):
        complaints.say((f"name {number}", "why"), f"refused {number}")
    first = len(caplog.messages)
    clock.time += 61
    complaints.say(("b", "why"), "refused b")

    assert first == 256
    assert caplog.messages[-1] == "refused b"


def test_what_a_stranger_says_is_cut_and_cannot_begin_a_line(clock: Clock, caplog: pytest.LogCaptureFixture):
    """Nor move the cursor, in the log or where the status is shown."""
    complaints = Complaints(clock)
    text = "refused b: \n2031-01-01 ERROR all is lost\x1b[2J" + "x" * 20_000
    complaints.say(("b", "why"), text)
    complaints.note("b", text)

    for shown in (caplog.messages[0], complaints.newest):
        assert shown.startswith("refused b: ?2031-01-01 ERROR all is lost?[2Jxxx")
        assert len(shown) == 500


def test_the_status_has_the_newest_that_is_not_settled(clock: Clock):
    """Whatever the log has said already."""
    complaints = Complaints(clock)
    complaints.note("b", "b is wrong")
    complaints.note("c", "c is wrong")
    complaints.note("b", "b is still wrong")
    seen = [complaints.newest, "b" in complaints]
    complaints.settled("b")
    seen += [complaints.newest, "b" in complaints]
    complaints.settled("b")
    complaints.settled("c")
    seen.append(complaints.newest)

    assert seen == ["b is still wrong", True, "c is wrong", False, ""]
