"""
`check_source`: what every source has to do, played with a source of anybody's and the real thing that has its list.

    async def test_my_source():
        await check_source(Customers, Resource("feed", kind="source.customers", poll=0.05), database)

What comes of the list is looked at, not what the source says of itself. The list is believed whatever is missing in
it, so that a source which takes a failure for an empty list is found out; in earnest, `max_shrink` stands before that.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Iterable
from typing import Any, Protocol

from pydrm.agent.hold import Hold
from pydrm.agent.kind import Kinds
from pydrm.clock import SystemClock
from pydrm.core.records import SOURCE_PREFIX, Condition, Phase
from pydrm.core.resource import Resource
from pydrm.intake import Intake
from pydrm.sources.registry import Sources
from pydrm.testing.conformance.checked import Checked, Counterpart
from pydrm.testing.held import Held
from pydrm.testing.held_cluster import HeldCluster

__all__ = ["ListCounterpart", "check_source"]

logger = logging.getLogger(__name__)

# How long to watch that nothing happens; for sources that are asked several times meanwhile.
QUIET_S = 0.5


class ListCounterpart(Counterpart, Protocol):
    """
    Who has the list. Of `is_held` nothing is asked but that it is over in time: whether something is still open there.
    """

    def ids(self) -> Collection[str]:
        """What the list has now; it has at least two."""

    async def change(self) -> None:
        """From now on the list has another entry, and one of those that it had no more."""


async def check_source(
    plugin: Callable[[], Any] | None,
    resource: Resource,
    counterpart: ListCounterpart,
    *,
    refused: Iterable[tuple[Resource, str]] = (),
    close_timeout_s: float = 5.0,
) -> None:
    """
    Play all scenes with *plugin*, by the definition *resource*; *counterpart* is started and stopped meanwhile.

    Args:
        plugin: A class as `ResourceManager.source` takes it; None: the kind of *resource* is one of pydrm's own, or of
            an installed package.
        resource: Of the kind "source.NAME", with a short `poll`.
        refused: Resources that must be refused, each with the field that the error has to name.
        close_timeout_s: How long it may take to be torn down.

    Raises:
        AssertionError: A promise is broken; the message says which.
    """
    believing: dict[str, Any] = {**resource.fields, "max_shrink": 1, "allow_empty": True}
    credulous = Resource(resource.id, kind=resource.kind, **believing)

    def checked() -> _CheckedSource:
        return _CheckedSource(plugin, credulous, counterpart, close_timeout_s)

    checked().check_fields(refused)
    await counterpart.start()
    try:
        for scene in (_brings, _changes_nothing_while_it_is_away, _waits_for_it, _lets_go, _is_cut, _goes_on):
            logger.info("%s: %s", resource.kind, (scene.__doc__ or "").strip())
            played = checked()
            try:
                await scene(played)
            finally:
                await played.close()
    finally:
        await counterpart.stop()


class _CheckedSource(Checked):
    """One scene's, with a cluster of its own."""

    counterpart: ListCounterpart

    def __init__(
        self,
        plugin: Callable[[], Any] | None,
        resource: Resource,
        counterpart: ListCounterpart,
        close_timeout_s: float,
    ) -> None:
        kinds, entries = Kinds(lambda name: None), Kinds(lambda name: _Anything())
        sources = Sources(
            kinds, Intake(entries), lambda: self._cluster_there(), clock=SystemClock(), random=random.Random(7)
        )
        if plugin is not None:
            sources.register(resource.kind.removeprefix(SOURCE_PREFIX), plugin)
        kind = kinds.get(resource.kind)
        assert kind is not None, f"there is no source of the kind {resource.kind!r}"
        super().__init__(kind, resource, counterpart, close_timeout_s)
        self._cluster: HeldCluster | None = None

    def hold(self) -> Held:
        if self._cluster is None:
            self._cluster = HeldCluster(self.kind, self.resource)
            self._clusters.append(self._cluster)
        return Held(self.kind, self.resource, cluster=self._cluster)

    def brought(self) -> set[str]:
        """The ids of what it owns, but for what is to go: there is nobody here who would let go of that."""
        state = self._cluster_there().state
        owned = state.brought.owned_by(self.resource.id)
        return {id for id in owned if state.records[id].following or state.assignments[id, 0].phase is Phase.HELD}

    async def until_brought(self, held: Held, otherwise: str) -> None:
        await self.until(
            lambda: self.brought() == {*self.counterpart.ids()},
            f"{otherwise}: the list has {sorted(self.counterpart.ids())}; it said {held.told[-3:]}",
        )

    def _cluster_there(self) -> HeldCluster:
        assert self._cluster is not None, "hold() comes first"
        return self._cluster


class _Anything:
    """The kind of whatever is brought; nobody opens it."""

    def validate(self, resource: Resource) -> None:
        """Everything goes: what an entry needs is for its kind to say."""

    async def run(self, hold: Hold) -> None:
        raise AssertionError("nothing that a source brings is opened here")


async def _brings(checked: _CheckedSource) -> None:
    """What the list has is there, and is there no more when the list has it no more."""
    held = checked.hold()
    await checked.until_brought(held, "not all of the list is brought, or more than that")
    await checked.counterpart.change()
    await checked.until_brought(held, "the list has changed, and that is not brought")
    assert held.is_open, f"it has brought the list, and does not say that it is open; it said {held.told[-3:]}"
    await held.release(checked.close_timeout_s)


async def _changes_nothing_while_it_is_away(checked: _CheckedSource) -> None:
    """What cannot be fetched is a failure, with its reason, and no empty list, nor what is left of one."""
    held = checked.hold()
    await checked.until_brought(held, "not all of the list is brought")
    before = checked.brought()
    await checked.counterpart.stop()
    await checked.until(
        lambda: not held.is_open or checked.brought() != before,
        "the counterpart is away, and it still says that it is open",
    )
    await asyncio.sleep(QUIET_S)
    gone = before - checked.brought()
    assert not gone, f"the counterpart is away, and what came from it is removed: {sorted(gone)}"
    assert all(detail for condition, detail in held.told if condition is Condition.RETRYING), "it does not say why"
    await checked.counterpart.start()
    await checked.until(lambda: held.is_open, f"the counterpart is back, and it is not open; it said {held.told[-3:]}")
    await checked.until_brought(held, "the counterpart is back, and its list is not brought")
    await held.release(checked.close_timeout_s)


async def _waits_for_it(checked: _CheckedSource) -> None:
    """With the counterpart away from the beginning it tries again, and gets there."""
    await checked.counterpart.stop()
    held = checked.hold()
    await checked.until(
        lambda: Condition.RETRYING in held.conditions, "the counterpart is away, and it does not say so"
    )
    assert not checked.brought(), "the counterpart is away, and something is brought"
    await checked.counterpart.start()
    await checked.until_brought(held, "the counterpart is there, and its list is not brought")
    await held.release(checked.close_timeout_s)


async def _lets_go(checked: _CheckedSource) -> None:
    """Told to release it, it ends in time, nothing of it is open any more, and what it brought stays."""
    held = checked.hold()
    await checked.until_brought(held, "not all of the list is brought")
    before = checked.brought()
    began = asyncio.get_running_loop().time()
    await held.release(checked.close_timeout_s)
    took_s = asyncio.get_running_loop().time() - began
    assert held.task.done(), "it does not end when it is told to"
    assert took_s < checked.close_timeout_s, f"it took {took_s:.1f} s to be torn down, and was cut off"
    await checked.until_gone("it was released, and something of it is still open")
    assert checked.brought() == before, "it was released, and what it brought has changed"


async def _is_cut(checked: _CheckedSource) -> None:
    """When the lease is over, nothing of it is open any more, and it changes nothing."""
    held = checked.hold()
    await checked.until_brought(held, "not all of the list is brought")
    before = checked.brought()
    await held.end_lease()
    await checked.until_gone("the lease is over, and something of it is still open")
    await checked.counterpart.change()
    await asyncio.sleep(QUIET_S)
    assert checked.brought() == before, "the lease is over, and it still changes what it brought"


async def _goes_on(checked: _CheckedSource) -> None:
    """Whoever holds it next brings what has changed meanwhile."""
    former = checked.hold()
    await checked.until_brought(former, "not all of the list is brought")
    await former.release(checked.close_timeout_s)
    await checked.counterpart.change()
    following = checked.hold()
    await checked.until_brought(following, "held again, it does not bring what has changed meanwhile")
    await following.release(checked.close_timeout_s)
