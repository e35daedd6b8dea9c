"""The judge is judged: hand-written diaries, and what they prove."""

from __future__ import annotations

import math

import pytest

from pydrm.testing.diary import Diary, Event, Gap, Move, Overlap, Stay, What


def diary(*stays: tuple[str, str, int, float, float]) -> Diary:
    """(resource, node, token, from, until): connections numbered from 1, told in order of time."""
    events = []
    for number, (resource, node, token, from_s, until_s) in enumerate(stays, 1):
        events.append(Event(from_s, What.CONNECTED, number, resource, node, token))
        if until_s < math.inf:
            events.append(Event(until_s, What.DISCONNECTED, number, resource, node, token))
    return Diary(sorted(events, key=lambda event: (event.at_s, event.what is What.CONNECTED)))


FOREVER = math.inf


# Events


@pytest.mark.parametrize(
    "event",
    [
        Event(12.5, What.CONNECTED, 1, "r1", "a", 7),
        Event(12.5, What.DISCONNECTED, 1, 'a "quoted" id / ü', "b", 0),
        Event(12.5, What.MESSAGE, 1, "r1", "a", 7, "two\nlines"),
    ],
)
def test_an_event_is_one_line_and_reads_back_equal(event: Event) -> None:
    line = event.to_line()

    assert "\n" not in line
    assert Event.from_line(line) == event


def test_messages_are_kept_by_resource_and_are_no_connections() -> None:
    told = diary(("r1", "a", 1, 0, FOREVER))
    message = Event(1, What.MESSAGE, 1, "r1", "a", 1, "hello")

    told.record(message)

    assert told.messages("r1") == [message]
    assert told.messages("r2") == []
    assert len(told.stays()) == 1


# Who holds what


def test_a_stay_covers_its_beginning_and_not_its_end() -> None:
    """So that one that ends and one that begins at the same moment are not both there."""
    stay = Stay(1, "r1", "a", 1, 2.0, 3.0)

    assert [stay.covers(moment) for moment in (1.9, 2.0, 2.9, 3.0)] == [False, True, True, False]


def test_held_tells_who_is_connected_at_a_moment_and_now() -> None:
    told = diary(("r1", "a", 1, 0, 5), ("r1", "b", 2, 7, FOREVER), ("r2", "a", 3, 1, FOREVER))

    assert {resource: [stay.node for stay in stays] for resource, stays in told.held(2).items()} == {
        "r1": ["a"],
        "r2": ["a"],
    }
    assert set(told.held(6)) == {"r2"}
    assert {resource: [stay.node for stay in stays] for resource, stays in told.held().items()} == {
        "r1": ["b"],
        "r2": ["a"],
    }


def test_loads_count_connections_and_name_nodes_that_have_none() -> None:
    told = diary(("r1", "a", 1, 0, FOREVER), ("r2", "a", 2, 0, FOREVER), ("r3", "b", 3, 0, 4))

    assert told.loads(["a", "b", "c"]) == {"a": 2, "b": 0, "c": 0}
    assert told.loads(at_s=3) == {"a": 2, "b": 1}


# Held twice


def test_a_resource_that_is_handed_over_without_touching_is_never_held_twice() -> None:
    told = diary(("r1", "a", 1, 0, 5), ("r1", "b", 2, 5, FOREVER))

    assert told.overlaps() == []


def test_an_overlap_lasts_from_the_second_beginning_to_the_first_end() -> None:
    told = diary(("r1", "a", 1, 0, 5.5), ("r1", "b", 2, 5, FOREVER))

    [overlap] = told.overlaps()

    assert overlap == Overlap(Stay(1, "r1", "a", 1, 0, 5.5), Stay(2, "r1", "b", 2, 5), 5, 5.5)
    assert overlap.seconds == 0.5
    assert str(overlap) == "r1 held by a (token 1) and b (token 2) for 500.0 ms"


def test_two_connections_by_one_node_for_one_resource_are_an_overlap_too() -> None:
    told = diary(("r1", "a", 1, 0, 5), ("r1", "a", 1, 4, FOREVER))

    assert [overlap.seconds for overlap in told.overlaps()] == [1]


def test_an_overlap_inside_a_longer_stay_is_found_and_so_is_one_that_lasts() -> None:
    told = diary(("r1", "a", 1, 0, FOREVER), ("r1", "b", 2, 2, 3), ("r1", "c", 3, 6, FOREVER))

    assert [(overlap.second.node, overlap.seconds) for overlap in told.overlaps()] == [("b", 1), ("c", FOREVER)]


def test_three_at_once_are_three_overlaps() -> None:
    told = diary(("r1", "a", 1, 0, 9), ("r1", "b", 2, 1, 9), ("r1", "c", 3, 2, 9))

    assert [overlap.seconds for overlap in told.overlaps()] == [8, 7, 7]


def test_overlaps_are_cut_to_the_window() -> None:
    told = diary(("r1", "a", 1, 0, 10), ("r1", "b", 2, 5, 10))

    assert told.overlaps(until_s=5) == []
    assert [overlap.seconds for overlap in told.overlaps(since_s=6, until_s=8)] == [2]
    assert told.overlaps(since_s=10) == []


# Held by nobody


def test_a_resource_that_is_held_all_the_time_has_no_gap() -> None:
    told = diary(("r1", "a", 1, 0, 5), ("r1", "b", 2, 5, FOREVER))

    assert told.gaps(["r1"], 1) == []


def test_a_gap_lasts_from_the_end_to_the_next_beginning() -> None:
    told = diary(("r1", "a", 1, 0, 5), ("r1", "b", 2, 7, FOREVER))

    assert told.gaps(["r1"], 1) == [Gap("r1", 5, 7)]


def test_a_gap_that_is_under_way_begins_with_the_window() -> None:
    told = diary(("r1", "a", 1, 0, 5), ("r1", "b", 2, 7, FOREVER))

    assert told.gaps(["r1"], 6) == [Gap("r1", 6, 7)]


def test_a_gap_that_has_not_ended_is_endless() -> None:
    """Whether the diary ends or the window does: nobody has taken it up in time."""
    told = diary(("r1", "a", 1, 0, 5), ("r1", "b", 2, 7, FOREVER), ("r2", "a", 3, 0, 5))

    assert told.gaps(["r1", "r2", "r3"], 1, until_s=6) == [
        Gap("r3", 1, FOREVER),
        Gap("r1", 5, FOREVER),
        Gap("r2", 5, FOREVER),
    ]
    assert told.gaps(["r1", "r2"], 1) == [Gap("r1", 5, 7), Gap("r2", 5, FOREVER)]


def test_each_gap_of_a_resource_counts_by_itself() -> None:
    told = diary(("r1", "a", 1, 0, 1), ("r1", "a", 1, 2, 3), ("r1", "b", 2, 5, FOREVER))

    assert [gap.seconds for gap in told.gaps(["r1"], 0)] == [1, 2]


def test_a_short_stay_within_a_longer_one_opens_no_gap() -> None:
    told = diary(("r1", "a", 1, 0, 10), ("r1", "b", 2, 2, 3), ("r1", "c", 3, 10, FOREVER))

    assert told.gaps(["r1"], 0) == []


def test_a_stay_that_begins_where_the_window_ends_does_not_help() -> None:
    told = diary(("r1", "a", 1, 0, 1), ("r1", "b", 2, 4, FOREVER))

    assert told.gaps(["r1"], 0, until_s=4) == [Gap("r1", 1, FOREVER)]


# Moves


def test_a_move_is_a_resource_that_turns_up_at_another_node() -> None:
    told = diary(
        ("r1", "a", 1, 0, 5),
        ("r1", "b", 2, 6, FOREVER),
        ("r2", "a", 3, 0, FOREVER),
        ("r3", "a", 4, 0, 5),
        ("r3", "a", 5, 6, FOREVER),
    )

    assert told.moves(1) == [Move("r1", "a", "b", 6)]


def test_there_and_back_is_two_moves() -> None:
    told = diary(("r1", "a", 1, 0, 5), ("r1", "b", 2, 6, 7), ("r1", "a", 3, 8, FOREVER))

    assert [(move.source, move.target) for move in told.moves(0)] == [("a", "b"), ("b", "a")]
    assert [(move.source, move.target) for move in told.moves(0, 8)] == [("a", "b")]


def test_opened_and_ended_name_the_connections_that_a_change_touched() -> None:
    told = diary(
        ("r1", "a", 1, 0, 5),
        ("r1", "b", 2, 6, FOREVER),
        ("r2", "b", 3, 0, FOREVER),
        ("r3", "c", 4, 0, 5.5),
    )

    assert [stay.connection for stay in told.opened(1)] == [2]
    assert [stay.connection for stay in told.ended(1)] == [1, 4]
    assert [stay.connection for stay in told.ended(1, nodes=["b", "c"])] == [4]
    assert told.ended(1, nodes=["b"]) == []
    assert told.ended(1, 5) == []


def test_stays_can_be_chosen_by_time_and_node() -> None:
    told = diary(("r1", "a", 1, 0, 5), ("r1", "b", 2, 6, FOREVER), ("r2", "b", 3, 0, 2))

    assert [stay.connection for stay in told.stays()] == [1, 3, 2]
    assert [stay.connection for stay in told.stays(since_s=5)] == [2]
    assert [stay.connection for stay in told.stays(nodes=["b"])] == [3, 2]


# All is well


def test_settled_is_the_moment_of_the_last_connection_that_was_missing() -> None:
    told = diary(("r1", "a", 1, 1, FOREVER), ("r2", "b", 2, 3, FOREVER))

    assert told.settled(["r1", "r2"], ["a", "b"], since_s=0) == 3
    assert told.settled(["r1", "r2"], ["a", "b"], since_s=4) == 4


@pytest.mark.parametrize(
    ("stays", "why"),
    [
        ([("r1", "a", 1, 1, FOREVER)], "r2 is unheld"),
        ([("r1", "a", 1, 1, FOREVER), ("r2", "b", 2, 1, 4)], "r2 was lost"),
        ([("r1", "a", 1, 1, FOREVER), ("r2", "b", 2, 1, FOREVER), ("r2", "a", 3, 2, FOREVER)], "r2 is held twice"),
        ([("r1", "a", 1, 1, FOREVER), ("r2", "x", 2, 1, FOREVER)], "x should hold nothing"),
        ([("r1", "a", 1, 1, FOREVER), ("r2", "a", 2, 1, FOREVER)], "two more than b"),
        ([("r1", "a", 1, 1, FOREVER), ("r2", "b", 2, 1, FOREVER), ("r3", "b", 3, 1, FOREVER)], "r3 is not wanted"),
    ],
)
def test_settled_is_never_while_anything_is_not_well(stays: list[tuple[str, str, int, float, float]], why: str) -> None:
    assert diary(*stays).settled(["r1", "r2"], ["a", "b"], since_s=0) == FOREVER, why


def test_settled_counts_from_the_last_disturbance() -> None:
    told = diary(
        ("r1", "a", 1, 1, 5),
        ("r2", "b", 2, 1, FOREVER),
        ("r1", "a", 3, 6, FOREVER),
        ("r2", "a", 4, 7, 8),
    )

    assert told.settled(["r1", "r2"], ["a", "b"], since_s=0) == 8


def test_three_resources_on_two_nodes_are_balanced_when_one_apart() -> None:
    told = diary(("r1", "a", 1, 1, FOREVER), ("r2", "b", 2, 1, FOREVER), ("r3", "b", 3, 1, FOREVER))

    assert told.settled(["r1", "r2", "r3"], ["a", "b"], since_s=0) == 1


# Tokens


def test_tokens_that_grow_with_each_holder_are_in_order() -> None:
    told = diary(("r1", "a", 1, 0, 5), ("r1", "b", 4, 6, 7), ("r1", "a", 5, 8, FOREVER), ("r2", "a", 2, 9, FOREVER))

    assert told.tokens_out_of_order() == []


def test_a_handle_may_connect_again_under_its_own_token() -> None:
    told = diary(("r1", "a", 3, 0, 5), ("r1", "a", 3, 6, FOREVER))

    assert told.tokens_out_of_order() == []


@pytest.mark.parametrize("late", [("b", 3), ("a", 2), ("b", 2)])
def test_a_token_that_was_used_by_another_or_is_lower_is_out_of_order(late: tuple[str, int]) -> None:
    node, token = late
    told = diary(("r1", "a", 3, 0, 5), ("r1", node, token, 6, FOREVER))

    assert [(first.token, second.token) for first, second in told.tokens_out_of_order()] == [(3, token)]


def test_a_former_holder_that_comes_back_is_out_of_order() -> None:
    told = diary(("r1", "a", 3, 0, 5), ("r1", "b", 4, 6, 9), ("r1", "a", 3, 7, FOREVER))

    assert [(first.node, second.node) for first, second in told.tokens_out_of_order()] == [("b", "a")]
