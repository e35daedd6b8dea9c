"""
`Answers`: what is given on one thread arrives on another, once; and nobody waits for ever.
"""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import pytest

from pydrm.engine.answers import Answers
from pydrm.errors import Unavailable
from tests.engine.loops import on_a_loop


def answers() -> Answers:
    return Answers(asyncio.get_running_loop(), missing=lambda: Unavailable("no answer"))


def future() -> asyncio.Future[object]:
    return asyncio.get_running_loop().create_future()


def elsewhere(*calls: partial[None]) -> None:
    """Make *calls* on another thread; return when all are made."""

    def run() -> None:
        for call in calls:
            call()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


@on_a_loop
async def test_each_caller_gets_what_was_given_to_it():
    """From another thread, and whether or not it waits already."""
    given, raised = future(), future()
    made = answers()
    waiting = asyncio.ensure_future(made.wait(given, 60))
    await asyncio.sleep(0)

    elsewhere(partial(made.give, given, "yes"), partial(made.give, raised, Unavailable("no")))

    assert await waiting == "yes"
    with pytest.raises(Unavailable, match="no"):
        await made.wait(raised, 60)


@on_a_loop
async def test_only_the_first_result_counts_and_who_was_cancelled_gets_none():
    """The engine may fail while an answer is on its way."""
    twice, cancelled = future(), future()
    made = answers()
    waiting = asyncio.ensure_future(made.wait(cancelled, 60))
    await asyncio.sleep(0)
    waiting.cancel()

    for result in ("first", Unavailable("second")):
        elsewhere(partial(made.give, twice, result), partial(made.give, cancelled, result))

    assert await made.wait(twice, 60) == "first"
    with pytest.raises(asyncio.CancelledError):
        await waiting


@on_a_loop
async def test_who_gets_no_answer_is_told_so():
    """Late, and for certain; who has more time goes on waiting."""
    made = answers()
    patient = asyncio.ensure_future(made.wait(given := future(), 60))
    with pytest.raises(Unavailable, match="no answer"):
        await made.wait(future(), 0.01)

    assert not patient.done()
    made.give(given, "at last")
    assert await patient == "at last"
