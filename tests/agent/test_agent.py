"""The agent makes what a node holds agree with what the state says, under virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from itertools import pairwise

import pytest

from pydrm.agent.agent import CLOSE_BATCH
from pydrm.agent.hold import Hold
from pydrm.core.handle_commands import Release, Report
from pydrm.core.records import Condition, Phase
from pydrm.errors import DiskFailed, Permanent, Temporary
from tests.agent.stage import Actor, Company, play, refusing, until
from tests.core.build import numbered


def test_what_is_assigned_is_opened_and_reported_open() -> None:
    async def scene() -> None:
        company = Company()
        node = company.add_node("a")

        company.add("r1")
        await until(lambda: company.is_open("r1"))

        assert node.actor.open == {"r1": [company.claim("r1").token]}
        assert node.agent.holds("r1")

    play(scene)


def test_what_is_removed_is_closed_before_its_release_is_proposed() -> None:
    async def scene() -> None:
        company = Company()
        node = company.add_node("a")
        company.add("r1")
        await until(lambda: company.is_open("r1"))
        open_at_release = []
        company.refuse = lambda command: (
            isinstance(command, Release) and bool(open_at_release.append(dict(node.actor.open)))
        )

        company.remove("r1")
        await until(lambda: "r1" not in company.state.records)

        assert open_at_release == [{"r1": []}]
        assert not node.agent.holds("r1")

    play(scene)


def test_nobody_is_told_what_is_known() -> None:
    """That what was just assigned is being opened, the state says already; that one is opened anew it does not."""

    async def scene() -> None:
        company = Company()
        node = company.add_node("a", Actor(opens_in_s=1.0))
        company.add("r1")
        await until(lambda: company.is_open("r1"))
        first = [report.condition for said in company.reports() for report in said.reports]

        node.lose_lease()
        await asyncio.sleep(0.5)
        node.regain_lease()
        await until(lambda: company.condition("r1") is Condition.OPENING)
        await until(lambda: company.is_open("r1"))

        assert first == [Condition.OPEN]

    play(scene)


def test_a_release_that_was_lost_is_proposed_again() -> None:
    """Released is level-triggered: it is said for as long as the state has not heard it."""

    async def scene() -> None:
        company = Company()
        company.add_node("a")
        company.add("r1")
        await until(lambda: company.is_open("r1"))
        losses = iter([True, True])
        company.refuse = lambda command: isinstance(command, Release) and next(losses, False)

        company.remove("r1")
        await until(lambda: "r1" not in company.state.records)

        assert next(losses, None) is None

    play(scene)


def test_without_a_majority_a_report_is_repeated_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        company = Company()
        node = company.add_node("a")
        node.reachable = False
        company.add("r1")
        await asyncio.sleep(3)
        node.reachable = True
        await until(lambda: company.condition("r1") is Condition.OPEN)

    with caplog.at_level(logging.WARNING):
        play(scene)

    assert [record.getMessage() for record in caplog.records] == [
        "Report is not answered, and is repeated for as long as this node runs: no majority"
    ]


def test_a_node_that_stops_by_itself_repeats_nothing_and_does_not_say_that_it_will(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The others learn what it held from its lease."""

    async def scene() -> None:
        company = Company()
        node = company.add_node("a")
        node.failure = DiskFailed("writing to /data failed")
        company.add("r1")
        await asyncio.sleep(60)

        assert node.asked == 1

    with caplog.at_level(logging.WARNING):
        play(scene)

    assert [record.getMessage() for record in caplog.records] == [
        "Report is not answered, and is not repeated, because this node stops: writing to /data failed"
    ]


@pytest.mark.parametrize("kind", [Report, Release])
def test_what_cannot_be_proposed_is_tried_again_and_the_rest_is_said(kind: type) -> None:
    """Only an error that says that the node stops ends the saying."""

    async def scene() -> None:
        company = Company()
        company.add_node("a")
        company.add("r1")
        if kind is Release:
            await until(lambda: company.is_open("r1"))
            company.remove("r1")
        company.refuse = refusing(kind)
        await asyncio.sleep(3)
        company.refuse = lambda command: False
        company.add("r2")

        await until(lambda: company.is_open("r2"))
        await until(lambda: company.is_open("r1") if kind is Report else "r1" not in company.state.records)

    play(scene)


def test_what_moves_on_before_it_was_opened_is_released_all_the_same() -> None:
    async def scene() -> None:
        company = Company()
        node = company.add_node("a", open_concurrency=1)
        node.actor.opens_in_s = 0.5
        company.add("r1", "r2")
        await asyncio.sleep(0.1)

        company.remove("r2")
        await until(lambda: "r2" not in company.state.records)

        assert node.actor.runs == {"r1": 1}

    play(scene)


def test_a_move_opens_at_the_new_holder_only_after_the_old_one_closed() -> None:
    async def scene() -> None:
        company = Company()
        shared = Actor()
        names = numbered(10)
        company.add_node("a", shared)
        company.add(*names)
        await until(lambda: company.is_open(*names))

        company.add_node("b", shared)
        company.drain("a")
        while not company.is_open(*names, by="b"):
            assert all(len(tokens) <= 1 for tokens in shared.open.values())
            await asyncio.sleep(0.0005)

        assert company.released() == sorted(company.released(), reverse=True)

    play(scene)


def test_with_overlap_the_old_handle_closes_only_when_the_new_one_is_open() -> None:
    async def scene() -> None:
        company = Company()
        shared = Actor()
        company.add_node("a", shared)
        company.add("r1", overlap=True)
        await until(lambda: company.is_open("r1"))
        company.add_node("b", shared)

        company.drain("a")
        most = 0
        while not (company.is_open("r1", by="b") and company.assignment("r1").phase is Phase.HELD):
            assert shared.open["r1"], "a moment without a holder"
            most = max(most, len(shared.open["r1"]))
            await asyncio.sleep(0.0005)

        assert most == 2

    play(scene)


def test_a_new_definition_is_opened_under_a_new_token() -> None:
    async def scene() -> None:
        company = Company()
        node = company.add_node("a")
        company.add("r1", url="old")
        await until(lambda: company.is_open("r1"))
        old = company.claim("r1").token
        seen = []

        async def note(hold: Hold) -> None:
            seen.append(hold.resource["url"])
            await node.actor.keep(hold)

        node.actor.script = note
        company.add("r1", url="new")
        await until(lambda: company.assignment("r1").holder is not None and company.claim("r1").token > old)
        await until(lambda: company.is_open("r1"))

        assert seen == ["new"]

    play(scene)


def test_taken_by_force_is_cut_and_reported_gone() -> None:
    async def scene() -> None:
        company = Company()
        a = company.add_node("a")
        company.add("r1")
        await until(lambda: company.is_open("r1"))
        b = company.add_node("b")

        company.force("r1")
        await until(lambda: company.is_open("r1", by="b") and not company.assignment("r1").excluded)

        assert a.actor.open == {"r1": []}
        assert len(b.actor.open["r1"]) == 1

    play(scene)


# --- leases ----------------------------------------------------------------------------------------------------------


def test_fenced_means_that_everything_is_cut_and_nothing_is_released() -> None:
    async def scene() -> None:
        company = Company()
        node = company.add_node("a")
        names = numbered(100)
        company.add(*names)
        await until(lambda: company.is_open(*names))

        node.lose_lease()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

        assert not any(node.actor.open.values())
        await until(lambda: node.fence.tokens() == [])
        assert not node.agent.holds(names[0])
        assert company.released() == []

    play(scene)


def test_a_lease_that_goes_on_brings_everything_back_under_the_same_tokens() -> None:
    async def scene() -> None:
        company = Company()
        node = company.add_node("a")
        company.add("r1", "r2")
        await until(lambda: company.is_open("r1", "r2"))
        before = {id: list(tokens) for id, tokens in node.actor.open.items()}

        node.lose_lease()
        await asyncio.sleep(1)
        assert node.actor.open == {"r1": [], "r2": []}
        node.regain_lease()
        await until(lambda: node.actor.open == before)
        await until(lambda: company.is_open("r1", "r2"))

    play(scene)


def test_nothing_is_opened_under_a_lease_that_is_over_even_before_anybody_says_so() -> None:
    async def scene() -> None:
        company = Company()
        node = company.add_node("a")

        node.lease.deadline = 0.0
        company.add("r1")
        await asyncio.sleep(1)

        assert node.actor.runs == {}

    play(scene)


def test_a_new_incarnation_drops_what_the_old_one_had_without_releasing_it() -> None:
    """Its lease was over, so others may hold it; a Release in its name would be a lie about them."""

    async def scene() -> None:
        company = Company()
        node = company.add_node("a")
        company.add("r1")
        await until(lambda: company.is_open("r1"))
        old = company.claim("r1").token

        node.expire()
        node.join()
        await until(lambda: company.is_open("r1"))

        assert node.actor.open == {"r1": [company.claim("r1").token]}
        assert company.claim("r1").token > old
        assert company.released() == []

    play(scene)


def test_a_new_incarnation_waits_for_the_old_handle_of_the_same_resource_to_be_gone() -> None:
    async def scene() -> None:
        company = Company()
        node = company.add_node("a")
        leave = asyncio.Event()

        async def slow_to_leave(hold: Hold) -> None:
            try:
                await node.actor.keep(hold)
            finally:
                await refuse_cancellation(leave)

        node.actor.script = slow_to_leave
        company.add("r1")
        await until(lambda: company.is_open("r1"))

        node.expire()
        node.join()
        await asyncio.sleep(5)
        assert node.actor.runs == {"r1": 1}

        leave.set()
        await until(lambda: company.is_open("r1"))
        assert node.actor.runs == {"r1": 2}

    play(scene)


# --- handlers that fail ----------------------------------------------------------------------------------------------


def test_a_handler_that_raises_shows_as_retrying_and_is_run_again_under_its_token() -> None:
    async def scene() -> None:
        company = Company()
        node = company.add_node("a")
        tokens = []

        async def fail_twice(hold: Hold) -> None:
            tokens.append(hold.token)
            if len(tokens) < 3:
                raise OSError("no route")
            await node.actor.keep(hold)

        node.actor.script = fail_twice
        company.add("r1")
        await until(lambda: company.is_open("r1"))

        assert tokens == [company.claim("r1").token] * 3
        [retrying] = [r for report in company.reports() for r in report.reports if r.condition is Condition.RETRYING]
        assert retrying.detail == "OSError: no route"

    play(scene)


def test_a_handler_that_returns_by_itself_is_run_again() -> None:
    async def scene() -> None:
        company = Company()
        node = company.add_node("a")

        async def return_at_once(hold: Hold) -> None:
            hold.ready()

        node.actor.script = return_at_once
        company.add("r1")
        await until(lambda: node.actor.runs["r1"] == 5)

        assert company.released() == []

    play(scene)


def test_temporary_says_when_to_try_again() -> None:
    async def scene() -> None:
        company = Company()
        node = company.add_node("a")
        loop = asyncio.get_running_loop()
        runs = []

        async def busy(hold: Hold) -> None:
            runs.append(loop.time())
            raise Temporary("come back later", delay=7)

        node.actor.script = busy
        company.add("r1")
        await asyncio.sleep(20)

        assert [later - earlier for earlier, later in pairwise(runs)] == pytest.approx([7, 7])
        assert company.claim("r1").detail == "come back later"

    play(scene)


def test_permanent_is_not_tried_again_until_the_definition_changes() -> None:
    async def scene() -> None:
        company = Company()
        node = company.add_node("a")

        async def give_up(hold: Hold) -> None:
            raise Permanent("no such symbol")

        node.actor.script = give_up
        company.add("r1", symbol="XYZ")
        await asyncio.sleep(1000)
        assert node.actor.runs == {"r1": 1}
        assert (company.condition("r1"), company.claim("r1").detail) == (Condition.FAILED, "no such symbol")

        node.actor.script = None
        company.add("r1", symbol="BTC")
        await until(lambda: company.is_open("r1"))

    play(scene)


def test_a_kind_that_no_node_knows_is_quarantined_with_the_reason() -> None:
    async def scene() -> None:
        company = Company()
        company.add_node("a")

        company.add("r1", kind="mqtt")
        await until(lambda: company.assignment("r1").phase is Phase.PARKED)

        parked = company.state.records["r1"].parked
        assert parked is not None and parked.reason == "kind 'mqtt' is not registered on node 'a'"

    play(scene)


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no")


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (OSError("no file \udcff" + "x" * 1000), "OSError: no file ?" + "x" * 182),
        (Temporary("\ud800"), "?"),
        (Permanent("\ud800"), "?"),
        (Mute(), "Mute: (its text cannot be had: ValueError)"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_whatever_an_error_says_it_is_reported_and_the_others_are_too(
    error: Exception, detail: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Half a character cannot be encoded, and an error may even fail to say what it is."""
    # The error's own traceback cannot be encoded either, and what is captured goes to another process.
    caplog.set_level(logging.CRITICAL, logger="pydrm")

    async def scene() -> None:
        company = Company()
        node = company.add_node("a")

        async def fail(hold: Hold) -> None:
            if hold.resource.id == "bad":
                raise error
            hold.retrying("half \ud800")
            await asyncio.sleep(0.01)
            await node.actor.keep(hold)

        node.actor.script = fail
        company.add("bad", "good")
        await until(lambda: company.is_open("good") and company.claim("bad").detail != "")

        assert company.claim("bad").detail == detail

    play(scene)


def test_a_cancellation_that_the_handler_lets_out_is_a_failure_like_any_other() -> None:
    """Taken for the end of the hold, it would be opened again at once, for ever."""

    async def scene() -> None:
        company = Company()
        node = company.add_node("a")

        async def trip(hold: Hold) -> None:
            raise asyncio.CancelledError

        node.actor.script = trip
        company.add("r1")
        await until(lambda: company.condition("r1") is Condition.RETRYING)
        await asyncio.sleep(60)

        assert node.actor.runs["r1"] < 30

    play(scene)


def test_a_handler_that_was_open_for_long_is_tried_again_soon() -> None:
    async def scene() -> None:
        company = Company()
        node = company.add_node("a")
        loop = asyncio.get_running_loop()
        ended, began = [], []

        async def last_a_while(hold: Hold) -> None:
            began.append(loop.time())
            hold.ready()
            await asyncio.sleep(10)
            ended.append(loop.time())

        node.actor.script = last_a_while
        company.add("r1")
        await asyncio.sleep(120)

        assert len(began) == 12

        assert max(again - end for end, again in zip(ended, began[1:], strict=False)) <= 0.1

    play(scene)


def test_a_handler_that_says_again_that_it_is_open_has_been_open_since_the_first_time() -> None:
    """As one does that tells people something new about it with each message."""

    async def scene() -> None:
        company = Company()
        node = company.add_node("a")

        async def talk(hold: Hold) -> None:
            for number in range(10):
                hold.ready(f"{number} messages")
                await asyncio.sleep(1)

        node.actor.script = talk
        company.add("r1")
        await asyncio.sleep(120)

        assert node.actor.runs["r1"] == 12

    play(scene)


# --- handlers that do not end ----------------------------------------------------------------------------------------


async def refuse_cancellation(until: asyncio.Event) -> None:
    """Goes on whatever happens; for a day at most, so that a test that fails ends."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 86_400
    while not until.is_set() and loop.time() < deadline:
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            continue


def test_a_handler_that_refuses_to_end_is_stuck_and_its_resource_goes_to_nobody_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scene() -> None:
        company = Company()
        node = company.add_node("a", close_timeout_s=1.0)
        leave = asyncio.Event()

        async def refuse(hold: Hold) -> None:
            hold.ready()
            await refuse_cancellation(leave)

        node.actor.script = refuse
        company.add("r1")
        await until(lambda: company.is_open("r1"))
        token = company.claim("r1").token
        b = company.add_node("b")

        company.drain("a")
        await until(lambda: company.condition("r1") is Condition.STUCK)
        await asyncio.sleep(600)
        assert company.released() == []
        assert b.actor.runs == {}
        assert node.fence.tokens() == [token]

        leave.set()
        await until(lambda: company.is_open("r1", by="b"))
        assert company.released() == [token]

    with caplog.at_level(logging.ERROR):
        play(scene)

    assert [(r.resource, r.node) for r in caplog.records] == [("r1", "a")]


def test_a_handler_that_swallows_its_cancellation_and_returns_has_ended() -> None:
    async def scene() -> None:
        company = Company()
        node = company.add_node("a")

        async def swallow(hold: Hold) -> None:
            hold.ready()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

        node.actor.script = swallow
        company.add("r1")
        await until(lambda: company.is_open("r1"))

        company.remove("r1")
        await until(lambda: "r1" not in company.state.records)
        await asyncio.sleep(60)

        assert node.actor.runs == {"r1": 1}

    play(scene)


def test_a_close_that_takes_too_long_is_cut_off() -> None:
    async def scene() -> None:
        company = Company()
        node = company.add_node("a", close_timeout_s=1.0)
        loop = asyncio.get_running_loop()

        async def long_goodbye(hold: Hold) -> None:
            try:
                await node.actor.keep(hold)
            finally:
                await asyncio.sleep(3600)

        node.actor.script = long_goodbye
        company.add("r1")
        await until(lambda: company.is_open("r1"))

        began = loop.time()
        company.remove("r1")
        await until(lambda: "r1" not in company.state.records)

        assert 1.0 <= loop.time() - began < 1.1

    play(scene)


def test_close_ends_all_at_once_and_opens_nothing_more() -> None:
    async def scene() -> None:
        company = Company()
        node = company.add_node("a")
        names = numbered(200)
        company.add(*names)
        await until(lambda: company.is_open(*names))

        left = await node.agent.close()
        company.add("late")
        await asyncio.sleep(1)

        assert left == 0
        assert not any(node.actor.open.values())
        assert node.actor.runs["late"] == 0

    play(scene)


def test_close_goes_round_the_loop_between_many_so_that_the_first_end_before_the_last_are_told_to() -> None:
    """Were all told in one turn of the loop, it would answer nobody meanwhile, and the lease would end for that."""

    async def scene() -> None:
        company = Company()
        node = company.add_node("a")
        names = numbered(3 * CLOSE_BATCH)
        others_held = []

        async def look_at_the_last(hold: Hold) -> None:
            try:
                await node.actor.keep(hold)
            finally:
                others_held.append(node.agent.holds(names[-1]))

        node.actor.script = look_at_the_last
        for first in range(0, len(names), CLOSE_BATCH):
            company.add(*names[first : first + CLOSE_BATCH])
        await until(lambda: company.is_open(*names))

        left = await node.agent.close()

        assert left == 0
        assert others_held[0]
        assert len(others_held) == len(names)

    play(scene)


def test_close_says_how_many_do_not_go() -> None:
    async def scene() -> None:
        company = Company()
        node = company.add_node("a", close_timeout_s=0.5)
        leave = asyncio.Event()

        async def refuse(hold: Hold) -> None:
            hold.ready()
            await refuse_cancellation(leave)

        company.add("polite")
        await until(lambda: company.is_open("polite"))
        node.actor.script = refuse
        company.add("stubborn")
        await until(lambda: company.is_open("stubborn"))

        assert await node.agent.close() == 1
        leave.set()

    play(scene)


# --- pace ------------------------------------------------------------------------------------------------------------


def test_only_so_many_are_opened_at_once() -> None:
    async def scene() -> None:
        company = Company()
        node = company.add_node("a", open_concurrency=8)
        names = numbered(100)

        company.add(*names)
        await until(lambda: company.is_open(*names))

        assert node.actor.busiest == 8

    play(scene)


def test_handlers_that_never_say_ready_do_not_keep_others_from_being_opened() -> None:
    async def scene() -> None:
        company = Company()
        node = company.add_node("a", open_concurrency=2)

        async def silent(hold: Hold) -> None:
            await asyncio.Event().wait()

        node.actor.script = silent
        company.add("s1", "s2", "s3", "s4")
        await until(lambda: len(node.actor.runs) == 4, timeout_s=5)

        assert company.condition("s1") is Condition.OPENING

    play(scene)


def test_a_node_that_drains_keeps_each_resource_without_a_holder_for_a_moment_only() -> None:
    """It gives away a window at a time and goes on as the receivers report them open."""

    async def scene() -> None:
        company = Company()
        shared = Actor(opens_in_s=0.005)
        names = numbered(300)
        company.add_node("a", shared, handoff_window=16)
        company.add(*names)
        await until(lambda: company.is_open(*names))
        company.add_node("b", shared)
        company.add_node("c", shared)

        company.drain("a")
        most = 0
        while not all(company.is_open(name) and company.claim(name).node != "a" for name in names):
            most = max(most, sum(not shared.open[name] for name in names))
            await asyncio.sleep(0.0005)

        assert most <= 16

    play(scene)


def test_a_drain_goes_on_although_the_receivers_handlers_hang() -> None:
    async def scene() -> None:
        company = Company()
        company.add_node("a")
        names = numbered(64)
        company.add(*names)
        await until(lambda: company.is_open(*names))
        b = company.add_node("b")

        async def hang(hold: Hold) -> None:
            await asyncio.Event().wait()

        b.actor.script = hang
        company.drain("a")
        await until(lambda: all(company.assignment(name).holder.node == "b" for name in names), timeout_s=30)

    play(scene)


def test_reports_of_many_handles_travel_together() -> None:
    async def scene() -> None:
        company = Company()
        company.add_node("a")
        names = numbered(500)

        company.add(*names)
        await until(lambda: company.is_open(*names))

        assert len(company.reports()) < 50

    play(scene)


def test_what_the_state_knows_already_is_not_reported() -> None:
    async def scene() -> None:
        company = Company()
        node = company.add_node("a")
        company.add("r1")
        await until(lambda: company.is_open("r1"))
        before = len(company.commands)

        node.agent.changed([("r1", 0)])
        await asyncio.sleep(10)

        assert len(company.commands) == before

    play(scene)


def test_in_a_minority_it_goes_on_trying_to_say_what_it_must() -> None:
    async def scene() -> None:
        company = Company()
        node = company.add_node("a")
        node.reachable = False
        company.add("r1")
        await asyncio.sleep(60)
        assert company.condition("r1") is Condition.OPENING

        node.reachable = True
        await until(lambda: company.is_open("r1"))

    play(scene)


def test_releases_of_many_handles_travel_together() -> None:
    async def scene() -> None:
        company = Company()
        company.add_node("a", close_concurrency=64)
        names = numbered(400)
        company.add(*names)
        await until(lambda: company.is_open(*names))

        company.remove(*names)
        await until(lambda: not company.state.records)

        releases = [command for command in company.commands if isinstance(command, Release)]
        assert len(releases) <= 20

    play(scene)
