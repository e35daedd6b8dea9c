"""
`Mailbox`: what is posted from any thread runs on the loop, in order.
"""

from __future__ import annotations

import asyncio
import threading

import pytest

from pydrm.engine.mailbox import Mailbox
from tests.engine.loops import on_a_loop, until


@on_a_loop
async def test_calls_run_on_the_loop_in_the_order_in_which_they_were_posted():
    """With their arguments, and not before the poster is done."""
    ran = []
    mailbox = Mailbox(asyncio.get_running_loop())

    for number in range(1000):
        mailbox.post(ran.append, number)
    before = list(ran)
    await until(lambda: len(ran) == 1000)

    assert before == []
    assert ran == list(range(1000))


@on_a_loop
async def test_each_thread_has_its_calls_run_in_its_order_on_the_loops_thread():
    """However the threads take turns."""
    ran = []
    mailbox = Mailbox(asyncio.get_running_loop())

    def post(name: str) -> None:
        for number in range(500):
            mailbox.post(lambda item: ran.append((item, threading.get_ident())), (name, number))

    threads = [threading.Thread(target=post, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    await until(lambda: len(ran) == 1500)
    for thread in threads:
        thread.join()

    for name in "abc":
        assert [number for (of, number), _ in ran if of == name] == list(range(500))
    assert {thread for _, thread in ran} == {threading.get_ident()}


@on_a_loop
async def test_many_posts_wake_the_loop_once():
    """Waking costs a system call, and one change in the cluster can cause thousands of posts."""
    loop, woken, ran = asyncio.get_running_loop(), [], []

    class Loop:
        def call_soon_threadsafe(self, call: object) -> None:
            woken.append(call)
            loop.call_soon_threadsafe(call)

    mailbox = Mailbox(Loop())
    for number in range(100):
        mailbox.post(ran.append, number)
    await until(lambda: len(ran) == 100)
    mailbox.post(ran.append, 100)
    await until(lambda: len(ran) == 101)

    assert len(woken) == 2


@on_a_loop
async def test_what_a_call_posts_runs_after_what_was_posted_before():
    """A call that posts another does not keep the loop for itself."""
    ran = []
    mailbox = Mailbox(asyncio.get_running_loop())

    mailbox.post(lambda: (ran.append("first"), mailbox.post(ran.append, "third")))
    mailbox.post(ran.append, "second")
    await until(lambda: len(ran) == 3)

    assert ran == ["first", "second", "third"]


@on_a_loop
async def test_a_receiver_that_fails_does_not_lose_the_others_their_calls(caplog: pytest.LogCaptureFixture):
    """Its failure is logged, with its traceback."""
    ran = []
    mailbox = Mailbox(asyncio.get_running_loop())

    mailbox.post(ran.append, "before")
    mailbox.post(int, "no number")
    mailbox.post(ran.append, "after")
    await until(lambda: len(ran) == 2)

    assert ran == ["before", "after"]
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert record.exc_info is not None
    assert record.exc_info[0] is ValueError


def test_posts_to_a_closed_loop_are_dropped():
    """Its owner is gone and waits for nothing; whoever posts is not to blame."""
    loop = asyncio.new_event_loop()
    mailbox = Mailbox(loop)
    loop.close()
    ran = []

    mailbox.post(ran.append, 1)
    mailbox.post(ran.append, 2)

    assert ran == []
