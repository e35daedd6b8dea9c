"""
Guards S1, S4 and S5 as what they are: functions of a message and the log.

A log is written as its terms: `log(1, 1, 2)` has entries 1 and 2 of term 1 and entry 3 of term 2.
"""

from __future__ import annotations

import pytest

from pydrm.engine.frames import Append, NextIndex
from pydrm.engine.guards import LogDiverged, acceptable, back_to_commit, of_this_term, only_news, proved_only
from pydrm.engine.journal import Entry


def entry(index: int, term: int) -> Entry:
    return (b"\x00%d in %d" % (index, term), index, term)


def log(*terms: int) -> list[Entry]:
    return [entry(index, term) for index, term in enumerate(terms, start=1)]


def append(previous: int, previous_term: int, *terms: int, commit_index: int = 1, term: int = 9) -> Append:
    """A message with entries of these terms behind entry *previous*."""
    entries = tuple(entry(index, of) for index, of in enumerate(terms, start=previous + 1))
    return Append(term, commit_index, previous, previous_term, entries)


def answer(next_index: int, *, reset: bool = False, term: int = 9) -> NextIndex:
    return NextIndex(term, next_index, reset, not reset)


# --- S1: nothing is cut without a conflict ---------------------------------------------------------------------------


def test_a_heartbeat_at_the_end_of_the_log_goes_through_as_it_is():
    """There is nothing behind it that the core could cut."""
    heartbeat = append(3, 2, commit_index=3)

    assert only_news(log(1, 1, 2), heartbeat, 1) == (heartbeat, None)


def test_a_heartbeat_in_the_middle_of_the_log_cuts_nothing_and_proves_only_what_it_names():
    """
    It is moved to the end of the log; but the entries behind it may be another leader's, so neither the answer nor
    the commit index may cover them.
    """
    heartbeat = append(2, 1, commit_index=5)

    assert only_news(log(1, 1, 2, 2), heartbeat, 1) == (append(4, 2, commit_index=2), 2)


def test_new_entries_at_the_end_go_through_as_they_are():
    """The usual case."""
    message = append(3, 2, 2, 2, commit_index=4)

    assert only_news(log(1, 1, 2), message, 1) == (message, None)


def test_entries_that_are_there_already_are_left_out():
    """A message that came twice proves that the log is right up to there, and no more."""
    message = append(1, 1, 1, 2, commit_index=3)

    assert only_news(log(1, 1, 2), message, 1) == (append(3, 2, commit_index=3), None)


def test_a_duplicate_does_not_cut_what_came_after_it():
    """The entries behind it were acknowledged, and may be committed: defect S1 lost them."""
    message = append(1, 1, 1, 2, commit_index=5)

    assert only_news(log(1, 1, 2, 2, 2), message, 5) == (append(5, 2, commit_index=3), 3)


def test_of_a_partial_overlap_only_the_new_entries_are_left():
    """They go behind the last one that is known."""
    message = append(1, 1, 1, 2, 2, 3, commit_index=4)

    assert only_news(log(1, 1, 2), message, 1) == (append(3, 2, 2, 3, commit_index=4), None)


def test_a_conflict_cuts_from_the_first_entry_that_differs():
    """What is before it stays, although the message has it too."""
    message = append(1, 1, 1, 4, 4, commit_index=2)

    assert only_news(log(1, 1, 2, 2, 2), message, 2) == (append(2, 1, 4, 4, commit_index=2), None)


def test_a_conflict_with_what_is_committed_is_no_message_to_follow():
    """Either this log or the leader's is wrong; the node must stop rather than forget what was acknowledged."""
    message = append(1, 1, 1, 4)

    with pytest.raises(LogDiverged, match="entry 3 differs from the leader's, and 3 are committed"):
        only_news(log(1, 1, 2, 2), message, 3)


def test_a_conflict_right_behind_what_is_committed_is_cut():
    """That is what conflicts are for."""
    message = append(2, 1, 4)

    assert only_news(log(1, 1, 2, 2), message, 2) == (message, None)


@pytest.mark.parametrize(
    "message",
    [
        append(5, 2, 2),  # a gap
        append(3, 1, 2),  # another previous term
        append(0, 0, 1),  # before the first entry
    ],
)
def test_a_message_that_does_not_fit_goes_to_the_core_as_it_is(message: Append):
    """It answers that it cannot use it, and touches nothing."""
    assert only_news(log(1, 1, 2), message, 3) == (message, None)


def test_a_log_that_does_not_begin_at_1_is_read_by_its_indexes():
    """An index is not a place in a list."""
    shortened = [entry(11, 1), entry(12, 1), entry(13, 2)]
    message = append(11, 1, 1, 2, 3, commit_index=12)

    assert only_news(shortened, message, 12) == (append(13, 2, 3, commit_index=12), None)
    assert only_news(shortened, append(11, 1, 1), 11) == (append(13, 2), 12)


def test_every_message_of_the_same_log_leaves_all_of_it_in_place():
    """Whatever part of its log a leader sends again, in whatever order: nothing is cut and nothing doubled."""
    terms = (1, 1, 2, 2, 4)
    for have in range(1, len(terms) + 1):
        mine = log(*terms[:have])
        for previous in range(1, have + 1):
            for last in range(previous, len(terms) + 1):
                message = append(previous, terms[previous - 1], *terms[previous:last])
                passed, proved = only_news(mine, message, have)
                assert mine[: passed.previous_index] == mine
                assert [*mine, *passed.entries] == log(*terms[: max(have, last)])
                assert (proved or max(have, last)) == last


@pytest.mark.parametrize(("next_index", "proved", "told"), [(6, None, 6), (6, 3, 4), (4, 3, 4), (2, 3, 2)])
def test_no_more_is_acknowledged_than_was_proved(next_index: int, proved: int | None, told: int):
    """The core acknowledges all of its log; the leader counts that as its own entries."""
    assert proved_only(answer(next_index), proved) == answer(told)


# --- S4: one reset is enough -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "commit_index", "last_index", "told"),
    [
        (100, 7, 99, 8),  # the core asks for what follows the end of a log that has diverged
        (3, 7, 99, 8),  # and steps back one by one
        (100, 7, 5, 6),  # a commit index that was heard of before its entries
    ],
)
def test_who_cannot_use_a_message_asks_for_all_behind_what_is_committed(
    asked: int, commit_index: int, last_index: int, told: int
):
    """That far the logs are equal for certain, so the next message can be used."""
    assert back_to_commit(answer(asked, reset=True), commit_index, last_index) == answer(told, reset=True)


def test_an_acknowledgement_is_not_set_back():
    """It says what is there."""
    assert back_to_commit(answer(100), 7, 99) == answer(100)


# --- S5: an answer is to one leader ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("term", "believed"), [(3, False), (4, True), (5, False)])
def test_only_an_answer_of_this_term_is_believed(term: int, believed: bool):
    """What a node acknowledged to an earlier leader may have been cut off since."""
    assert of_this_term(answer(10, term=term), 4) is believed


# --- what may be in an entry -----------------------------------------------------------------------------------------


def test_only_plain_commands_and_no_ops_are_acceptable():
    """PySyncObj would unpickle and act on changes of members and versions."""
    assert [kind for kind in range(256) if acceptable(bytes([kind]) + b"...")] == [0, 1]
    assert not acceptable(b"")
