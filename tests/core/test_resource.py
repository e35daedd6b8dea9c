"""`Resource`: what is accepted, what is refused and how that is said, and that nobody can change it afterwards."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydrm.core.resource import Resource
from pydrm.errors import ConfigurationError, InvalidResource


def fault(**flat: Any) -> tuple[str, str]:
    """The resource and the field that the error names."""
    with pytest.raises(InvalidResource) as caught:
        Resource.from_dict({"id": "r1", "kind": "websocket"} | flat)
    assert caught.value.field in str(caught.value)
    return caught.value.resource, caught.value.field


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def test_a_resource_is_an_id_a_kind_and_any_further_fields():
    """What the library does not know is kept and handed to the handler."""
    resource = Resource("btc", kind="websocket", url="wss://x/{id}", subscribe=[{"op": "subscribe"}], depth=5)

    assert (resource.id, resource.kind, resource.weight, resource.overlap) == ("btc", "websocket", 1, False)
    assert dict(resource.fields) == {"url": "wss://x/{id}", "subscribe": [{"op": "subscribe"}], "depth": 5}
    assert resource["url"] == "wss://x/{id}"
    assert resource.get("depth") == 5
    assert resource.get("nothing") is None
    assert resource.get("nothing", "default") == "default"


def test_a_field_that_is_not_there_is_a_key_error():
    """As in a dict; `get` is for what may be missing."""
    with pytest.raises(KeyError):
        Resource("r1", kind="websocket")["url"]


@pytest.mark.parametrize("id", ["", None, 7, b"r1", "tab\there", "null\0", "line\nfeed", "x" * 257, "é" * 129])
def test_an_id_that_cannot_be_kept_is_refused(id: Any):
    """It appears in URLs, logs and files, and is the key of everything."""
    assert fault(id=id)[1] == "id"


@pytest.mark.parametrize("id", ["x", "x" * 256, "é" * 128, "a b", "orders/eu-1:btc_usd", "日本"])
def test_an_id_is_any_printable_text_of_up_to_256_bytes(id: str):
    """Bytes of UTF-8, for that is what is sent and stored."""
    assert Resource(id, kind="websocket").id == id


@pytest.mark.parametrize("kind", ["", None, 7, "line\nfeed", "x" * 65])
def test_a_kind_that_cannot_be_kept_is_refused(kind: Any):
    """It names the handler."""
    assert fault(kind=kind) == ("r1", "kind")


@pytest.mark.parametrize("weight", [0, -1, 1_000_001, 1.0, "1", None, True])
def test_a_weight_that_cannot_be_counted_is_refused(weight: Any):
    """A whole number, because sums must be the same on every node."""
    assert fault(weight=weight) == ("r1", "weight")


@pytest.mark.parametrize("overlap", [0, 1, "yes", None])
def test_overlap_is_true_or_false_and_nothing_like_it(overlap: Any):
    """It is an exception to "one holder"; nobody asks for that by mistake."""
    assert fault(overlap=overlap) == ("r1", "overlap")


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        2**64,
        -(2**63) - 1,
        b"bytes",
        {1: "a key that is not a string"},
        {"in": [{"side": object()}]},
        {"a", "set"},
        lambda: None,
        "\ud800",
        ["\ud800"],
        {"\ud800": 1},
        nested(17),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_field_that_is_no_json_is_refused_by_name(value: Any):
    """Before anything changes: what could not be written or sent is found where it is said."""
    assert fault(options=value) == ("r1", "options")


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -(2**63), 2**64 - 1, 1.5, "", "日本", [], {}, [1, [2, {"three": None}]], nested(15)],
    ids=repr,
)
def test_a_field_may_be_any_json(value: Any):
    """Numbers of 64 bits, text, lists and objects, some levels deep."""
    assert Resource("r1", kind="websocket", options=value)["options"] == value


def test_a_tuple_is_kept_as_the_list_that_it_will_be_on_every_other_node():
    """What one node sees is what all see."""
    assert Resource("r1", kind="websocket", ports=(1, 2))["ports"] == [1, 2]


def test_a_field_whose_name_cannot_be_kept_is_refused_like_any_other():
    """Foreign JSON may contain any name; it gets an InvalidResource and not a stranger's error."""
    with pytest.raises(InvalidResource) as caught:
        Resource.from_dict({"id": "r1", "kind": "websocket", "\ud800": 1})
    assert caught.value.resource == "r1"


@pytest.mark.parametrize("name", ["self", "cls", "fields", "to_dict"])
def test_a_field_may_have_any_name_that_is_not_taken(name: str):
    """A name that Python itself uses in passing is none of the user's concern."""
    assert Resource.from_dict({"id": "r1", "kind": "websocket", name: 1})[name] == 1


def test_a_field_name_that_is_no_string_is_refused():
    """A dict of an app's own may have such; JSON cannot."""
    with pytest.raises(InvalidResource) as caught:
        Resource.from_dict({"id": "r1", "kind": "websocket", 7: 1})
    assert (caught.value.resource, caught.value.field) == ("r1", "7")


@pytest.mark.parametrize("missing", ["id", "kind"])
def test_what_is_missing_is_named(missing: str):
    """An id and a kind are all that must be there."""
    flat = {"id": "r1", "kind": "websocket"}
    del flat[missing]

    with pytest.raises(InvalidResource, match="is missing") as caught:
        Resource.from_dict(flat)
    assert caught.value.field == missing


@pytest.mark.parametrize("flat", [None, 7, "r1", ["r1"], [("id", "r1")]])
def test_what_is_no_object_is_refused(flat: object):
    """A line of JSON can be anything."""
    with pytest.raises(InvalidResource, match="must be an object"):
        Resource.from_dict(flat)


def test_the_error_is_one_to_fix_the_configuration_by():
    """It names resource, field and reason in one sentence."""
    with pytest.raises(ConfigurationError) as caught:
        Resource("r1", kind="websocket", weight=0)

    assert str(caught.value) == "resource 'r1', field 'weight': must be a whole number from 1 to 1000000, not 0"


def test_the_flat_form_leaves_defaults_out():
    """It is what a person would have written."""
    assert Resource("r1", kind="websocket", url="ws://x").to_dict() == {
        "id": "r1",
        "kind": "websocket",
        "url": "ws://x",
    }
    assert Resource("r1", kind="poll", weight=2, overlap=True).to_dict() == {
        "id": "r1",
        "kind": "poll",
        "weight": 2,
        "overlap": True,
    }


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
field_names = st.text(min_size=1, max_size=10).filter(
    lambda name: name not in ("id", "kind", "weight", "overlap", "self")
)


@given(
    weight=st.integers(1, 1_000_000),
    overlap=st.booleans(),
    fields=st.dictionaries(field_names, json_values, max_size=5),
)
def test_the_flat_form_is_read_back_equal_also_through_json(weight: int, overlap: bool, fields: dict[str, Any]):
    """Files, the admin API and the command line all use it."""
    resource = Resource.from_dict({"id": "r1", "kind": "websocket", "weight": weight, "overlap": overlap} | fields)

    assert Resource.from_dict(resource.to_dict()) == resource
    assert Resource.from_dict(json.loads(json.dumps(resource.to_dict()))) == resource


def test_equal_resources_are_one_in_a_set():
    """They are values."""
    one = Resource("r1", kind="websocket", options={"a": [1]})
    other = Resource("r1", kind="websocket", options={"a": [1]})

    assert one == other
    assert len({one, other}) == 1
    assert one != Resource("r1", kind="websocket", options={"a": [2]})


def test_what_it_was_made_of_can_change_without_changing_it():
    """What was checked is what is kept."""
    options = {"symbols": ["btc"]}
    resource = Resource("r1", kind="websocket", options=options)

    options["symbols"].append("eth")

    assert resource["options"] == {"symbols": ["btc"]}


def test_what_it_gives_away_can_change_without_changing_it():
    """The flat form is the caller's own, all the way down."""
    resource = Resource("r1", kind="websocket", options={"symbols": ["btc"]})

    flat: Any = resource.to_dict()
    flat["options"]["symbols"].append("eth")

    assert resource["options"] == {"symbols": ["btc"]}


def test_its_fields_cannot_be_replaced():
    """Frozen, and the mapping of its fields is read-only."""
    resource: Any = Resource("r1", kind="websocket", url="ws://x")

    with pytest.raises(AttributeError):
        resource.weight = 2
    with pytest.raises(TypeError):
        resource.fields["url"] = "ws://y"
