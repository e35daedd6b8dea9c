"""Kinds of an app's own: functions, and the four hooks of the Node original."""

from __future__ import annotations

import asyncio
import math
import random
import re
import time
from collections.abc import Awaitable, Callable
from math import ceil
from pathlib import Path
from typing import Any

import pytest

from pydrm.agent.hold import Hold
from pydrm.agent.kind import Kind
from pydrm.clock import SystemClock
from pydrm.core.records import Condition
from pydrm.core.resource import Resource
from pydrm.engine.codec import decode_checkpoint
from pydrm.errors import ConfigurationError, Fenced, InvalidResource
from pydrm.handlers.custom import kind_of
from pydrm.testing.held import Held, until

RESOURCE = Resource("r1", kind="mqtt", topic="t")


def kind(handler: object) -> Kind:
    return kind_of("mqtt", handler, clock=SystemClock(), random=random.Random(7))


def play(scene: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scene())


class Hooks:
    """All four, which note what happened to them and fail as often as they are told."""

    def __init__(self, open_failures: int = 0, close_failures: int = 0, close_failed_failures: int = 0) -> None:
        self.diary: list[Any] = []
        self.left = {"open": open_failures, "close": close_failures, "close_failed": close_failed_failures}

    async def open(self, hold: Hold) -> None:
        self._note("open", hold.token)

    async def close(self, hold: Hold) -> None:
        self._note("close", hold.token)

    async def open_failed(self, hold: Hold, error: Exception) -> None:
        self._note("open_failed", hold.token, str(error))

    async def close_failed(self, hold: Hold, error: Exception) -> None:
        self._note("close_failed", hold.token, str(error))

    def _note(self, what: str, *details: Any) -> None:
        self.diary.append((what, *details))
        if self.left.get(what, 0):
            self.left[what] -= 1
            raise RuntimeError(f"{what} broke")


# --- functions -------------------------------------------------------------------------------------------------------


def test_a_function_runs_while_the_hold_lasts_and_is_open_once_it_says_so() -> None:
    async def scene() -> None:
        events = []
        go = asyncio.Event()

        async def mqtt(hold: Hold) -> None:
            events.append(hold.resource["topic"])
            await go.wait()
            hold.ready()
            try:
                await asyncio.Event().wait()
            finally:
                events.append("ended")

        held = Held(kind(mqtt), RESOURCE)
        await asyncio.sleep(0.05)
        assert held.handle.condition is Condition.OPENING

        go.set()
        await held.until_open()
        await held.release()

        assert events == ["t", "ended"]

    play(scene)


def test_a_function_that_is_cancelled_politely_still_has_a_valid_hold_and_one_that_is_fenced_has_not() -> None:
    async def scene() -> None:
        valid_at_the_end = []

        async def mqtt(hold: Hold) -> None:
            hold.ready()
            try:
                await asyncio.Event().wait()
            finally:
                valid_at_the_end.append(hold.valid)

        released, fenced = Held(kind(mqtt), RESOURCE), Held(kind(mqtt), RESOURCE)
        await released.until_open()
        await fenced.until_open()
        await released.release()
        await fenced.end_lease()

        assert valid_at_the_end == [True, False]

    play(scene)


def test_an_object_with_an_async_call_is_a_function_too() -> None:
    class Handler:
        async def __call__(self, hold: Hold) -> None:
            hold.ready()
            await asyncio.Event().wait()

    async def scene() -> None:
        held = Held(kind(Handler()), RESOURCE)
        await held.until_open()
        await held.release()

    play(scene)


def blocking(hold: Hold) -> None:
    pass


class WithoutClose:
    def open(self, hold: Hold) -> None:
        pass


@pytest.mark.parametrize(
    ("handler", "complaint"),
    [
        (blocking, "must be async"),
        (WithoutClose, "open and close"),
        (WithoutClose(), "open and close"),
        ("mqtt", "not 'mqtt'"),
    ],
)
def test_what_cannot_be_a_handler_is_refused_when_it_is_registered(handler: object, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        kind(handler)


# --- hooks -----------------------------------------------------------------------------------------------------------


def test_open_and_close_are_called_once_each() -> None:
    async def scene() -> None:
        hooks = Hooks()
        held = Held(kind(hooks), RESOURCE)
        await held.until_open()

        await held.release()

        assert hooks.diary == [("open", 7), ("close", 7)]

    play(scene)


def test_sync_hooks_do_as_well() -> None:
    diary = []

    class Plain:
        def open(self, hold: Hold) -> None:
            diary.append("open")

        def close(self, hold: Hold) -> None:
            diary.append("close")

    async def scene() -> None:
        held = Held(kind(Plain()), RESOURCE)
        await held.until_open()
        await held.release()

        assert diary == ["open", "close"]

    play(scene)


def test_a_class_gives_each_hold_an_instance_of_its_own() -> None:
    made = []

    class Connection:
        def __init__(self) -> None:
            self.token = 0
            made.append(self)

        async def open(self, hold: Hold) -> None:
            self.token = hold.token

        async def close(self, hold: Hold) -> None:
            assert self.token == hold.token

    async def scene() -> None:
        shared = kind(Connection)
        first, second = Held(shared, RESOURCE, token=7), Held(shared, RESOURCE, token=8)
        await first.until_open()
        await second.until_open()
        await first.release()
        await second.release()

        assert [connection.token for connection in made] == [7, 8]

    play(scene)


def test_when_open_fails_open_failed_hears_why_and_it_is_tried_again() -> None:
    async def scene() -> None:
        hooks = Hooks(open_failures=2)

        held = Held(kind(hooks), RESOURCE)
        await held.until_open()

        failed = [("open", 7), ("open_failed", 7, "open broke")]
        assert hooks.diary == [*failed, *failed, ("open", 7)]
        assert held.conditions == [Condition.RETRYING, Condition.OPEN]
        await held.release()

    play(scene)


def test_when_the_hold_ends_while_it_is_opened_open_failed_cleans_up() -> None:
    errors = []

    class Slow:
        async def open(self, hold: Hold) -> None:
            await asyncio.Event().wait()

        async def close(self, hold: Hold) -> None:
            raise AssertionError("it was never open")

        async def open_failed(self, hold: Hold, error: Exception) -> None:
            errors.append(error)

    async def scene() -> None:
        held = Held(kind(Slow()), RESOURCE)
        await asyncio.sleep(0.01)
        await held.release()

        [error] = errors
        assert isinstance(error, Fenced)

    play(scene)


def test_when_close_fails_close_failed_makes_sure_that_it_is_gone() -> None:
    async def scene() -> None:
        hooks = Hooks(close_failures=1)
        held = Held(kind(hooks), RESOURCE)
        await held.until_open()

        await held.release()

        assert hooks.diary == [("open", 7), ("close", 7), ("close_failed", 7, "close broke")]

    play(scene)


def test_when_close_failed_fails_too_it_is_stuck_and_close_is_tried_until_it_works() -> None:
    """Nobody may say that it is gone, so it goes to nobody else."""

    async def scene() -> None:
        hooks = Hooks(close_failures=1000, close_failed_failures=1000)
        held = Held(kind(hooks), RESOURCE)
        await held.until_open()

        releasing = asyncio.create_task(held.release(close_timeout_s=0.05))
        await until(lambda: held.handle.condition is Condition.STUCK)
        assert held.fence.tokens() == [7]

        hooks.left = {}
        await releasing
        assert hooks.diary[-1] == ("close", 7)
        assert held.fence.tokens() == []

    play(scene)


def test_a_close_that_takes_too_long_is_cut_off_and_close_failed_hears_of_it() -> None:
    class Slow(Hooks):
        async def close(self, hold: Hold) -> None:
            await asyncio.sleep(3600)

    async def scene() -> None:
        hooks = Slow()
        held = Held(kind(hooks), RESOURCE)
        await held.until_open()

        await held.release(close_timeout_s=0.05)

        assert hooks.diary[-1] == ("close_failed", 7, "close took too long and was cut off")
        assert Condition.STUCK not in held.conditions

    play(scene)


def test_a_class_may_check_definitions_before_they_are_added() -> None:
    class Picky:
        @staticmethod
        def validate(resource: Resource) -> None:
            if "topic" not in resource.fields:
                raise ValueError("a topic is needed")

        def open(self, hold: Hold) -> None: ...

        def close(self, hold: Hold) -> None: ...

    kind(Picky).validate(RESOURCE)
    with pytest.raises(InvalidResource, match=r"'r2'.*a topic is needed"):
        kind(Picky).validate(Resource("r2", kind="mqtt"))


# --- what acts at its time -------------------------------------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "docs" / "handlers.md"
[MINUTELY] = [code for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "minutely" in code]
MINUTE_S = 0.2


def minutely(acts: list[float]) -> Kind:
    """The example of docs/handlers.md as it stands, but that its minutes are short."""

    async def act(due: float, token: int) -> None:
        acts.append(due)
        await asyncio.sleep(0.05)

    class Drm:
        def handler(self, name: str) -> Callable[[object], object]:
            return lambda function: function

    names: dict[str, Any] = {"asyncio": asyncio, "math": math, "time": time, "drm": Drm(), "act": act}
    exec(MINUTELY.replace("60", str(MINUTE_S)).replace("0.5", "0"), names)
    return kind(names["minutely"])


def test_what_the_page_shows_for_acts_at_their_time_acts_once_at_each() -> None:
    """The next holder goes on after what the last one's node may have done, and says itself where it was in the end."""

    async def scene() -> None:
        acts: list[float] = []
        former = Held(minutely(acts), RESOURCE)
        await until(lambda: len(acts) == 3)
        former.stop_saving()
        await until(lambda: len(former.raised) == 4)
        at_its_death = former.checkpoint
        await former.release()
        assert former.checkpoint is not None
        assert decode_checkpoint(former.checkpoint) == former.raised[3]

        in_the_midst = Held(minutely(acts), RESOURCE, token=9)
        begun = len(acts)
        await until(lambda: len(acts) > begun)
        await in_the_midst.release()
        assert in_the_midst.checkpoint is not None
        assert decode_checkpoint(in_the_midst.checkpoint) > acts.pop()

        after_death = Held(
            minutely(acts), RESOURCE, token=8, checkpoint=at_its_death, watermark_us=ceil(former.raised[3] * 1e6)
        )
        await until(lambda: len(acts) == 5)
        await after_death.release()

        assert [round(act / MINUTE_S) for act in acts] == sorted({round(act / MINUTE_S) for act in acts})
        assert former.raised[3] not in acts
        assert min(acts[3:]) > former.raised[3]

    play(scene)
