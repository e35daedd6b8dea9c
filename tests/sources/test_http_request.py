"""How the fields of an http source say that its list is fetched; each fault is found when it is added."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pydrm import InvalidResource, Resource
from pydrm.sources.fields import Fields
from pydrm.sources.http_request import HttpRequest, NoNextPage, next_url, without_query
from tests.sources.build import manager

URL = "https://api.example/list"


def request(**fields: Any) -> HttpRequest:
    return HttpRequest.read(Fields(Resource("feed", kind="source.http", **{"url": URL, **fields})))


@pytest.mark.parametrize(
    ("kind", "fields", "field", "problem"),
    [
        ("http", {"url": None}, "url", "is missing"),
        ("http", {"url": ""}, "url", "must be a string that is not empty"),
        ("http", {"url": "ws://a.example"}, "url", "must begin with http:// or https:// and a host"),
        ("http", {"url": "http://a.example/ x"}, "url", "must not contain spaces"),
        ("http", {"url": "http://a.example:x"}, "url", "cannot be read"),
        ("http", {"method": "GET /"}, "method", "cannot be one"),
        ("http", {"headers": {"X Y": "1"}}, "headers", "'X Y' cannot be the name of one"),
        ("http", {"headers": {"X": "1\r\nY: 2"}}, "headers", "X must be printable ASCII"),
        ("http", {"headers": {"X": 7}}, "headers", "X must be printable ASCII"),
        ("http", {"timeout": 0}, "timeout", "must be a number from"),
        ("http", {"max_bytes": 1.5}, "max_bytes", "must be a whole number from"),
        ("http", {"max_pages": 0}, "max_pages", "must be a whole number from"),
        ("http", {"list": ["data"]}, "list", "must be a string such as 'result.items'"),
        ("http", {"cursor": "after"}, "next", "is missing: it says where the cursor is"),
        ("http", {"max_shrnk": 1}, "max_shrnk", "is unknown; did you mean 'max_shrink'?"),
        ("http", {"path": "/x"}, "path", "is unknown"),
        ("file", {"path": "list.json"}, "path", "must be absolute"),
        ("file", {"path": "/list.txt"}, "format", "must be 'json', 'toml', 'yaml', 'yml', not 'txt'"),
        ("file", {"path": "/list.json", "poll": 0}, "poll", "must be above 0"),
        ("file", {"path": "/list.json", "url": URL}, "url", "is unknown"),
    ],
)
def test_a_field_that_cannot_be_used_is_refused_when_the_source_is_added(
    kind: str, fields: dict[str, Any], field: str, problem: str
) -> None:
    async def scene() -> None:
        async with manager() as drm:
            given = {"url": URL, **fields} if kind == "http" else fields
            with pytest.raises(InvalidResource) as caught:
                await drm.add(Resource("feed", kind=f"source.{kind}", **given))
            assert (caught.value.resource, caught.value.field) == ("feed", field)
            assert problem in str(caught.value)
            assert drm.resources() == []

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("fields", "link", "content", "following"),
    [
        ({}, "", {}, None),
        ({}, "https://api.example/list?page=2", [], "https://api.example/list?page=2"),
        ({}, "https://api.example:443/two", [], "https://api.example:443/two"),
        ({"next": "next"}, "https://elsewhere.example", {"next": None}, None),
        ({"next": "next"}, "", {}, None),
        ({"next": "next"}, "", [], None),
        ({"next": "paging.next"}, "", {"paging": {"next": "?page=2"}}, "https://api.example/list?page=2"),
        ({"next": "paging.next"}, "", {"paging": {"next": "/two"}}, "https://api.example/two"),
        ({"next": "cursor", "cursor": "after"}, "", {"cursor": "a&b"}, "https://api.example/list?after=a%26b"),
        ({"next": "cursor", "cursor": "after"}, "", {"cursor": 2}, "https://api.example/list?after=2"),
        ({"next": "cursor", "cursor": "after"}, "", {"cursor": ""}, None),
        ({"next": "more", "cursor": "after"}, "", {"more": False}, None),
    ],
)
def test_the_next_page_is_where_the_answer_says(
    fields: dict[str, Any], link: str, content: Any, following: str | None
) -> None:
    assert next_url(request(**fields), URL, URL, link, content) == following


@pytest.mark.parametrize(
    "link",
    ["http://api.example/list", "https://api.example:444/", "https://other.example/", "//other.example/", "x://"],
)
def test_the_next_page_is_on_the_same_server(link: str) -> None:
    """Another scheme or port is another one: the headers of this source are not for it."""
    with pytest.raises(NoNextPage):
        next_url(request(), URL, URL, link, [])


def test_a_cursor_takes_the_place_of_the_one_before_and_keeps_the_rest_as_it_is() -> None:
    first = f"{URL}?size=10&after=1&q=a%20b"

    assert next_url(request(next="n", cursor="after"), first, first, "", {"n": 2}) == f"{URL}?size=10&q=a%20b&after=2"


def test_people_are_shown_no_query_and_no_password() -> None:
    assert without_query("https://me:pw@api.example:8443/list?key=1#x") == "https://api.example:8443/list"
    assert without_query("https://[::1]/list") == "https://[::1]/list"
