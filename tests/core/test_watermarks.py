"""
Watermarks: what a node says for all that it holds at once, and who is told of it.
"""

from __future__ import annotations

from pydrm.core.answers import Done, Refused
from pydrm.core.commands import RemoveResources
from pydrm.core.handle_commands import Handle, Release
from tests.core.build import add, cluster


def test_the_next_holder_is_told_how_far_a_dead_node_may_have_acted() -> None:
    """Beside what it had saved; of what it had not, there is nothing to say."""
    c = cluster("a", "b", resources=["r", "s"])
    node = c.holder("r")
    c.save("r", b"42")
    assert c.raise_watermark(node, 1000) == Done()
    c.expire(node)

    assert (c.saved("r"), c.watermark("r")) == (b"42", 1000)
    assert c.saved("s") is None


def test_it_counts_for_what_a_node_saved_itself_alone() -> None:
    """One that died before it had taken up what was left to it, never acted for it."""
    c = cluster("a", "b", "c", resources=["r"])
    first = c.holder("r")
    c.save("r", b"42")
    c.raise_watermark(first, 1000)
    c.expire(first)
    second = c.holder("r")
    c.raise_watermark(second, 2000)
    c.expire(second)

    assert c.watermark("r") == 1000


def test_what_is_saved_says_all_there_is_to_say() -> None:
    """Whoever saves knew of the former watermark, and what it says of its own is about what comes after."""
    c = cluster("a", "b", "c", resources=["r"])
    first = c.holder("r")
    c.save("r", b"42")
    c.raise_watermark(first, 1000)
    c.expire(first)
    c.save("r", b"43")

    assert (c.saved("r"), c.watermark("r")) == (b"43", 0)


def test_it_never_goes_back() -> None:
    """What may have been done stays so, whatever a clock shows."""
    c = cluster("a", "b", resources=["r"])
    node = c.holder("r")
    c.save("r", b"42")
    c.raise_watermark(node, 1000)
    assert c.raise_watermark(node, 999) == Done()
    c.expire(node)

    assert c.watermark("r") == 1000


def test_an_ended_incarnation_raises_nothing() -> None:
    """A thawed node may not act any more."""
    c = cluster("a", "b", resources=["r"])
    node, incarnation = c.holder("r"), c.incarnation(c.holder("r"))
    c.save("r", b"42")
    c.raise_watermark(node, 1000)
    c.expire(node)

    assert isinstance(c.raise_watermark(node, 2000, incarnation), Refused)
    assert c.watermark("r") == 1000


def test_whom_it_was_taken_from_by_force_may_have_acted_until_then() -> None:
    """It lives, and has said nothing of this one yet."""
    c = cluster("a", "b", resources=["r"])
    node = c.holder("r")
    c.save("r", b"42")
    c.raise_watermark(node, 1000)
    c.force("r")
    c.raise_watermark(node, 2000)

    assert c.holder("r") != node
    assert c.watermark("r") == 1000


def test_a_release_says_all_there_is_to_say_if_its_handler_had_the_last_word() -> None:
    """Else what it brings, if anything, was noted at some time before."""
    for word, expected in (
        ((b"43", True), (b"43", 0)),
        ((b"43", False), (b"43", 1000)),
        ((b"", False), (b"42", 1000)),
    ):
        c = cluster("a", "b", resources=["r"])
        claim = c.claim("r")
        c.save("r", b"42")
        c.raise_watermark(claim.node, 1000)
        c.drain(claim.node)
        c.apply(Release(claim.node, claim.incarnation, (Handle("r", 0, claim.token, *word),)))

        assert (c.saved("r"), c.watermark("r")) == expected


def test_with_overlap_a_target_that_died_is_heard_as_well() -> None:
    """It had saved, so it may have acted."""
    c = cluster("a", resources=["r", "s", "t"], overlap=True)
    c.join("b")
    moving = next(name for name in ("r", "s", "t") if c.assignment(name).target is not None)
    c.save(moving, b"new", claim=c.target(moving))
    c.raise_watermark("b", 1000)
    c.expire("b")

    assert (c.saved(moving), c.watermark(moving)) == (b"new", 1000)


def test_it_is_kept_until_the_node_joins_anew() -> None:
    """For as long as that incarnation has claims; what it had goes to others some at a time."""
    c = cluster("a", "b", resources=["r"])
    c.save("r", b"42")
    node, old = c.holder("r"), c.incarnation(c.holder("r"))
    c.raise_watermark(node, 1000)
    c.expire(node)
    assert (node, old) in c.state.watermarks
    c.join(node)

    assert not c.state.watermarks
    assert c.watermark("r") == 1000


def test_of_what_is_removed_nothing_is_left() -> None:
    """What is added under the same id later begins at the beginning."""
    c = cluster("a", "b", resources=["r"])
    c.save("r", b"42")
    c.raise_watermark(c.holder("r"), 1000)
    c.do(RemoveResources(("r",)))
    c.apply(add("r"))
    c.settle()

    assert c.saved("r") is None
