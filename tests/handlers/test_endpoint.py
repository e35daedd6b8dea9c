"""What a websocket resource's fields say."""

from __future__ import annotations

from typing import Any

import pytest

from pydrm.core.resource import Resource
from pydrm.errors import InvalidResource
from pydrm.handlers.endpoint import Endpoint


def endpoint(id: str = "r1", **fields: Any) -> Endpoint:
    return Endpoint.of(Resource(id, kind="websocket", **{"url": "ws://x.example/", **fields}), node="a", token=7)


def test_a_url_alone_is_enough() -> None:
    assert endpoint(url="wss://x.example/feed?token={token}") == Endpoint(
        url="wss://x.example/feed?token=7",
        host="x.example",
        port=443,
        secure=True,
        headers={},
        subscribe=(),
        on_message="",
        proxy=None,
        open_timeout_s=10.0,
    )


def test_an_id_cannot_end_the_part_of_the_url_that_it_stands_in() -> None:
    assert endpoint("a/b?c d", url="ws://x.example/r/{id}").url == "ws://x.example/r/a%2Fb%3Fc%20d"


def test_other_fields_stand_in_the_url_as_they_are_written() -> None:
    assert endpoint(url="{base}/v1", base="ws://10.0.0.1:9000").url == "ws://10.0.0.1:9000/v1"


@pytest.mark.parametrize(
    ("subscribe", "sent"),
    [
        ("hello {id}", ("hello r1",)),
        ({"op": "sub", "args": ["{id}"]}, ('{"op":"sub","args":["r1"]}',)),
        (["one", {"two": "{token}"}, 3], ("one", '{"two":"7"}', "3")),
        ([["a list as one message"]], ('["a list as one message"]',)),
        ([], ()),
    ],
)
def test_each_item_of_subscribe_is_one_message(subscribe: Any, sent: tuple[str, ...]) -> None:
    assert endpoint(subscribe=subscribe).subscribe == sent


def test_headers_are_templates_too() -> None:
    assert endpoint(headers={"X-Token": "{token}"}).headers == {"X-Token": "7"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("url", None),
        ("url", 7),
        ("url", "http://x.example"),
        ("url", "ws://"),
        ("url", "ws://x.example:port/"),
        ("url", "ws://x.example/#part"),
        ("url", "ws://x.example/a b"),
        ("url", "ws://x.example/\r\nX: 1"),
        ("url", "ws://x.example/{unknown}"),
        ("headers", ["X"]),
        ("headers", {"X Y": "1"}),
        ("headers", {"X": 1}),
        ("headers", {"X": "1\r\nY: 2"}),
        ("headers", {"X": "{unknown}"}),
        ("subscribe", {"op": "{unknown}"}),
        ("subscribe", '{"op": 1}'),
        ("on_message", 7),
        ("on_message", ""),
        ("proxy", 7),
        ("proxy", "gopher://x.example"),
        ("open_timeout", 0),
        ("open_timeout", True),
        ("open_timeout", "10"),
        ("open_timeout", 301),
    ],
)
def test_a_field_that_cannot_be_used_is_named(field: str, value: Any) -> None:
    with pytest.raises(InvalidResource) as refused:
        endpoint(**{field: value})

    assert (refused.value.resource, refused.value.field) == ("r1", field)


def test_a_header_cannot_be_smuggled_in_by_the_value_of_a_field() -> None:
    with pytest.raises(InvalidResource, match="headers"):
        endpoint(headers={"X": "{name}"}, name="1\r\nY: 2")


@pytest.mark.parametrize(("value", "proxy"), [("env", True), ("http://p.example:3128", "http://p.example:3128")])
def test_a_proxy_is_used_only_if_the_resource_asks_for_one(value: str, proxy: str | bool) -> None:
    assert endpoint(proxy=value).proxy == proxy
