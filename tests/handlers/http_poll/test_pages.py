"""Pages and cursors: a callback says what is to be asked next."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from pydrm.core.records import Condition
from pydrm.core.resource import Resource
from pydrm.handlers.http_poll.response import Response
from pydrm.handlers.http_poll.target import following, url_of
from pydrm.testing.held import Held, until
from tests.handlers.http_poll.test_kind import Inbox, claims_from, noted, play
from tests.handlers.http_server import Site, site

BASE = "https://x.example/list?key=secret&page=1"


class Book:
    """A third party with pages; /items?page=N has one item and the number of the next page, or none."""

    def __init__(self, at: Site, pages: int) -> None:
        self.pages = pages
        at.answer = self.answer

    async def answer(self, request: web.Request) -> web.StreamResponse:
        page = int(request.query.get("page", 1))
        etag = f'"{page}/{self.pages}"'
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304)
        following = page + 1 if page < self.pages else None
        return web.json_response({"item": page, "next": following}, headers={"ETag": etag})


class Reader(Inbox):
    def __init__(self) -> None:
        super().__init__()
        self.callbacks.register("next", self.next)

    async def next(self, response: Response) -> Any:
        number = response.data["next"]
        return {"params": {"page": number}} if number else None

    @property
    def items(self) -> list[int]:
        return [change.data["item"] for change in self.changes]


def resource(at: Site, **fields: Any) -> Resource:
    fields = {"interval": 0.1, "decode": "json", "on_change": "changes", "next_request": "next"} | fields
    return Resource("r1", kind="http_poll", url=at.url + "items?key=k", **fields)


def test_pages_are_fetched_one_after_the_other_and_once_as_long_as_the_first_does_not_change() -> None:
    async def scene() -> None:
        async with site() as at:
            Book(at, 3)
            reader = Reader()
            held = Held(reader.kind, resource(at))
            await until(lambda: len(at.asked) >= 6)
            await held.release()

            assert reader.items == [1, 2, 3]
            assert [asked.query for asked in at.asked[:3]] == ["key=k", "key=k&page=2", "key=k&page=3"]
            assert {asked.query for asked in at.asked[3:]} == {"key=k"}
            assert at.asked[2].at_s - at.asked[0].at_s < 0.1

    play(scene)


def test_the_next_holder_goes_on_with_the_page_at_which_the_former_one_stopped() -> None:
    async def scene() -> None:
        async with site() as at:
            Book(at, 3)
            former, reader = Reader(), Reader()

            async def broken(response: Response) -> Any:
                if response.data["item"] == 2:
                    raise ConnectionError("the database is away")
                return await Reader.next(former, response)

            former.callbacks.register("broken", broken)
            held = Held(former.kind, resource(at, next_request="broken"))
            await until(lambda: len(former.changes) >= 2)
            await held.release()
            reader.callbacks.register("broken", reader.next)
            following = Held(reader.kind, resource(at, next_request="broken"), checkpoint=held.checkpoint)
            await until(lambda: len(reader.changes) >= 2)
            await following.release()

            assert reader.items[:2] == [2, 3]

    play(scene)


def test_a_cursor_for_later_is_used_at_the_next_poll_and_kept_while_nothing_is_new() -> None:
    async def scene() -> None:
        async with site() as at:
            reader = Reader()

            async def later(response: Response) -> Any:
                return {"params": {"since": 7}, "later": True}

            async def answer(request: web.Request) -> web.StreamResponse:
                return web.json_response({"item": int(request.query.get("since", 0))})

            at.answer = answer
            reader.callbacks.register("later", later)
            held = Held(reader.kind, resource(at, next_request="later"))
            await until(lambda: len(at.asked) >= 4)
            await held.release()

            assert [asked.query for asked in at.asked[:4]] == ["key=k", *["key=k&since=7"] * 3]
            assert reader.items == [0, 7]
            assert min(at.gaps_s) > 0.07

    play(scene)


def test_pages_without_end_are_cut_into_polls() -> None:
    async def scene() -> None:
        async with site() as at:
            Book(at, 1_000_000)
            reader = Reader()
            held = Held(reader.kind, resource(at, interval=0.3, max_pages=3))
            await until(lambda: len(at.asked) >= 7)
            await held.release()

            assert reader.items[:6] == [1, 2, 3, 4, 5, 6]
            assert at.gaps_s[2] > 0.2

    play(scene)


def test_a_callback_that_leads_elsewhere_is_a_failed_one() -> None:
    async def scene() -> None:
        async with site() as at:
            reader = Reader()

            async def astray(response: Response) -> Any:
                return "http://elsewhere.example/"

            Book(at, 1)
            reader.callbacks.register("astray", astray)
            held = Held(reader.kind, resource(at, next_request="astray"))
            await until(lambda: reader.kind.counts.callback_failures >= 2)
            assert held.handle.condition is Condition.OPEN
            await held.release()

    play(scene)


@pytest.mark.parametrize(
    ("returned", "url"),
    [
        ("?page=2", "https://x.example/list?page=2"),
        ("/other", "https://x.example/other"),
        ("https://x.example/other", "https://x.example/other"),
        ({"params": {"page": 2}}, "https://x.example/list?key=secret&page=2"),
        ({"params": {"q": "a b&c"}}, "https://x.example/list?key=secret&page=1&q=a+b%26c"),
        ({"url": "next", "params": {"n": 1}}, "https://x.example/next?n=1"),
        ({}, BASE),
    ],
)
def test_what_a_callback_returned_is_taken_relative_to_the_definition(returned: Any, url: str) -> None:
    follow = following(returned, BASE)

    assert follow is not None
    assert url_of(follow[0], BASE) == url
    assert "secret" not in follow[0]


@pytest.mark.parametrize(
    "returned",
    [
        7,
        [],
        {"page": 2},
        {"url": 7},
        {"params": []},
        {"later": 1},
        "https://y.example/",
        "http://x.example/",
        "x" * 3000,
    ],
)
def test_what_no_poll_can_go_on_with_is_refused(returned: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (each has words of its own)
        following(returned, BASE)


def test_after_pages_the_next_poll_is_saved_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was saved last may be where it stood between two pages, and nobody knows yet that it went on from there."""
    claims_from(0.3, monkeypatch)

    async def scene() -> None:
        async with site() as at:
            book = Book(at, 1)
            reader = Reader()
            held = Held(reader.kind, resource(at, interval=0.5))
            await until(lambda: len(held.raised) == 1)
            book.pages = 2
            await until(lambda: reader.items[-1] == 2)
            raised = list(held.raised)
            await until(lambda: not noted(held).get("interval_s"))
            asked = len(at.asked)
            await until(lambda: len(at.asked) == asked + 1)

            assert held.raised == raised
            assert noted(held)["interval_s"] == 0.5
            await until(lambda: len(held.raised) == len(raised) + 1)
            await held.release()

    play(scene)
