"""
`Holding`: one hold of a source: fetch, compare, synchronise, wait, and again.

Everything goes into the log under the source's own token. So whatever a former holder still does, having been frozen or
cut off, changes nothing; and nothing here has to wonder who else may be fetching.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Protocol

from pydrm.agent.backoff import Backoff
from pydrm.agent.cluster import Cluster
from pydrm.agent.hold import Hold
from pydrm.clock import Clock
from pydrm.core.answers import Done, Reason
from pydrm.core.commands import AddResources, Command, RemoveResources
from pydrm.core.handle_commands import Handle
from pydrm.core.records import Definition
from pydrm.core.resource import Json, Resource
from pydrm.engine import definition_of
from pydrm.errors import Fenced, InvalidResource, Temporary, Unavailable
from pydrm.sources.comparison import Doubtful, Plan, compare
from pydrm.sources.entries import Entries
from pydrm.sources.fetching import Fetched, Fetcher, FetchFailed
from pydrm.sources.options import Options

__all__ = ["Holding", "Intake"]

logger = logging.getLogger(__name__)

REMOVE_IDS_MAX = 500
READ_BATCH = 500
PROPOSE_TIMEOUT_S = 10.0

# Between two commands of a long list, so that the log has room for what others have to say.
PART_PAUSE_S = 0.02

# A validator that is longer than this is done without: it would not fit the checkpoint.
VALIDATORS_BYTES_MAX = 2048


class Intake(Protocol):
    """What `add` does with resources that an app gives it."""

    def definition(self, resource: Resource) -> Definition:
        """Check *resource* with its kind on this node. Raises InvalidResource."""

    def parts(self, definitions: Iterable[Definition]) -> Iterator[tuple[Definition, ...]]:
        """In as few parts as fit into commands."""


class Holding:
    """For one run of the kind. It is the `Api` that plugins are given, too."""

    def __init__(
        self, hold: Hold, options: Options, fetcher: Fetcher, intake: Intake, cluster: Cluster, clock: Clock
    ) -> None:
        self._hold = hold
        self._options = options
        self._fetcher = fetcher
        self._intake = intake
        self._cluster = cluster
        self._clock = clock
        self._handle = Handle(hold.resource.id, 0, hold.token)
        self._meaning = blake2b(definition_of(hold.resource).fields, digest_size=8).hexdigest()
        self._known: Mapping[str, Any] = _mapping(_mapping(hold.last_checkpoint).get(self._meaning))
        self._writing = asyncio.Lock()
        self._soon = asyncio.Event()
        self._said: tuple[bool, str] | None = None

    async def live(self, backoff: Backoff) -> None:
        opened = False
        failing_since: float | None = None
        while True:
            try:
                if not opened:
                    await self._fetcher.open(self)
                    opened = True
                await self._agree()
            except (FetchFailed, Unavailable) as error:
                now = self._clock.now()
                failing_since = now if failing_since is None else failing_since
                problem, delay_s = _problem(error)
                if now - failing_since >= self._options.max_retry_s:
                    # Whoever was told when to come back must not send this or another node earlier.
                    raise Temporary(problem, delay=delay_s or None) from error
                self._report(problem)
                await self._clock.sleep(max(backoff.next_s(), delay_s))
                continue
            except Doubtful as doubt:
                self._report(f"nothing is changed: {doubt}")
            failing_since = None
            backoff.reset()
            await self._wait()

    async def _agree(self) -> None:
        """Fetch, compare, synchronise. Raises FetchFailed, Unavailable, Doubtful, Fenced."""
        self._soon.clear()
        fetched = await self._fetcher.fetch(self._trusted())
        if fetched is None or fetched.entries is None:
            self._ready("")
        else:
            await self._synchronise(fetched, fetched.entries)

    def _trusted(self) -> Mapping[str, Json]:
        """What it may be asked whether it is still the same: only if what came of it is still there, too."""
        validators = _mapping(self._known.get("validators"))
        return validators if self._known.get("owned") == self._owned() else {}

    def _owned(self) -> int:
        return self._cluster.state.brought.count(self._hold.resource.id)

    async def _synchronise(self, fetched: Fetched, list: Sequence[Any]) -> None:
        entries = await self._read(list)
        async with self._writing:
            plan = compare(self._hold.resource.id, entries, self._options, self._cluster.state)
            if self._known and (plan.put or plan.remove):
                await self._forget()
            foreign = [*plan.foreign, *await self._put(plan.put), *await self._remove(plan.remove)]
        self._log(plan, entries)
        self._note(fetched.validators if not foreign and not entries.rejected else {}, plan.owned)
        self._ready(_remarks(entries, foreign))

    async def _read(self, list: Sequence[Any]) -> Entries:
        entries = Entries(self._hold.resource.id, self._options, self._intake.definition)
        for number, entry in enumerate(list, 1):
            entries.add(entry)
            # Ten thousand take tenths of a second, in which other handlers have something to do.
            if number % READ_BATCH == 0:
                await asyncio.sleep(0)
        return entries

    async def _put(self, definitions: Sequence[Definition]) -> Sequence[str]:
        """Returns the ids of those that have become somebody else's meanwhile."""
        foreign: list[str] = []
        for number, part in enumerate(self._intake.parts(definitions)):
            await self._pace(number)
            foreign += (await self._propose(AddResources(part, source=self._handle))).foreign
        return foreign

    async def _remove(self, ids: Sequence[str]) -> Sequence[str]:
        foreign: list[str] = []
        for number, start in enumerate(range(0, len(ids), REMOVE_IDS_MAX)):
            await self._pace(number)
            part = tuple(ids[start : start + REMOVE_IDS_MAX])
            foreign += (await self._propose(RemoveResources(part, self._handle))).foreign
        return foreign

    async def _pace(self, number: int) -> None:
        if number:
            await self._clock.sleep(PART_PAUSE_S)

    async def _propose(self, command: Command) -> Done:
        if not self._hold.valid:
            raise self._fenced()
        answer = await self._cluster.propose(command, timeout=PROPOSE_TIMEOUT_S)
        if isinstance(answer, Done):
            return answer
        if answer.reason in (Reason.STALE, Reason.EXPIRED, Reason.SUPERSEDED):
            raise self._fenced()
        raise Unavailable(f"the cluster refused: {answer.detail or answer.reason.value}")

    def _fenced(self) -> Fenced:
        return Fenced(f"source {self._hold.resource.id!r} is no longer held under token {self._hold.token}")

    async def _wait(self) -> None:
        waits: list[asyncio.Task[object]] = [
            asyncio.ensure_future(wait) for wait in (self._fetcher.wait(self._options.poll_s), self._soon.wait())
        ]
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in done:
                wait.result()
        finally:
            for wait in waits:
                wait.cancel()

    # --- what is said of it

    def _note(self, validators: Mapping[str, Json], owned: int) -> None:
        """
        Remember, here and for the next holder, what was fetched; the checkpoint is of this very definition.

        Args:
            owned: As it should be by the list. What is owned by now may be less: what the app has removed meanwhile.
        """
        if len(repr(validators)) > VALIDATORS_BYTES_MAX:
            validators = {}
        known: dict[str, Json] = {"validators": dict(validators), "owned": owned} if validators else {}
        if known != self._known:
            self._known = known
            self._hold.note_checkpoint({self._meaning: known})

    async def _forget(self) -> None:
        """
        Return when nobody trusts what was fetched before.

        What comes now may be written in part, and then the other end may go back to that list: it would say that
        nothing has changed, and the part would stay.
        """
        await self._hold.checkpoint({self._meaning: {}})
        self._known = {}

    def _ready(self, remarks: str) -> None:
        if self._is_news(True, remarks):
            self._hold.ready(remarks)

    def _report(self, problem: str) -> None:
        if self._is_news(False, problem):
            self._hold.retrying(problem)

    def _is_news(self, works: bool, text: str) -> bool:
        """Once for each reason: one that is away for an hour fails a hundred times, and it is not opened anew."""
        if (works, text) == self._said:
            return False
        self._said = (works, text)
        if text:
            logger.warning("%s", text, extra=self._fields())
        return True

    def _log(self, plan: Plan, entries: Entries) -> None:
        if plan.put or plan.remove:
            logger.info(
                "the list has %d entries: %d are new or changed, %d are gone",
                len(entries.definitions) + len(entries.rejected),
                len(plan.put),
                len(plan.remove),
                extra=self._fields(),
            )

    def _fields(self) -> dict[str, object]:
        return {"resource": self._hold.resource.id, "token": self._hold.token, "node": self._hold.node}

    # --- for plugins

    @property
    def resource(self) -> Resource:
        return self._hold.resource

    async def add(self, *entries: Mapping[str, Any]) -> None:
        read = await self._read(entries)
        if read.rejected:
            raise InvalidResource(read.rejected[0], resource=next(iter(read.spared), "?"), field="entry")
        async with self._writing:
            await self._put([*read.definitions.values()])

    async def remove(self, *ids: str) -> None:
        async with self._writing:
            await self._remove(ids)

    def fetch_soon(self) -> None:
        self._soon.set()


def _problem(error: FetchFailed | Unavailable) -> tuple[str, float]:
    """In words, and for how many seconds not to try again."""
    if isinstance(error, FetchFailed):
        return f"cannot be fetched: {error}", error.delay_s
    return f"is fetched, and not written so far: {error}", 0.0


def _remarks(entries: Entries, foreign: Sequence[str]) -> str:
    remarks = []
    if entries.rejected:
        remarks.append(f"{len(entries.rejected)} entries are left out: {entries.rejected[0]}")
    if foreign:
        remarks.append(f"{len(foreign)} are owned by somebody else: {foreign[0]!r}")
    return "; ".join(remarks)


def _mapping(value: object) -> Mapping[str, Any]:
    """Checkpoints were written by some version of this; what cannot be one counts as none."""
    return value if isinstance(value, Mapping) else {}
