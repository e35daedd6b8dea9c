"""Templates in definitions."""

from __future__ import annotations

import pytest

from pydrm.core.resource import Resource
from pydrm.handlers.template import TemplateError, TemplateValues, render, render_json

RESOURCE = Resource("btc", kind="websocket", weight=2, symbol="BTC-USD", depth=10, ratio=0.5, live=True, tags=["x"])
VALUES = TemplateValues(RESOURCE, node="a", token=7)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{id}", "btc"),
        ("{node}/{token}", "a/7"),
        ("{kind} {weight}", "websocket 2"),
        ("{symbol}@{depth}", "BTC-USD@10"),
        ("{ratio} {live}", "0.5 true"),
        ("{{id}}", "{id}"),
        ('{{"op": "{symbol}"}}', '{"op": "BTC-USD"}'),
        ("plain", "plain"),
        ("", ""),
    ],
)
def test_a_name_in_braces_stands_for_a_value(template: str, text: str) -> None:
    assert render(template, VALUES) == text


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("{symbl}", r"\{symbl\} is not known here .*symbol"),
        ("{tags}", "not known"),
        ("{id", "brace"),
        ("id}", "brace"),
        ("{}", "not known"),
        ("{id.__class__}", "not known"),
        ("{id[0]}", "not known"),
        ("{id!r}", "plain name"),
        ("{id:>9}", "plain name"),
        ('{"op": 1}', "brace"),
    ],
)
def test_anything_else_is_refused_with_the_reason(template: str, complaint: str) -> None:
    """A definition is data that may come from anywhere, and format strings can reach into objects."""
    with pytest.raises(TemplateError, match=complaint):
        render(template, VALUES)


def test_values_are_not_templates_themselves() -> None:
    resource = Resource("r1", kind="websocket", text="{token}")

    assert render("{text}", TemplateValues(resource, node="a", token=7)) == "{token}"


def test_a_field_called_token_makes_the_name_ambiguous_and_so_unknown() -> None:
    """Else a definition with an API token of its own would send the fencing token in its place, or the reverse."""
    resource = Resource("r1", kind="websocket", token="secret")

    with pytest.raises(TemplateError, match="token"):
        render("{token}", TemplateValues(resource, node="a", token=7))


def test_in_json_the_strings_are_templates_and_everything_else_stays() -> None:
    template = {"op": "subscribe", "{id}": ["{symbol}", 1, None, {"deep": "{token}"}]}

    assert render_json(template, VALUES) == {"op": "subscribe", "{id}": ["BTC-USD", 1, None, {"deep": "7"}]}
