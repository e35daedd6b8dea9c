"""A fetched list on its way to definitions, and what is compared with what: pure."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pydrm import InvalidResource, Resource
from pydrm.core.commands import AddResources
from pydrm.core.handle_commands import Handle
from pydrm.core.records import Definition
from pydrm.engine import definition_of
from pydrm.sources.comparison import Doubtful, Plan, compare
from pydrm.sources.entries import Entries, list_at
from pydrm.sources.fields import Fields
from pydrm.sources.options import Options
from tests.core.build import Cluster, add, cluster, numbered, remove


def options(**fields: Any) -> Options:
    resource = Resource("feed", kind="source.http", **fields)
    return Options.read(resource, Fields(resource), poll_s=60.0)


def define(resource: Resource) -> Definition:
    if resource.kind != "idle":
        raise InvalidResource("no handler", resource=resource.id, field="kind")
    return definition_of(resource)


def read(*entries: object, **fields: Any) -> Entries:
    made = Entries("feed", options(**fields), define)
    for entry in entries:
        made.add(entry)
    return made


def idle(id: str, **fields: Any) -> dict[str, Any]:
    return {"id": id, "kind": "idle", **fields}


# --- entries ---------------------------------------------------------------------------------------------------------


def test_an_entry_becomes_a_definition_of_its_source() -> None:
    [definition] = read(idle("r1", color="red", weight=3)).definitions.values()

    assert (definition.id, definition.weight, definition.source) == ("r1", 3, "feed")


def test_an_entrys_own_fields_go_before_the_defaults() -> None:
    made = read({"id": "r1"}, {"id": "r2", "weight": 5}, defaults={"kind": "idle", "weight": 2})

    assert [definition.weight for definition in made.definitions.values()] == [2, 5]


@pytest.mark.parametrize("entry", [7, None, "r1", [], {}, {"id": None}, {"id": ""}, {"id": True}, {"id": 1.5}])
def test_an_entry_without_a_name_is_reported_and_makes_the_list_incomplete(entry: object) -> None:
    """It could be any of those that seem to be missing."""
    made = read(idle("r1"), entry)

    assert made.nameless
    assert made.rejected[0].startswith("entry 2 has no id that could be one")
    assert list(made.definitions) == ["r1"]


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"id": "r1"}, "resource 'r1', field 'kind': is missing"),
        ({"id": "r1", "kind": "nothing"}, "resource 'r1', field 'kind': no handler"),
        (idle("r1", weight=0), "resource 'r1', field 'weight': must be a whole number"),
        (idle("r1", nested={"deep": [float("nan")]}), "resource 'r1', field 'nested': must be a finite number"),
        (idle("r1", **{"": {1: 2}}), "resource 'r1', field '': has a key that is not a string: 1"),
        (idle("r1", big="x" * 70_000), "resource 'r1', field 'big': all fields together are"),
        ({"id": "r1", "kind": "source.http"}, "resource 'r1', field 'kind': must not be a source itself"),
        (idle("r1", a={"b": ["{file:/etc/shadow}"]}), "resource 'r1', field 'a': refers to a secret of the holder"),
    ],
)
def test_an_entry_that_cannot_be_used_is_named_with_its_field_and_spared(entry: Any, why: str) -> None:
    made = read(entry, idle("r2"))

    assert made.rejected[0].startswith(why)
    assert (list(made.definitions), list(made.spared), made.nameless) == (["r2"], ["r1"], False)


def test_an_entry_that_its_kind_stumbles_over_is_named_and_spared() -> None:
    """A kind may be an app's own, and may forget that a field can be missing: that must not cost the whole list."""

    def careless(resource: Resource) -> Definition:
        if not str(resource["url"]).startswith("https://"):
            raise AssertionError("must be https")
        return definition_of(resource)

    made = Entries("feed", options(), careless)
    for entry in (idle("r1"), idle("r2", url="http://x"), idle("r3", url="https://x")):
        made.add(entry)

    assert (list(made.definitions), list(made.spared), made.nameless) == (["r3"], ["r1", "r2"], False)
    assert made.rejected == [
        "resource 'r1' cannot be checked: KeyError: 'url'",
        "resource 'r2' cannot be checked: AssertionError: must be https",
    ]


def test_the_same_entry_twice_is_one() -> None:
    made = read(idle("r1"), idle("r1"))

    assert (list(made.definitions), made.rejected) == (["r1"], [])


def test_two_entries_of_one_name_that_differ_are_both_left_out() -> None:
    """Nobody can say which is meant; also if there is a third."""
    made = read(idle("r1"), idle("r1", color="red"), idle("r1"), idle("r2"))

    assert list(made.definitions) == ["r2"]
    assert made.rejected == ["resource 'r1' is there twice, with different fields"]


def test_defaults_may_name_secrets_because_the_app_wrote_them() -> None:
    made = read({"id": "r1"}, defaults={"kind": "idle", "key": "{env:FEED_KEY}"})

    assert list(made.definitions) == ["r1"]


@pytest.mark.parametrize(
    ("content", "path", "problem"),
    [
        ({}, ("data",), "the content has no member 'data': {}"),
        ({"a": 7}, ("a", "b"), "member 'a' has no member 'b': 7"),
        ({"a": {}}, ("a",), "member 'a' is not a list: {}"),
        ("x" * 100, (), f"the content is not a list: '{'x' * 79}..."),
    ],
)
def test_where_there_is_no_list_it_is_said(content: Any, path: tuple[str, ...], problem: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(problem)}$"):
        list_at(content, path)


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"overlap": True}, "overlap"),
        ({"poll": -1}, "poll"),
        ({"poll": True}, "poll"),
        ({"max_retry": "60"}, "max_retry"),
        ({"on_missing": "delete"}, "on_missing"),
        ({"max_shrink": 1.5}, "max_shrink"),
        ({"allow_empty": 1}, "allow_empty"),
        ({"defaults": []}, "defaults"),
        ({"defaults": {"id": "x"}}, "defaults"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidResource) as caught:
        options(**fields)
    assert (caught.value.resource, caught.value.field) == ("feed", field)


# --- comparison ------------------------------------------------------------------------------------------------------


def fed(*entries: dict[str, Any]) -> Cluster:
    house = cluster("a", "b", checked=False)
    house.do(AddResources((Definition("feed", "source.http", b""), Definition("other", "source.http", b""))))
    bring(house, "feed", *entries)
    return house


def bring(house: Cluster, source: str, *entries: dict[str, Any]) -> None:
    definitions = tuple(read(*entries).definitions.values())
    house.do(AddResources(definitions, source=Handle(source, 0, house.token(source))))


def plan(house: Cluster, *entries: object, **fields: Any) -> Plan:
    return compare("feed", read(*entries, **fields), options(**fields), house.state)


def names(plan: Plan) -> tuple[list[str], list[str], list[str]]:
    return ([definition.id for definition in plan.put], [*plan.remove], [*plan.foreign])


def test_a_list_that_is_as_the_cluster_has_it_changes_nothing() -> None:
    assert plan(fed(idle("r1"), idle("r2")), idle("r2"), idle("r1")) == Plan([], [], [], 2)


def test_what_is_new_or_differs_is_put_and_what_is_missing_removed() -> None:
    house = fed(idle("r1"), idle("r2"), idle("r3"))

    assert names(plan(house, idle("r2", color="red"), idle("r1"), idle("r4"))) == (["r2", "r4"], ["r3"], [])


def test_what_somebody_else_owns_is_passed_over() -> None:
    """The app's, and another source's."""
    house = fed(idle("r1"))
    house.do(add("mine"))
    bring(house, "other", idle("theirs"))

    assert names(plan(house, idle("r1"), idle("mine"), idle("theirs"))) == ([], [], ["mine", "theirs"])


def test_what_is_being_removed_comes_again_and_what_will_come_back_as_it_should_is_left_alone() -> None:
    house = fed(idle("r1"), idle("r2"))
    house.do(remove("r1", "r2"))
    bring(house, "feed", idle("r2"))

    assert names(plan(house, idle("r1"), idle("r2"))) == (["r1"], [], [])


def test_what_cannot_be_used_is_not_missing() -> None:
    house = fed(idle("r1"), idle("r2"))

    assert names(plan(house, idle("r1"), idle("r2", weight=0))) == ([], [], [])
    assert names(plan(house, idle("r1", weight=0), idle("r2", weight=0))) == ([], [], [])


def test_nothing_is_missing_from_a_list_with_nameless_entries() -> None:
    assert names(plan(fed(idle("r1"), idle("r2")), idle("r1"), {"name": "r2"})) == ([], [], [])


def test_an_empty_list_is_doubtful_if_anything_came_from_it() -> None:
    with pytest.raises(Doubtful, match="the list is empty, and 1 resources came from it"):
        plan(fed(idle("r1")))
    assert names(plan(fed(idle("r1")), allow_empty=True)) == ([], ["r1"], [])
    assert names(plan(fed())) == ([], [], [])


@pytest.mark.parametrize(("left", "max_shrink"), [(5, 0.5), (1, 0.9), (10, 0.0), (9, 0.1)])
def test_as_much_may_go_as_max_shrink_allows(left: int, max_shrink: float) -> None:
    house = fed(*map(idle, numbered(10)))

    assert len(plan(house, *map(idle, numbered(left)), max_shrink=max_shrink).remove) == 10 - left


@pytest.mark.parametrize(("left", "max_shrink"), [(4, 0.5), (0, 0.9), (9, 0.0), (8, 0.1)])
def test_if_more_would_go_the_list_is_doubtful(left: int, max_shrink: float) -> None:
    house = fed(*map(idle, numbered(10)))

    with pytest.raises(Doubtful):
        plan(house, *map(idle, numbered(left)), max_shrink=max_shrink)


def test_a_list_of_other_names_is_as_doubtful_as_a_short_one() -> None:
    """What counts is what would be closed, not how long the list is."""
    with pytest.raises(Doubtful, match="would take away 10 of 10 resources; max_shrink allows 50%"):
        plan(fed(*map(idle, numbered(10))), *map(idle, numbered(10, "other")))


def test_where_what_is_missing_is_kept_no_list_is_doubtful() -> None:
    assert names(plan(fed(idle("r1")), on_missing="keep")) == ([], [], [])
