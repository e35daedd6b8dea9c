"""Topics: which patterns an event matches, and that a look-up finds what asking each pattern would find."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydrm.core.topics import TopicIndex, pattern_problem, topic_problem


def matches(pattern: list[str], topic: list[str]) -> bool:
    """AMQP 0-9-1, section 3.1.3.3, as one would write it down."""
    if not pattern:
        return not topic
    if pattern[0] == "#":
        return matches(pattern[1:], topic) or (bool(topic) and matches(pattern, topic[1:]))
    return bool(topic) and pattern[0] in ("*", topic[0]) and matches(pattern[1:], topic[1:])


MANY = 1000


@pytest.mark.parametrize(
    ("pattern", "topic", "wanted"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.b.c", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.b.c", False),
        ("*.b", "a.b", True),
        ("a.#", "a", True),
        ("a.#", "a.b.c", True),
        ("#", "a.b.c", True),
        ("#.c", "c", True),
        ("#.c", "a.b.c", True),
        ("#.c", "a.c.b", False),
        ("a.#.c", "a.c", True),
        ("a.#.*.c", "a.c", False),
        ("a.#.*.c", "a.b.b.c", True),
        ("#.#", "a", True),
    ],
)
def test_a_pattern_matches_as_with_amqp(pattern: str, topic: str, wanted: bool):
    """One word for a star, any number for a hash."""
    index = TopicIndex()
    index.put("r", [pattern])

    assert index.match(topic, MANY) == (["r"] if wanted else [])


WORDS = st.sampled_from(["a", "b"])
PATTERNS = st.lists(st.sampled_from(["a", "b", "*", "#"]), min_size=1, max_size=5)


@given(st.lists(PATTERNS, max_size=12), st.lists(WORDS, min_size=1, max_size=5), st.sets(st.integers(0, 11)))
def test_the_index_finds_what_asking_each_pattern_would(patterns: list[list[str]], topic: list[str], gone: set[int]):
    """Also after some have gone."""
    index = TopicIndex()
    for number, pattern in enumerate(patterns):
        index.put(f"r{number:02}", [".".join(pattern)])
    for number in gone:
        index.drop(f"r{number:02}")

    there = [(f"r{n:02}", pattern) for n, pattern in enumerate(patterns) if n not in gone]
    assert index.match(".".join(topic), MANY) == [name for name, pattern in there if matches(pattern, topic)]


def test_a_subscription_with_several_patterns_is_found_once():
    """However many of them match."""
    index = TopicIndex()
    index.put("r", ["a.b", "a.*", "#"])

    assert index.match("a.b", MANY) == ["r"]


@pytest.mark.parametrize("patterns", [["a.b"], ["a.*"], ["a.b", "*.b", "#"], ["#.b"]])
def test_more_than_are_asked_for_are_not_listed(patterns: list[str]):
    """Whether they want the very topic, or what it matches; each counts once."""
    index = TopicIndex()
    names = [f"r{number}" for number in range(6)]
    for number, name in enumerate(names):
        index.put(name, [patterns[number % len(patterns)]] if number else patterns)

    assert index.match("a.b", 6) == names
    assert index.match("a.b", 5) is None


def test_nothing_is_left_of_a_subscription_that_went():
    """A tree that only grows would be a leak."""
    index = TopicIndex()
    index.put("r", ["a.b.c", "a.*.#", "#"])
    index.put("r", ["x.*"])
    index.drop("r")

    assert index.match("a.b.c", MANY) == index.match("x.y", MANY) == []
    assert (index.patterns, index._exact, index._root.branches) == ({}, {}, {})


def test_many_hashes_cost_no_more_than_the_places_they_lead_to():
    """A tree of ways, most of which meet again."""
    index = TopicIndex()
    index.put("r", [".".join(["#", "a"] * 20)])

    assert index.match(".".join(["a"] * 100), MANY) == ["r"]


@pytest.mark.parametrize("topic", ["", "a..b", ".a", "a.", "a b", "a.*", "a.#", "a*b", "x" * 300, "a\nb"])
def test_what_nothing_can_be_published_under_is_said(topic: str):
    """In words that follow the topic."""
    assert topic_problem(topic) != ""


@pytest.mark.parametrize("pattern", ["", "a..b", "a*", "a.#b", "a b"])
def test_what_nobody_can_subscribe_to_is_said(pattern: str):
    """Stars and hashes are words of their own."""
    assert pattern_problem(pattern) != ""
    assert pattern_problem("a.*.b.#") == ""
