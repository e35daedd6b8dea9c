"""
`SimListing`: a list at a third party that changes as time passes, and the kind of source that fetches it.

What the list has said when is written down, so that it can be judged afterwards what came of it. It also lies, in the
ways that a source has to see through: then `fetch` gives what is not, or not all of, what it has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, cast

import attrs

from pydrm.agent.hold import Hold
from pydrm.core.resource import Json, Resource
from pydrm.sources.fetching import Api, Fetched, FetchFailed
from pydrm.sources.fields import Fields
from pydrm.sources.options import Options
from pydrm.testing.simulation.third_party import Connection, SimThirdParty

__all__ = ["LIES", "PASSING", "REMOVED", "STABLE", "TAKEN", "SimListing", "SimOrigin"]

# These stay in the list for ever, so nothing can be a reason to remove one.
STABLE = tuple(f"stable{number}" for number in range(14))
# These come and go. They are few, so that an honest list never takes away half of what there is.
PASSING = tuple(f"passing{number}" for number in range(6))
# What the app may add, too, and what it may remove from under the list.
TAKEN = (*STABLE[-4:-2], PASSING[-1])
REMOVED = STABLE[-2:]

_SHORT = STABLE[:4]
LIES = ("short", "empty", "garbled", "nameless")

_WAY_S = 0.004


class SimListing:
    """
    Attributes:
        down: Nobody is given the list.
        late_s: How long it takes to answer, at the most, with what it has at the moment at which it is asked.
        lies: One of `LIES`, or "": it says what it has.
        serial: Grows with each change.
        served: The newest that somebody was given.
        past: For each id, the serials at which it changed, and whether it was there from then on.
    """

    def __init__(self, trace: Callable[[str], None], random: Random) -> None:
        self.down = False
        self.late_s = 0.0
        self.lies = ""
        self.serial = self.served = 0
        self.past: dict[str, list[tuple[int, bool]]] = {id: [(0, True)] for id in STABLE}
        self.past |= {id: [(0, False)] for id in PASSING}
        self._trace = trace
        self._random = random

    def works(self) -> None:
        self.down, self.late_s, self.lies = False, 0.0, ""

    def change(self) -> tuple[str, bool]:
        """One entry is new, or another, or gone: (its id, whether it is there now)."""
        id = self._random.choice([*STABLE, *PASSING, *PASSING])
        there = id in STABLE or not self.past[id][-1][1] or self._random.random() < 0.3
        self.serial += 1
        self.past[id].append((self.serial, there))
        self._trace(f"the list {'has a new' if there else 'has no'} {id} from {self.serial} on")
        return id, there

    def now(self) -> dict[str, int]:
        """What it has: since when each is as it is, by id."""
        return {id: past[-1][0] for id, past in self.past.items() if past[-1][1]}

    async def ask(self, known: object) -> tuple[int, Sequence[Any]] | None:
        """The serial and the list; None if it is still the *known* one. Raises FetchFailed."""
        await asyncio.sleep(_WAY_S * self._random.random())
        if self.down:
            raise FetchFailed("the list is down")
        answer = None if known == self.serial and not self.lies else (self.serial, self._told())
        if answer is not None:
            self.served = self.serial
        await asyncio.sleep(_WAY_S * self._random.random() + self.late_s * self._random.random())
        return answer

    def _told(self) -> list[dict[str, Json]]:
        entries: dict[str, dict[str, Json]] = {id: {"id": id, "version": since} for id, since in self.now().items()}
        match self.lies:
            case "short":
                return [entries[id] for id in _SHORT]
            case "empty":
                return []
            case "garbled":
                entries[self._random.choice(STABLE)]["kind"] = "a kind that nobody has"
            case "nameless":
                return [*(entries[id] for id in _SHORT), {"name": "one that has no id"}]
        return [*entries.values()]


@attrs.define
class SimOrigin:
    """An Origin for one host. Whoever has a fetcher open is connected to the third party, like any holder."""

    listing: SimListing
    third_party: SimThirdParty
    host: Any

    def check(self, resource: Resource) -> Options:
        fields = Fields(resource)
        options = Options.read(resource, fields, poll_s=0.3)
        fields.refuse_others()
        return options

    def fetcher(self, hold: Hold) -> _SimFetcher:
        return _SimFetcher(self, hold)


class _SimFetcher:
    def __init__(self, origin: SimOrigin, hold: Hold) -> None:
        self._origin = origin
        self._hold = hold
        self._connection: Connection | None = None

    async def open(self, api: Api) -> None:
        origin, hold = self._origin, self._hold
        await self.close()
        self._connection = origin.third_party.make_connection(origin.host, hold.resource.id, hold.token)
        # It can be shut down like a socket, which is all that is asked of it.
        hold.guard(cast(Any, self._connection))
        try:
            await self._connection.connect()
        except ConnectionError as error:
            raise FetchFailed(str(error)) from None

    async def fetch(self, known: Mapping[str, Json]) -> Fetched | None:
        assert self._connection is not None, "open comes first"
        if self._connection.open and self._hold.valid:
            self._connection.act()
        answer = await self._origin.listing.ask(known.get("serial"))
        if answer is None:
            return None
        serial, entries = answer
        return Fetched(entries, {} if self._origin.listing.lies else {"serial": serial})

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
