"""
Checkpoints: what a holder saves, and the next one is given.
"""

from __future__ import annotations

from pydrm.core.answers import Done, Reason, Refused
from pydrm.core.commands import RemoveResources
from pydrm.core.handle_commands import Handle, Release, Save, SaveCheckpoints
from pydrm.core.records import CHECKPOINT_BYTES_MAX
from tests.core.build import add, cluster


def test_a_checkpoint_is_there_for_the_next_holder() -> None:
    """Whatever becomes of the one that saved it."""
    c = cluster("a", "b", resources=["r"])
    assert c.save("r", b"42") == Done()
    c.expire(c.holder("r"))

    assert c.saved("r") == b"42"


def test_who_is_not_the_holder_any_more_saves_nothing() -> None:
    """A thawed node must not set its successor back."""
    c = cluster("a", "b", resources=["r"])
    old = c.claim("r")
    c.drain(old.node)
    c.release("r")
    c.save("r", b"newer")

    assert c.save("r", b"older", claim=old) == Done(missing=(str(old.token),))
    assert c.saved("r") == b"newer"


def test_an_ended_incarnation_is_refused() -> None:
    """With all that it saves."""
    c = cluster("a", "b", resources=["r"])
    old = c.claim("r")
    c.expire(old.node)

    refused = c.save("r", b"late", claim=old)
    assert isinstance(refused, Refused)
    assert c.saved("r") is None


def test_who_is_to_let_go_may_still_save() -> None:
    """It is the last that it does, and the one that counts."""
    c = cluster("a", "b", resources=["r"])
    c.drain(c.holder("r"))

    assert c.save("r", b"last") == Done()


def test_a_release_brings_the_last_checkpoint_with_it() -> None:
    """So the next holder is given it together with the assignment."""
    c = cluster("a", "b", resources=["r"])
    claim = c.claim("r")
    c.drain(claim.node)
    c.apply(Release(claim.node, claim.incarnation, (Handle("r", 0, claim.token, b"last"),)))

    assert c.holder("r") != claim.node
    assert c.saved("r") == b"last"


def test_with_overlap_the_newer_token_has_the_last_word() -> None:
    """The old holder still works for a moment, and knows less."""
    c = cluster("a", resources=["r", "s", "t"], overlap=True)
    c.join("b")
    moving = next(name for name in ("r", "s", "t") if c.assignment(name).target is not None)
    assert c.save(moving, b"new", claim=c.target(moving)) == Done()

    assert c.save(moving, b"old") == Done(missing=(str(c.claim(moving).token),))
    assert c.saved(moving) == b"new"


def test_with_overlap_one_that_is_gone_has_no_last_word_any_more() -> None:
    """It may have saved and never have opened; the old holder goes on, and must be able to say how far."""
    c = cluster("a", resources=["r", "s", "t"], overlap=True)
    c.join("b")
    moving = next(name for name in ("r", "s", "t") if c.assignment(name).target is not None)
    c.save(moving, b"new", claim=c.target(moving))
    c.expire("b")

    assert c.holder(moving) == "a"
    assert c.save(moving, b"old goes on") == Done()
    assert c.saved(moving) == b"old goes on"


def test_a_checkpoint_goes_with_its_resource() -> None:
    """What is added under the same id later begins at the beginning."""
    c = cluster("a", resources=["r"])
    c.save("r", b"42")
    c.do(RemoveResources(("r",)))
    c.apply(add("r"))
    c.settle()

    assert c.saved("r") is None


def test_a_new_definition_keeps_the_checkpoint() -> None:
    """It is the same resource; a kind that cares keeps in it what it is of."""
    c = cluster("a", resources=["r"])
    c.save("r", b"42")
    c.apply(add("r", url="other"))
    c.settle()

    assert c.saved("r") == b"42"


def test_one_that_is_too_long_is_refused_and_nothing_is_saved() -> None:
    """Its sender looks first; this is for the others."""
    c = cluster("a", resources=["r", "s"])
    saves = [Save(name, 0, c.token(name), bytes(size)) for name, size in (("r", 1), ("s", CHECKPOINT_BYTES_MAX + 1))]
    refused = c.do(SaveCheckpoints("a", c.incarnation("a"), tuple(saves)))

    assert isinstance(refused, Refused)
    assert refused.reason is Reason.INVALID
    assert c.saved("r") is None
