"""What a websocket resource's fields say."""

from __future__ import annotations

from typing import Any

import pytest
from websockets.uri import WebSocketURI, parse_uri

from pydrm.core.resource import Resource
from pydrm.errors import InvalidResource
from pydrm.handlers.websocket.endpoint import Endpoint, _parse
from pydrm.handlers.websocket.options import Options


def endpoint(id: str = "r1", **fields: Any) -> Endpoint:
    return Endpoint.of(Resource(id, kind="websocket", **{"url": "ws://x.example/", **fields}), node="a", token=7)


def test_a_url_alone_is_enough() -> None:
    assert endpoint(url="wss://x.example/feed?token={token}") == Endpoint(
        url="wss://x.example/feed?token=7",
        uri=WebSocketURI(True, "x.example", 443, "/feed", "token=7"),
        headers={},
        subscribe=(),
        unsubscribe=(),
        proxy=None,
        options=Options(
            subprotocols=(),
            on_message="",
            open_timeout_s=10.0,
            ping_interval_s=20.0,
            ping_timeout_s=20.0,
            idle_timeout_s=None,
            queue=16,
            when_full="wait",
            decodes=False,
            position=None,
            max_size=1024 * 1024,
            compresses=False,
            tls_ca="",
        ),
    )


def test_a_password_in_the_url_is_not_remembered_for_others() -> None:
    """Unlike the origins that thousands share: one that was rotated is to be gone."""
    before = _parse.cache_info().currsize

    read = endpoint(url="wss://user:not-a-real-one@y.example:8443/feed")

    assert (read.uri.host, read.uri.port, read.uri.secure) == ("y.example", 8443, True)
    assert _parse.cache_info().currsize == before


def test_a_path_may_hold_any_sign_that_ends_a_name_elsewhere() -> None:
    read = endpoint(url="ws://x.example:9000/stream/btc@trade?to=a@b://c")

    assert (read.uri.host, read.uri.port, read.uri.secure) == ("x.example", 9000, False)


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


# --- what a websocket may be told ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("subprotocols", "mqtt"),
        ("subprotocols", []),
        ("subprotocols", ["a b"]),
        ("ping_interval", 0),
        ("ping_interval", "never"),
        ("ping_timeout", -1),
        ("ping_timeout", True),
        ("idle_timeout", 0),
        ("idle_timeout", "1"),
        ("max_size", 0),
        ("max_size", 1.5),
        ("max_size", 2**40),
        ("queue", 0),
        ("queue", True),
        ("when_full", "panic"),
        ("when_full", ["wait"]),
        ("decode", "yaml"),
        ("decode", True),
        ("compression", "zstd"),
        ("tls_ca", "relative.pem"),
        ("tls_ca", 3),
        ("unsubscribe", "{unknown}"),
        ("checkpoint_field", "id"),  # without decode
        ("checkpoint_start", []),
    ],
)
def test_each_field_that_cannot_be_used_is_named(field: str, value: object) -> None:
    with pytest.raises(InvalidResource) as refused:
        endpoint(url="wss://x.example/", **{field: value})

    assert refused.value.field == field


@pytest.mark.parametrize("value", ["", "a..b", [], [True], {}, 3])
def test_a_path_that_leads_nowhere_is_refused(value: object) -> None:
    with pytest.raises(InvalidResource) as refused:
        endpoint(url="wss://x.example/", decode="json", checkpoint_field=value)

    assert refused.value.field == "checkpoint_field"


def test_pings_and_their_answers_can_be_switched_off() -> None:
    options = endpoint(url="ws://x/", ping_interval="off", ping_timeout="off", idle_timeout="off").options

    assert (options.ping_interval_s, options.ping_timeout_s, options.idle_timeout_s) == (None, None, None)


def test_a_ca_of_its_own_is_for_tls_only() -> None:
    assert endpoint(url="wss://x/", tls_ca="/etc/ca.pem").options.tls_ca == "/etc/ca.pem"
    with pytest.raises(InvalidResource, match="wss"):
        endpoint(url="ws://x/", tls_ca="/etc/ca.pem")


@pytest.mark.parametrize(
    ("checkpoint", "shown"),
    [
        (None, "first"),
        ("a/b&c", "a%2Fb%26c"),
        (17, "17"),
        (b"raw", "raw"),
        ({"id": 3}, "%7B%22id%22%3A3%7D"),
    ],
)
def test_a_checkpoint_stands_in_templates_and_cannot_end_its_part_of_the_url(checkpoint: object, shown: str) -> None:
    subject = Resource("r1", kind="websocket", url="ws://x/?last={checkpoint}", checkpoint_start="first")

    assert Endpoint.of(subject, node="a", token=7, checkpoint=checkpoint).url == f"ws://x/?last={shown}"


def test_a_field_called_checkpoint_is_the_resources_own() -> None:
    assert endpoint(url="ws://x/?c={checkpoint}", checkpoint="mine").url == "ws://x/?c=mine"


@pytest.mark.parametrize(
    ("path", "message", "found"),
    [
        ("id", {"id": 3}, 3),
        ("data.0.id", {"data": [{"id": "x"}]}, "x"),
        ("data.-1", {"data": [1, 2]}, 2),
        (["a.b", 0], {"a.b": ["y"]}, "y"),
        ("id", {"id": True}, None),
        ("id", {"id": {}}, None),
        ("id", [1], None),
        ("data.9", {"data": [1]}, None),
        ("a.b", {"a": "text"}, None),
        ("id", None, None),
    ],
)
def test_a_position_is_found_in_a_message_or_is_not(path: object, message: object, found: object) -> None:
    position = endpoint(url="ws://x/", decode="json", checkpoint_field=path).options.position

    assert position is not None
    assert position.of(message) == found


def test_options_that_are_equal_for_python_and_not_alike_are_told_apart() -> None:
    """True equals 1, and what was read for one resource is used for the next."""
    assert endpoint(ping_interval=1).options.ping_interval_s == 1.0
    with pytest.raises(InvalidResource):
        endpoint(ping_interval=True)
    assert endpoint(url="wss://x/", tls_ca="/ca.pem").options.tls_ca == "/ca.pem"
    with pytest.raises(InvalidResource):
        endpoint(url="ws://x/", tls_ca="/ca.pem")


@pytest.mark.parametrize(
    "url",
    [
        "ws://x.example",
        "ws://X.example:80/",
        "wss://[::1]:8443/a/b?c=d&e=?",
        "ws://x.example?a=b",
        "ws://x.example/?",
        "ws://x.example/a%20b?x=%3F",
        "ws://user:word@x.example/a",
        "ws://x.example/\u00fc?q=\u00fc",
        "ws://\u00fc.example/a",
    ],
)
def test_a_url_is_taken_apart_as_websockets_does_it(url: str) -> None:
    assert endpoint(url=url).uri == parse_uri(url)
