"""What is given to `add`, cut into parts that fit a command."""

from __future__ import annotations

import asyncio

import pytest

from pydrm.agent.hold import Hold
from pydrm.agent.kind import Kinds
from pydrm.core.records import Definition
from pydrm.core.resource import Resource
from pydrm.errors import InvalidResource
from pydrm.handlers.callbacks import Callbacks
from pydrm.handlers.custom import FunctionKind
from pydrm.handlers.websocket.kind import Websocket
from pydrm.intake import PART_BYTES_MAX, PART_DEFINITIONS_MAX, Intake, flatten, parts


def definitions(count: int, fields_bytes: int = 10) -> list[Definition]:
    return [Definition(f"r{number}", "websocket", b"x" * fields_bytes) for number in range(count)]


@pytest.mark.parametrize("value", [-1, 1.5, True, "3"])
def test_a_resource_that_says_wrongly_when_to_give_up_is_refused(value: object) -> None:
    async def idle(hold: Hold) -> None: ...

    kinds = Kinds()
    kinds.register("idle", FunctionKind(idle))
    with pytest.raises(InvalidResource, match="give_up_after"):
        Intake(kinds).validate(Resource("r1", kind="idle", give_up_after=value))


def test_nothing_makes_no_part() -> None:
    assert list(parts([])) == []


def test_parts_keep_the_order_and_are_as_few_as_fit() -> None:
    given = definitions(2 * PART_DEFINITIONS_MAX + 1)

    made = list(parts(given))

    assert [len(part) for part in made] == [PART_DEFINITIONS_MAX, PART_DEFINITIONS_MAX, 1]
    assert [definition for part in made for definition in part] == given


def test_large_definitions_make_parts_of_fewer() -> None:
    made = list(parts(definitions(20, fields_bytes=60_000)))

    assert [len(part) for part in made] == [4, 4, 4, 4, 4]
    assert all(sum(len(definition.fields) for definition in part) <= PART_BYTES_MAX for part in made)


def test_resources_may_come_one_by_one_or_in_any_iterable() -> None:
    one, two, three = (Resource(id, kind="mqtt") for id in ("r1", "r2", "r3"))

    assert flatten((one, [two], iter((three,)))) == [one, two, three]


def test_what_could_be_taken_apart_by_mistake_stays_whole() -> None:
    assert flatten(("r1", {"id": "r1"})) == ["r1", {"id": "r1"}]


class OfHost:
    """A kind that knows whom its resources connect to."""

    def validate(self, resource: Resource) -> None:
        """Everything goes."""

    def group(self, resource: Resource) -> str:
        return str(resource.get("host", ""))

    async def run(self, hold: object) -> None:
        """Nothing is held here."""


class OfNobody:
    def validate(self, resource: Resource) -> None:
        """Everything goes."""

    async def run(self, hold: object) -> None:
        """Nothing is held here."""


def intake() -> Intake:
    kinds = Kinds()
    kinds.register("of-host", OfHost())
    kinds.register("of-nobody", OfNobody())
    kinds.register("websocket", Websocket(Callbacks()))
    return Intake(kinds)


@pytest.mark.parametrize(
    ("resource", "group"),
    [
        (Resource("r", kind="of-nobody"), ""),
        (Resource("r", kind="of-nobody", budget="mine"), "mine"),
        (Resource("r", kind="of-host", host="api.example.com"), "api.example.com"),
        (Resource("r", kind="of-host", host="api.example.com", budget="mine"), "mine"),
        (Resource("r", kind="of-host", host="api.example.com", budget=""), ""),
        (Resource("r", kind="websocket", url="wss://API.example.com:9443/r/{id}"), "api.example.com"),
        (Resource("r", kind="websocket", url="wss://{node}.example.com/"), ""),
    ],
)
def test_the_group_of_a_resource_is_what_it_says_or_else_what_its_kind_says(resource: Resource, group: str) -> None:
    (definition,) = asyncio.run(intake().definitions([resource]))

    assert definition.group == group


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"budget": 7}, "budget"),
        ({"budget": None}, "budget"),
        ({"budget": "g" * 257}, "budget"),
        ({"budget": "a\nb"}, "budget"),
        ({"priority": 1.5}, "priority"),
        ({"priority": True}, "priority"),
        ({"priority": "high"}, "priority"),
        ({"priority": 10**7}, "priority"),
        ({"host": "h" * 300}, "kind"),
    ],
)
def test_a_budget_or_a_priority_that_cannot_be_one_is_refused_by_name(fields: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidResource) as refused:
        intake().validate(Resource("r", kind="of-host", **fields))

    assert (refused.value.resource, refused.value.field) == ("r", field)
