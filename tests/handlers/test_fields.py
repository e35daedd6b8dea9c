"""What kinds know of fields, and what they say of slips."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pydrm import ConfigurationError, InvalidResource, Resource, ResourceManager
from pydrm.agent.kind import Named
from pydrm.handlers.http_poll.kind import HttpPoll
from pydrm.handlers.redis.pubsub import RedisPubsub
from pydrm.handlers.redis.stream import RedisStream
from pydrm.handlers.webhook.kind import Webhook
from pydrm.handlers.websocket.kind import Websocket

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("kind", "page", "heading"),
    [
        (Websocket, "websocket.md", ""),
        (HttpPoll, "http-poll.md", ""),
        (RedisStream, "redis.md", "## redis_stream"),
        (RedisPubsub, "redis.md", "## redis_pubsub"),
        (Webhook, "webhooks.md", ""),
    ],
)
def test_a_kind_knows_the_fields_that_its_page_lists(kind: type[Named], page: str, heading: str) -> None:
    text = (DOCS / page).read_text().partition(heading)[2] if heading else (DOCS / page).read_text()
    table = text.partition("| field | ")[2].partition("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    listed = {name for cell in cells for name in re.findall("`([a-z_]+)`", cell)}

    assert kind.fields == listed - {"budget"}  # type: ignore[attr-defined,comparison-overlap]


@pytest.mark.parametrize(
    ("resource", "field", "meant"),
    [
        (Resource("r", kind="websocket", url="ws://x.example/", on_mesage="p"), "on_mesage", "on_message"),
        (Resource("r", kind="websocket", url="ws://x.example/", idle_time=3), "idle_time", "idle_timeout"),
        (Resource("r", kind="redis_stream", url="redis://x.example/", stream="s"), "stream", "streams"),
        (Resource("r", kind="http_poll", url="http://x.example/", intervall=3), "intervall", "interval"),
    ],
)
def test_a_field_that_looks_like_a_slip_is_refused_by_name(resource: Resource, field: str, meant: str) -> None:
    with pytest.raises(InvalidResource, match=f"did you mean {meant!r}") as refused:
        ResourceManager(cluster="orders", node="a", resources=[resource])._intake.validate(resource)

    assert isinstance(refused.value, ConfigurationError)
    assert refused.value.field == field


def test_what_is_for_templates_may_have_any_other_name() -> None:
    resource = Resource("r", kind="websocket", url="ws://x.example/{market}/{since}", market="btc", since=7, priority=1)

    ResourceManager(cluster="orders", node="a")._intake.validate(resource)
