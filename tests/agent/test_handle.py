"""What a handler asks for, whoever told it that."""

from __future__ import annotations

import asyncio
import math
import time

import pytest

from pydrm.agent.handle import DELAY_MAX_S
from pydrm.agent.hold import Hold
from pydrm.agent.kind import Kind, Kinds
from pydrm.core.records import Condition
from pydrm.core.resource import Resource
from pydrm.errors import Temporary
from pydrm.testing.held import Held, until


class Asks:
    """A kind that asks for another try after *delay*."""

    def __init__(self, delay: object) -> None:
        self.delay = delay
        self.runs = 0

    def validate(self, resource: Resource) -> None:
        """It could be anything."""

    async def run(self, hold: Hold) -> None:
        self.runs += 1
        raise Temporary("later", delay=self.delay)  # type: ignore[arg-type]


@pytest.mark.parametrize("delay", [math.inf, 1e17, 10**400])
def test_a_delay_without_end_is_a_day(delay: float) -> None:
    """A third party may have said it."""

    async def scene() -> None:
        kind = Asks(delay)
        held = Held(kind, Resource("r1", kind="asks"))
        await until(lambda: held.handle.condition is Condition.RETRYING)
        left_s = held.handle.next_try_ms / 1000 - time.time()
        await held.release()

        assert DELAY_MAX_S - 60 < left_s < DELAY_MAX_S + 1
        assert kind.runs == 1

    asyncio.run(scene())


@pytest.mark.parametrize("delay", [math.nan, "5", True, [1]])
def test_what_is_no_number_of_seconds_leaves_it_to_the_backoff(delay: object) -> None:
    """Neither does it spin, nor does it end its node."""

    async def scene() -> None:
        kind = Asks(delay)
        held = Held(kind, Resource("r1", kind="asks"))
        await until(lambda: kind.runs == 3)
        await held.release()

        assert held.handle.detail == "later"

    asyncio.run(scene())


def test_a_kind_that_cannot_be_had_whatever_the_reason_is_one_that_says_so() -> None:
    """What packages bring may raise anything."""

    def find(name: str) -> Kind | None:
        raise KeyError("a \ud800")

    async def scene() -> None:
        held = Held(Kinds(find=find).here("brought", "a"), Resource("r1", kind="brought"))
        await until(lambda: held.handle.condition is Condition.RETRYING)
        await held.release()

        assert held.handle.detail == r"'a \ud800'"

    asyncio.run(scene())
