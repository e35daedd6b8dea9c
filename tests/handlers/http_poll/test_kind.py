"""The http_poll kind against a small server that says what a test wants to hear."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from pydrm.clock import SystemClock
from pydrm.core.records import Condition
from pydrm.core.resource import Resource
from pydrm.engine.codec import decode_checkpoint, encode_checkpoint
from pydrm.handlers.callbacks import Callbacks
from pydrm.handlers.http_poll import poller
from pydrm.handlers.http_poll.kind import HttpPoll
from pydrm.handlers.http_poll.plan import Plan
from pydrm.handlers.http_poll.position import Position
from pydrm.handlers.http_poll.response import Response
from pydrm.handlers.http_poll.schedule import next_due_s
from pydrm.testing.held import Held, until
from tests.handlers.http_server import Site, says, says_late, site


def play(scene: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scene())


class Inbox:
    """A kind whose callbacks "changes" and "responses" keep what they are given."""

    def __init__(self) -> None:
        self.changes: list[Response] = []
        self.responses: list[Response] = []
        self.callbacks = Callbacks()
        self.callbacks.register("changes", self._changed)
        self.callbacks.register("responses", self._responded)
        self.kind = HttpPoll(self.callbacks, clock=SystemClock(), random=random.Random(7))

    async def _changed(self, response: Response) -> None:
        self.changes.append(response)

    async def _responded(self, response: Response) -> None:
        self.responses.append(response)


def resource(at: Site, path: str = "", **fields: Any) -> Resource:
    fields = {"interval": 0.05, "on_change": "changes", "on_response": "responses"} | fields
    return Resource("r1", kind="http_poll", url=at.url + path, **fields)


def position(subject: Resource, due_in_s: float = 0.0, **values: Any) -> bytes:
    """A checkpoint of an earlier holder, who had polled it well."""
    digest = Plan.of(subject, node="a", token=1).digest
    values = {"seen": "0" * 32} | values
    return encode_checkpoint(Position(digest, time.time() + due_in_s, max(due_in_s, 0.0), **values).to_json())


def claims_from(interval_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Polls of such an interval are claimed before they are sent, and on a busy machine they may be late."""
    monkeypatch.setattr(poller, "CLAIMED_FROM_S", interval_s)
    monkeypatch.setattr(poller, "LATE_PART", 0.8)


def noted(held: Held) -> dict[str, Any]:
    assert held.checkpoint is not None
    value: dict[str, Any] = decode_checkpoint(held.checkpoint)
    return value


# --- polling ---------------------------------------------------------------------------------------------------------


def test_it_is_open_once_a_response_was_usable_and_polls_again_after_each_interval() -> None:
    async def scene() -> None:
        async with site() as at:
            inbox = Inbox()
            held = Held(inbox.kind, resource(at, interval=0.2), token=17)
            await held.until_open()
            await until(lambda: len(at.asked) == 5)
            await held.release()

            assert held.conditions == [Condition.OPEN]
            # A tenth earlier, to find back to its phase, and some for the server's own tardiness.
            assert min(at.gaps_s) > 0.15

    play(scene)


def test_a_response_has_its_resource_token_status_headers_and_what_it_says() -> None:
    async def scene() -> None:
        async with site() as at:
            inbox = Inbox()
            subject = resource(at, "{id}?t={token}", headers={"X-Token": "{token}"})
            at.answer = says(b"hello", 203, X_Mood="good")
            held = Held(inbox.kind, subject, token=17)
            await until(lambda: len(inbox.responses) == 1)
            await held.release()

            [first] = inbox.responses[:1]
            assert (first.data, first.resource, first.token) == (b"hello", subject, 17)
            assert (first.status, first.headers["x-mood"], first.changed) == (203, "good", True)
            assert (at.asked[0].path, at.asked[0].query, at.asked[0].headers["X-Token"]) == ("/r1", "t=17", "17")

    play(scene)


@pytest.mark.parametrize(
    ("decode", "body", "content_type", "data"),
    [
        ("bytes", b"\xff\x00", "text/plain", b"\xff\x00"),
        ("text", "é".encode("latin-1"), "text/plain; charset=latin-1", "é"),
        ("text", "é".encode(), "text/plain; charset=nonsense", "é"),
        ("json", b'{"a": [1, null]}', "text/plain", {"a": [1, None]}),
    ],
)
def test_a_body_is_given_as_bytes_text_or_json(decode: str, body: bytes, content_type: str, data: Any) -> None:
    async def scene() -> None:
        async with site() as at:
            inbox = Inbox()
            at.answer = says(body, Content_Type=content_type)
            held = Held(inbox.kind, resource(at, decode=decode))
            await until(lambda: len(inbox.changes) == 1)
            await held.release()

            assert inbox.changes[0].data == data

    play(scene)


def test_post_sends_its_body_as_json_with_templates_filled_in() -> None:
    async def scene() -> None:
        async with site() as at:
            held = Held(Inbox().kind, resource(at, method="POST", body={"name": "{id}", "n": 1}), token=17)
            await held.until_open()
            await held.release()

            assert at.asked[0].body == b'{"name":"r1","n":1}'
            assert at.asked[0].headers["Content-Type"] == "application/json"

    play(scene)


def test_all_holds_share_connections_and_the_last_one_closes_them() -> None:
    async def scene() -> None:
        async with site() as at:
            inbox = Inbox()
            peers = set()
            say = says(b"hello")

            async def answer(request: web.Request) -> web.StreamResponse:
                assert request.transport is not None
                peers.add(request.transport.get_extra_info("peername"))
                return await say(request)

            at.answer = answer
            many = [
                Held(inbox.kind, Resource(f"r{number}", kind="http_poll", url=at.url, interval=0.1), token=number)
                for number in range(20)
            ]
            await until(lambda: len(at.asked) >= 100)
            await asyncio.gather(*(held.release() for held in many))

            assert len(peers) <= 20
            assert inbox.kind._client is None

    play(scene)


# --- changes ---------------------------------------------------------------------------------------------------------


def test_on_change_is_called_when_the_body_differs_and_on_response_each_time() -> None:
    async def scene() -> None:
        async with site() as at:
            inbox = Inbox()
            at.answer = says(b"one")
            held = Held(inbox.kind, resource(at))
            await until(lambda: len(inbox.responses) >= 3)
            at.answer = says(b"two")
            await until(lambda: len(inbox.changes) == 2)
            await until(lambda: len(at.asked) >= 8)
            await held.release()

            assert [change.data for change in inbox.changes] == [b"one", b"two"]
            assert [response.changed for response in inbox.responses[:3]] == [True, False, False]

    play(scene)


def test_validators_are_sent_back_verbatim_and_304_is_no_change() -> None:
    async def scene() -> None:
        async with site() as at:
            inbox = Inbox()
            etag, modified = 'W/"a, \\"b"', "Sat, 29 Oct 1994 19:43:31 GMT"

            async def answer(request: web.Request) -> web.StreamResponse:
                headers = {"ETag": etag, "Last-Modified": modified}
                if request.headers.get("If-None-Match") == etag:
                    return web.Response(status=304, headers=headers)
                return web.Response(body=b"one", headers=headers)

            at.answer = answer
            held = Held(inbox.kind, resource(at))
            await until(lambda: len(inbox.responses) >= 3)
            await held.release()

            assert [(response.status, response.data) for response in inbox.responses[:3]] == [
                (200, b"one"),
                (304, None),
                (304, None),
            ]
            assert at.asked[1].headers["If-None-Match"] == etag
            assert at.asked[1].headers["If-Modified-Since"] == modified
            assert len(inbox.changes) == 1

    play(scene)


def test_the_same_etag_with_a_status_200_is_no_change() -> None:
    """Not every server that sends one looks at it."""

    async def scene() -> None:
        async with site() as at:
            inbox = Inbox()
            at.answer = says(b"made at 10:00", ETag='"1"')
            held = Held(inbox.kind, resource(at))
            await until(lambda: len(inbox.responses) == 1)
            at.answer = says(b"made at 10:01", ETag='"1"')
            await until(lambda: len(inbox.responses) >= 3)
            await held.release()

            assert len(inbox.changes) == 1

    play(scene)


def test_a_change_whose_callback_failed_is_told_again_at_the_next_poll() -> None:
    async def scene() -> None:
        async with site() as at:
            inbox = Inbox()
            told: list[Any] = []

            async def fragile(response: Response) -> None:
                told.append(response.data)
                if len(told) < 3:
                    raise ValueError("the database is away")

            inbox.callbacks.register("fragile", fragile)
            at.answer = says(b"one", ETag='"1"')
            held = Held(inbox.kind, resource(at, on_change="fragile"))
            await until(lambda: len(told) == 3)
            await until(lambda: len(at.asked) >= 6)
            await held.release()

            assert told == [b"one"] * 3
            assert inbox.kind.counts.callback_failures == 2
            assert held.conditions == [Condition.OPEN]

    play(scene)


# --- what a checkpoint is for ----------------------------------------------------------------------------------------


def test_the_next_holder_polls_when_the_former_one_would_have_and_is_open_until_then() -> None:
    async def scene() -> None:
        async with site() as at:
            inbox = Inbox()
            subject = resource(at, interval=60)
            began_s = time.monotonic()
            held = Held(inbox.kind, subject, checkpoint=position(subject, due_in_s=0.5))
            await held.until_open()
            assert at.asked == []
            await until(lambda: len(at.asked) == 1)
            await held.release()

            assert at.asked[0].at_s - began_s > 0.45

    play(scene)


def test_the_next_holder_tells_of_nothing_that_the_former_one_saw() -> None:
    async def scene() -> None:
        async with site() as at:
            at.answer = says(b"one")
            former, inbox = Inbox(), Inbox()
            held = Held(former.kind, resource(at), token=17)
            await until(lambda: len(former.changes) == 1 and held.checkpoint is not None)
            await held.release()
            following = Held(inbox.kind, resource(at), token=18, checkpoint=held.checkpoint)
            await until(lambda: len(inbox.responses) >= 2)
            await following.release()

            assert inbox.changes == []

    play(scene)


def test_validators_survive_a_move() -> None:
    async def scene() -> None:
        async with site() as at:
            inbox = Inbox()
            subject = resource(at)
            held = Held(inbox.kind, subject, checkpoint=position(subject, etag='"1"', modified="yesterday"))
            await until(lambda: len(at.asked) == 1)
            await held.release()

            assert at.asked[0].headers["If-None-Match"] == '"1"'
            assert at.asked[0].headers["If-Modified-Since"] == "yesterday"

    play(scene)


def test_a_changed_definition_begins_anew() -> None:
    async def scene() -> None:
        async with site() as at:
            inbox = Inbox()
            before = position(resource(at, "old", interval=60), due_in_s=3600, etag='"1"')
            held = Held(inbox.kind, resource(at, "new"), checkpoint=before)
            await until(lambda: len(inbox.changes) == 1)
            await held.release()

            assert "If-None-Match" not in at.asked[0].headers

    play(scene)


def test_the_next_due_time_is_saved_before_a_request_is_sent() -> None:
    """So whoever goes on does not send it a second time."""

    async def scene() -> None:
        async with site() as at:
            subject = resource(at, interval=60)
            at.answer = says_late(30)
            held = Held(Inbox().kind, subject, checkpoint=position(subject))
            await until(lambda: len(at.asked) == 1)
            await held.end_lease()

            assert 50 < noted(held)["due_s"] - time.time() < 70
            assert noted(held)["seen"] == "0" * 32

    play(scene)


def test_a_poller_that_ends_before_that_is_saved_takes_it_back() -> None:
    """Nothing was sent, so the next holder polls now."""

    async def scene() -> None:
        async with site() as at:
            subject = resource(at, interval=60)
            held = Held(Inbox().kind, subject, checkpoint=position(subject), saves=False)
            await until(lambda: noted(held)["due_s"] > time.time())
            await held.release()

            assert noted(held)["due_s"] < time.time()
            assert at.asked == []

    play(scene)


def test_from_its_second_poll_on_it_goes_by_the_nodes_watermark_and_saves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One record of the log is enough for all that is due on a node."""
    claims_from(0.3, monkeypatch)

    async def scene() -> None:
        async with site() as at:
            held = Held(Inbox().kind, resource(at, interval=0.5))
            await until(lambda: len(at.asked) == 1 and "seen" in noted(held))
            first = noted(held)
            await until(lambda: len(at.asked) == 4)

            assert noted(held) == first
            assert first["interval_s"] == 0.5
            due = [first["due_s"]]
            due += [next_due_s("r1", 0.5, due[-1]), next_due_s("r1", 0.5, next_due_s("r1", 0.5, due[-1]))]
            assert held.raised == due

            await held.release()
            parting = noted(held)
            assert not parting.get("interval_s")
            assert parting["due_s"] == next_due_s("r1", 0.5, due[-1])

    play(scene)


def test_a_poller_that_ends_before_the_watermark_is_raised_takes_its_poll_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the watermark may say later that it went: what a handler says in the end goes before that."""
    claims_from(0.3, monkeypatch)

    async def scene() -> None:
        async with site() as at:
            held = Held(Inbox().kind, resource(at, interval=0.5))
            await until(lambda: len(at.asked) == 1 and "seen" in noted(held))
            held.stop_saving()
            await until(lambda: len(held.raised) == 1)
            await held.release()

            assert len(at.asked) == 1
            assert noted(held)["due_s"] == held.raised[0]
            assert not noted(held).get("interval_s")

    play(scene)


@pytest.mark.parametrize("shared", [True, False])
def test_the_next_holder_leaves_out_what_a_dead_node_may_have_polled(shared: bool) -> None:
    """Unless that had saved its next due time by itself, because its polls did not go by the watermark."""

    async def scene() -> None:
        async with site() as at:
            subject = resource(at, interval=60)
            checkpoint = position(subject, due_in_s=-90.0, interval_s=60.0 if shared else 0.0)
            held = Held(Inbox().kind, subject, checkpoint=checkpoint, watermark_us=int((time.time() - 1.0) * 1e6))
            await held.until_open()
            await asyncio.sleep(0.2)
            await held.release()

            assert len(at.asked) == (0 if shared else 1)

    play(scene)


def test_the_next_holder_knows_the_interval_that_a_dead_node_polled_at() -> None:
    """The definition may have another one by now; then the first poll is when it would have been, not at once."""

    async def scene() -> None:
        async with site() as at:
            subject = resource(at, interval=300)
            checkpoint = position(subject, due_in_s=-0.5, interval_s=1.0)
            held = Held(Inbox().kind, subject, checkpoint=checkpoint, watermark_us=int(time.time() * 1e6))
            await held.until_open()
            assert at.asked == []

            await until(lambda: len(at.asked) == 1)
            await held.release()

    play(scene)


def test_the_next_holder_polls_at_once_what_a_dead_node_had_not_come_to() -> None:
    """It was due after the last word of that node, and is late already."""

    async def scene() -> None:
        async with site() as at:
            subject = resource(at, interval=60)
            checkpoint = position(subject, due_in_s=-1.0, interval_s=60.0)
            held = Held(Inbox().kind, subject, checkpoint=checkpoint, watermark_us=int((time.time() - 2.0) * 1e6))
            await until(lambda: len(at.asked) == 1)
            await held.release()

            assert 50 < noted(held)["due_s"] - time.time() < 70

    play(scene)


@pytest.mark.parametrize("fields", [{"jitter": 0.01}, {"max_age": 1}])
def test_polls_whose_times_do_not_follow_are_saved_one_by_one(
    fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else could tell which of them are over."""
    claims_from(0.3, monkeypatch)

    async def scene() -> None:
        async with site() as at:
            if "max_age" in fields:
                at.answer = says(b"fresh", Cache_Control="max-age=1")
            held = Held(Inbox().kind, resource(at, interval=0.5, **{k: v for k, v in fields.items() if k != "max_age"}))
            await until(lambda: len(at.asked) == 3)
            await held.release()

            assert held.raised == []
            assert not noted(held).get("interval_s")

    play(scene)


def test_a_poll_that_is_late_is_saved_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The response before it took longer than the interval, so what follows is at other times."""
    claims_from(0.1, monkeypatch)

    async def scene() -> None:
        async with site() as at:
            held = Held(Inbox().kind, resource(at, interval=0.2))
            await until(lambda: len(held.raised) >= 1)
            at.answer = says_late(0.4)
            asked = len(at.asked)
            await until(lambda: len(at.asked) == asked + 1)
            raised, due_s = list(held.raised), noted(held)["due_s"]
            await until(lambda: len(at.asked) == asked + 2)

            assert held.raised == raised
            assert noted(held)["due_s"] > due_s
            await held.release()

    play(scene)


def test_with_a_short_interval_only_what_is_new_is_saved_and_the_phase_says_when_to_go_on() -> None:
    async def scene() -> None:
        async with site() as at:
            inbox = Inbox()
            subject = resource(at, interval=0.8)
            former = Held(inbox.kind, subject, token=17)
            await until(lambda: len(at.asked) == 1 and former.checkpoint is not None)
            first = former.checkpoint
            # It takes some polls to come from where a new resource begins to its phase.
            await until(lambda: len(at.asked) == 8)
            await former.release()
            following = Held(inbox.kind, subject, token=18, checkpoint=former.checkpoint)
            await until(lambda: len(at.asked) == 10)
            await following.release()

            assert former.checkpoint == first
            # One that is late on a busy machine is nearer to the next.
            assert min(at.gaps_s) > 0.2
            assert max(at.gaps_s) < 1.6
            assert len(inbox.changes) == 1

    play(scene)


@pytest.mark.parametrize("checkpoint", [b"bytes", {"definition": 7}, [], {"definition": "x", "due_s": "soon"}])
def test_a_checkpoint_that_cannot_be_understood_is_as_good_as_none(checkpoint: Any) -> None:
    async def scene() -> None:
        async with site() as at:
            held = Held(Inbox().kind, resource(at), checkpoint=encode_checkpoint(checkpoint))
            await held.until_open()
            await held.release()

    play(scene)


def test_nobody_waits_longer_than_it_was_meant_because_his_clock_is_behind() -> None:
    async def scene() -> None:
        async with site() as at:
            subject = resource(at, interval=60)
            digest = Plan.of(subject, node="a", token=1).digest
            noted = Position(digest, time.time() + 7200, 0.1, seen="0" * 32)
            held = Held(Inbox().kind, subject, checkpoint=encode_checkpoint(noted.to_json()))
            await until(lambda: len(at.asked) == 1)
            await held.release()

    play(scene)


# --- how long to wait ------------------------------------------------------------------------------------------------


def test_it_is_not_polled_while_it_is_fresh() -> None:
    async def scene() -> None:
        async with site() as at:
            at.answer = says(b"one", Cache_Control="public, max-age=3", Age="2")
            held = Held(Inbox().kind, resource(at))
            await until(lambda: len(at.asked) == 2)
            await held.release()

            assert at.gaps_s[0] > 0.95

    play(scene)


def test_max_wait_bounds_what_max_age_asks_for() -> None:
    async def scene() -> None:
        async with site() as at:
            at.answer = says(b"one", Cache_Control="max-age=31536000")
            held = Held(Inbox().kind, resource(at, max_wait=0.1))
            await until(lambda: len(at.asked) == 3)
            await held.release()

    play(scene)


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_heeded_and_shown_and_it_is_open_again_afterwards(status: int) -> None:
    async def scene() -> None:
        async with site() as at:
            inbox = Inbox()
            at.answer = says(b"no", status, Retry_After="1")
            held = Held(inbox.kind, resource(at))
            await until(lambda: held.handle.condition is Condition.RETRYING)
            at.answer = says(b"yes")
            assert held.handle.detail == f"HTTP status {status}"
            await held.until_open()
            await held.release()

            assert at.gaps_s[0] > 0.95
            assert [change.data for change in inbox.changes] == [b"yes"]

    play(scene)


def test_the_next_holder_heeds_a_retry_after_that_the_former_one_was_told() -> None:
    async def scene() -> None:
        async with site() as at:
            at.answer = says(b"no", 429, Retry_After="1")
            held = Held(Inbox().kind, resource(at), token=17)
            await until(lambda: held.handle.condition is Condition.RETRYING)
            await held.release()
            at.answer = says(b"yes")
            following = Held(Inbox().kind, resource(at), token=18, checkpoint=held.checkpoint)
            await following.until_open()
            await following.release()

            assert at.gaps_s[0] > 0.95

    play(scene)


def test_a_429_that_does_not_say_for_how_long_counts_twice_as_much_each_time() -> None:
    async def scene() -> None:
        async with site() as at:
            at.answer = says(b"no", 429)
            subject = resource(at, interval=60)
            held = Held(Inbox().kind, subject, checkpoint=position(subject, failures=2))
            await until(lambda: held.handle.condition is Condition.RETRYING)
            await held.release()

            assert noted(held)["wait_s"] == 240

    play(scene)


# --- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "fields", "detail"),
    [
        (says(b"no", 404), {}, "HTTP status 404"),
        (says(b"", 302, Location="/x"), {}, "HTTP status 302, a redirect, which is not followed"),
        (says(b"", 304), {}, "HTTP status 304"),
        (says(b"x" * 101), {"max_bytes": 100}, "the body has 101 bytes, more than 100"),
        (says(gzip.compress(b"x" * 10_000), Content_Encoding="gzip"), {"max_bytes": 1000}, "more than 1000 bytes"),
        (says(b"{"), {"decode": "json"}, "the body is not json"),
        (says(b"\xff"), {"decode": "text"}, "the body is not text"),
        (says_late(5), {"timeout": 0.1}, "no response within 0.1 s"),
    ],
)
def test_what_cannot_be_used_shows_as_retrying_with_its_reason(answer: Any, fields: Any, detail: str) -> None:
    async def scene() -> None:
        async with site() as at:
            inbox = Inbox()
            at.answer = answer
            held = Held(inbox.kind, resource(at, **fields))
            await until(lambda: held.handle.condition is Condition.RETRYING)
            assert detail in held.handle.detail
            assert inbox.responses == []

            at.answer = says(b'{"all": "well"}'[: fields.get("max_bytes", 100)])
            await held.until_open()
            await held.release()

    play(scene)


def test_a_server_that_is_down_is_asked_less_and_less_and_found_when_it_is_back() -> None:
    async def scene() -> None:
        accepted = []

        async def slam(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted.append(time.monotonic())
            writer.close()

        server = await asyncio.start_server(slam, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        held = Held(Inbox().kind, Resource("r1", kind="http_poll", url=f"http://127.0.0.1:{port}/", interval=0.01))
        await asyncio.sleep(2)
        await held.release()
        server.close()

        # Five until the circuit opens, then a probe a second later; aiohttp repeats each of them once.
        assert 5 <= len(accepted) <= 16

    play(scene)


def test_a_body_without_end_is_cut_off() -> None:
    async def scene() -> None:
        async with site() as at:

            async def answer(request: web.Request) -> web.StreamResponse:
                response = web.StreamResponse()
                await response.prepare(request)
                with contextlib.suppress(ConnectionError):
                    while True:
                        await response.write(b"x" * 10_000)
                return response

            at.answer = answer
            held = Held(Inbox().kind, resource(at, max_bytes=50_000))
            await until(lambda: held.handle.condition is Condition.RETRYING)
            await held.release()

            assert held.handle.detail == "the body has more than 50000 bytes"

    play(scene)


# --- the end of the hold ---------------------------------------------------------------------------------------------


def test_what_comes_when_the_lease_is_over_is_not_delivered() -> None:
    """Nobody has told the handler yet: the deadline itself says so."""

    async def scene() -> None:
        async with site() as at:
            inbox = Inbox()
            asked = asyncio.Event()

            async def answer(request: web.Request) -> web.StreamResponse:
                asked.set()
                await asyncio.sleep(0.1)
                return web.Response(body=b"too late")

            at.answer = answer
            held = Held(inbox.kind, resource(at))
            await asked.wait()
            held.lease.deadline = 0.0
            await until(lambda: inbox.kind.counts.dropped_messages == 1)
            await held.end_lease()

            assert inbox.responses == []
            assert held.checkpoint is None

    play(scene)


def test_nothing_is_sent_when_the_lease_is_over() -> None:
    async def scene() -> None:
        async with site() as at:
            subject = resource(at, interval=60)
            held = Held(Inbox().kind, subject, checkpoint=position(subject, due_in_s=0.2))
            await held.until_open()
            held.lease.deadline = 0.0
            await asyncio.sleep(0.5)
            await held.end_lease()

            assert at.asked == []

    play(scene)


def test_a_request_under_way_is_given_up_when_the_hold_ends() -> None:
    async def scene() -> None:
        async with site() as at:
            inbox = Inbox()
            at.answer = says_late(30)
            held = Held(inbox.kind, resource(at))
            await until(lambda: len(at.asked) == 1)
            began_s = time.monotonic()
            await held.release()

            assert time.monotonic() - began_s < 1
            assert inbox.kind._client is None

    play(scene)


# --- definitions -----------------------------------------------------------------------------------------------------


def test_a_callback_that_this_node_lacks_is_shown_when_the_resource_came_from_elsewhere() -> None:
    async def scene() -> None:
        async with site() as at:
            held = Held(Inbox().kind, resource(at, on_change="trades"))
            await until(lambda: held.handle.condition is Condition.RETRYING)

            assert held.handle.detail == "no callback 'trades' is registered on node 'a'"
            await held.release()

    play(scene)
