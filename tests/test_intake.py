"""What is given to `add`, cut into parts that fit a command."""

from __future__ import annotations

import pytest

from pydrm.agent.hold import Hold
from pydrm.agent.kind import Kinds
from pydrm.core.records import Definition
from pydrm.core.resource import Resource
from pydrm.errors import InvalidResource
from pydrm.handlers.custom import FunctionKind
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
