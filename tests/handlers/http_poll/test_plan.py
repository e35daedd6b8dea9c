"""Definitions of http_poll resources: each mistake is refused with its field named."""

from __future__ import annotations

from typing import Any

import pytest

from pydrm.core.resource import Resource
from pydrm.errors import InvalidResource
from pydrm.handlers.callbacks import Callbacks
from pydrm.handlers.http_poll.plan import Plan


def resource(**fields: Any) -> Resource:
    given = {"url": "http://x.example/{id}", "interval": 5} | fields
    return Resource("r1", kind="http_poll", **{name: value for name, value in given.items() if value is not None})


def test_what_is_left_out_has_a_default() -> None:
    plan = Plan.of(resource(), node="a", token=7)

    assert (plan.url, plan.method, plan.origin) == ("http://x.example/r1", "GET", "http://x.example:80")
    assert (plan.interval_s, plan.jitter_s, plan.timeout_s, plan.bytes_max) == (5.0, 0.0, 30.0, 10 * 1024 * 1024)
    assert (plan.decode, plan.on_change, plan.on_response, plan.next_request) == ("bytes", "", "", "")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("url", None),
        ("url", 7),
        ("url", "ftp://x.example"),
        ("url", "http://"),
        ("url", "http://x.example/a b"),
        ("url", "http://x.example:none/"),
        ("url", "http://user:password@x.example/"),
        ("url", "http://x.example/{nothing}"),
        ("interval", None),
        ("interval", 0),
        ("interval", -1),
        ("interval", True),
        ("interval", "5"),
        ("method", "DELETE"),
        ("method", "get"),
        ("headers", []),
        ("headers", {"a b": "c"}),
        ("headers", {"A": 1}),
        ("headers", {"A": "line\nbreak"}),
        ("body", "with GET"),
        ("jitter", 6),
        ("timeout", 0),
        ("max_bytes", 1.5),
        ("max_wait", -1),
        ("max_pages", 0),
        ("decode", "xml"),
        ("on_change", 1),
        ("on_response", ""),
        ("next_request", "unknown"),
    ],
)
def test_a_field_that_cannot_be_used_is_named(field: str, value: Any) -> None:
    with pytest.raises(InvalidResource) as refused:
        Plan.of(resource(**{field: value}), node="a", token=7, callbacks=Callbacks())

    assert refused.value.field == field


def test_the_digest_differs_if_something_else_is_asked_for_and_only_then() -> None:
    def digest(**fields: Any) -> str:
        return Plan.of(resource(**fields), node="a", token=7).digest

    assert digest() == digest(interval=9, headers={"A": "b"}) == Plan.of(resource(), node="b", token=8).digest
    assert len({digest(), digest(method="HEAD"), digest(url="http://x.example/"), digest(next_request="n")}) == 4
