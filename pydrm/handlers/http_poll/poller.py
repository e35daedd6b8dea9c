"""
`Poller`: one run of the handler of an http_poll resource.

A poll has four steps, and where a node dies says what the next holder does:

    it is in the log that it may go   dies before: it polls now       dies after: it polls at the next due time
    the request, and the response
    the callbacks                     dies before they have returned: it tells of the same change, at that time
    what was seen is noted            dies after: it tells of nothing again

So no request is sent twice, and each change is told at least once. A poller that is asked to end while it waits for
the first step takes it back: nothing was sent.

The first step is a commit, which costs more than the request. So a poll that is due waits a little for others, and
one record of the log says it for all of them: the node's watermark. It is not said sooner instead: what is said and not
sent when a node dies is left out. For whoever comes next, the due times follow from the last position that was saved,
and the watermark tells which of them are over. Where they do not follow (the first poll of a run, one that is late,
jitter, max-age) or the poll may have to wait for its budget while others go, it is the next due time that is saved, by
itself.

With an interval below `CLAIMED_FROM_S` that would be a commit for every few milliseconds of many pollers. There the
first step is left out, and the last one if nothing is new: the next holder polls at the next instant of the phase,
which is when the former one would have.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from msgspec.structs import replace

from pydrm.agent.hold import Hold
from pydrm.clock import Clock, Random
from pydrm.errors import Fenced, Temporary
from pydrm.handlers.callbacks import Callbacks
from pydrm.handlers.counts import Counts
from pydrm.handlers.decoding import decoded
from pydrm.handlers.http_poll.circuit import Circuits
from pydrm.handlers.http_poll.freshness import fresh_s
from pydrm.handlers.http_poll.plan import Plan
from pydrm.handlers.http_poll.position import Position
from pydrm.handlers.http_poll.response import Response
from pydrm.handlers.http_poll.schedule import SLEW, due_after_s, next_due_s, phase_after_s
from pydrm.handlers.http_poll.target import Following, following, url_of
from pydrm.handlers.retry_after import retry_after_s

if TYPE_CHECKING:
    from pydrm.handlers.http_poll.client import Client, Fetched

__all__ = ["CLAIMED_FROM_S", "Poller"]

logger = logging.getLogger(__name__)

CLAIMED_FROM_S = 5.0

# How late a poll may be because it waits for others: a part of the interval, and a time.
PATIENCE_PART = 0.04
PATIENCE_MAX_S = 0.5

# A poll that is later than this part of the interval, or this time, is not at its time.
LATE_PART = 0.1
LATE_MAX_S = 2.0

# After a failure the agent's backoff says when to try again, but not sooner than this, or than the interval.
FAILED_WAIT_S = 1.0


class Poller:
    def __init__(
        self,
        plan: Plan,
        hold: Hold,
        client: Client,
        circuits: Circuits,
        callbacks: Callbacks,
        *,
        clock: Clock,
        random: Random,
        counts: Counts,
    ) -> None:
        self._plan = plan
        self._hold = hold
        self._client = client
        self._circuits = circuits
        self._clock = clock
        self._random = random
        self._counts = counts
        self._on_response = callbacks.named_by(hold, plan.on_response)
        self._on_change = callbacks.named_by(hold, plan.on_change)
        self._next_request = callbacks.named_by(hold, plan.next_request)
        self._ready = False
        self._claims = plan.interval_s >= CLAIMED_FROM_S
        self._patience_s = min(plan.interval_s * PATIENCE_PART, PATIENCE_MAX_S)
        # Until it has waited for a due time, its poll is what opens the resource, or late already.
        self._hurries = True
        known = Position.read(hold.last_checkpoint, plan.digest)
        if known is None:
            known = Position(plan.digest, clock.wall(), 0.0)
        elif known.shared:
            due_s = due_after_s(plan.id, known.interval_s, known.due_s, hold.last_watermark)
            wait_s = known.wait_s if due_s == known.due_s else known.interval_s * (1 + SLEW)
            known = replace(known.alone(), due_s=due_s, wait_s=wait_s)
        elif not self._claims and known.due_s < clock.wall():
            due_s = phase_after_s(plan.id, plan.interval_s, clock.wall())
            known = replace(known, due_s=due_s, wait_s=plan.interval_s)
        self._position = self._noted = known

    async def run(self) -> None:
        if self._position.works:
            self._be_ready()
        try:
            while True:
                # Never longer than it was meant to be: this node's clock may be behind that of whoever noted it.
                wait_s = min(self._position.due_s - self._clock.wall(), self._position.wait_s)
                if wait_s > 0:
                    self._hurries = False
                    await self._clock.sleep(wait_s)
                await self._poll()
        finally:
            # For whoever goes on: all that the watermark would tell, and what was taken back.
            if self._claims:
                self._keep(self._position.alone())

    # --- one poll ----------------------------------------------------------------------------------------------------

    async def _poll(self) -> None:
        """Ask, tell of it, and note when to ask again; more than once if there are pages."""
        left_alone_s = self._circuits.admit(self._plan.origin, self._clock.now(), self._plan.timeout_s)
        if left_alone_s > 0:
            raise Temporary(f"{self._plan.origin} does not work and is left alone for {left_alone_s:.1f} s more")
        limited = self._hold.limited
        if limited:
            if self._position.shared:
                # While it waits, others say how far this node may go.
                await self._save(self._position.alone())
            await self._hold.may_request()
        begun_s = self._clock.wall()
        if self._claims and not await self._claim(begun_s, shares=not limited and self._plan.jitter_s == 0):
            return
        due_s = self._position.due_s if self._claims else self._next_due_s(begun_s)
        home: Position | None = None
        for _ in range(self._plan.pages_max):
            before = self._position
            if home is not None:
                await self._hold.may_request()
            fetched = await self._fetch(before)
            after, changed = before.after(fetched.headers, _content(self._plan, fetched))
            # What is as it was could be decoded then.
            heard = changed or self._on_response is not None
            response = self._response(before, fetched, changed) if heard else None
            self._be_ready()
            try:
                follow = await self._tell(response) if response is not None else None
            except Exception:
                # The border to the app's code: it is told of the same again at the next poll.
                self._counts.callback_failures += 1
                logger.exception("a callback failed; it is called again at the next poll", extra=self._fields())
                self._note(before, due_s, begun_s, fetched)
                return
            if home is None:
                home = after
            if follow is None:
                # Unchanged, it stays where it is; else it begins with the definition's url again.
                self._note(home.turned("") if changed else after, due_s, begun_s, fetched)
                return
            target, later = follow
            if later:
                self._note(after.turned(target), due_s, begun_s, fetched)
                return
            now_s = self._clock.wall()
            self._keep(replace(after.turned(target).alone(), due_s=now_s, wait_s=0.0, failures=0))
        logger.warning("a poll had more than %d pages; it goes on later", self._plan.pages_max, extra=self._fields())
        self._note(self._position, due_s, begun_s, fetched)

    async def _claim(self, begun_s: float, *, shares: bool) -> bool:
        """Have it in the log that this poll may go, and move on to the next; whether it goes, or else begins anew."""
        before = self._position
        interval_s, patience_s = self._plan.interval_s, 0.0 if self._hurries else self._patience_s
        try:
            late_max_s = min(LATE_PART * interval_s, LATE_MAX_S)
            if before.shared and shares and abs(begun_s - before.due_s) <= late_max_s:
                due_s = next_due_s(self._plan.id, interval_s, before.due_s)
                await self._hold.raise_watermark(before.due_s, patience=patience_s)
                self._position = replace(before, due_s=due_s, wait_s=due_s - begun_s)
            else:
                due_s = self._next_due_s(begun_s)
                follows_s = interval_s if shares else 0.0
                await self._save(replace(before, due_s=due_s, wait_s=due_s - begun_s, interval_s=follows_s))
        except (asyncio.CancelledError, Fenced):
            # Whoever goes on is to send it.
            self._position = before
            raise
        if self._hold.held_back:
            self._keep(before)
            return False
        return True

    async def _save(self, position: Position) -> None:
        self._position = self._noted = position
        await self._hold.checkpoint(position.to_json(), patience=0.0 if self._hurries else self._patience_s)

    def _next_due_s(self, begun_s: float) -> float:
        return next_due_s(self._plan.id, self._plan.interval_s, begun_s) + self._random.random() * self._plan.jitter_s

    async def _fetch(self, position: Position) -> Fetched:
        from pydrm.handlers.http_exchange import TooLong
        from pydrm.handlers.http_poll.client import Unreachable

        plan = self._plan
        conditions = position.conditions() if plan.method != "POST" else {}
        try:
            fetched = await self._client.fetch(
                plan.method,
                url_of(position.target, plan.url),
                {**plan.headers, **conditions} if conditions else plan.headers,
                plan.body,
                timeout_s=plan.timeout_s,
                bytes_max=plan.bytes_max,
            )
        except Unreachable as error:
            self._circuits.failed(plan.origin, self._clock.now())
            raise self._failed(str(error)) from error
        except TooLong as error:
            self._circuits.succeeded(plan.origin)
            raise self._failed(str(error)) from error
        if not self._hold.valid:
            self._counts.dropped_messages += 1
            raise Fenced(f"a response for resource {plan.id!r} came when token {self._hold.token} was over")
        if fetched.status >= 500:
            self._circuits.failed(plan.origin, self._clock.now())
        else:
            self._circuits.succeeded(plan.origin)
        if not (200 <= fetched.status < 300 or (fetched.status == 304 and conditions)):
            raise self._refused(fetched)
        return fetched

    def _response(self, position: Position, fetched: Fetched, changed: bool) -> Response:
        data = None
        if fetched.status != 304:
            try:
                data = decoded(fetched.body, self._plan.decode, fetched.headers.get("Content-Type", ""))
            except ValueError as error:
                raise self._failed(f"the body is not {self._plan.decode}: {error}") from error
        return Response(
            data,
            self._hold,
            status=fetched.status,
            headers=fetched.headers,
            changed=changed,
            url=url_of(position.target, self._plan.url),
        )

    async def _tell(self, response: Response) -> Following | None:
        """Have the app know; what it wants to ask next."""
        if self._on_response is not None:
            await self._on_response(response)
        if not response.changed:
            return None
        if self._on_change is not None:
            await self._on_change(response)
        if self._next_request is None:
            return None
        return following(await self._next_request(response), self._plan.url)

    # --- what comes of it --------------------------------------------------------------------------------------------

    def _note(self, position: Position, due_s: float, begun_s: float, fetched: Fetched) -> None:
        """It was good: the next one is due at *due_s*, or when what came is not fresh any more."""
        fresh = fresh_s(fetched.headers)
        fresh_until_s = self._clock.wall() + min(fresh, self._plan.wait_max_s) if fresh > 0 else 0.0
        # After more than one page what was saved last may be that of a page.
        interval_s = self._position.interval_s
        position = replace(position, due_s=due_s, wait_s=due_s - begun_s, failures=0, interval_s=interval_s)
        if fresh_until_s > due_s:
            self._keep(replace(position.alone(), due_s=fresh_until_s, wait_s=fresh_until_s - begun_s))
        elif (self._claims and not position.shared) or position.tells_more_than(self._noted):
            self._keep(position)
        else:
            self._position = position

    def _keep(self, position: Position) -> None:
        self._position = position
        # What was claimed is saved already, and so is a poll that brought nothing new.
        if position != self._noted and self._hold.valid:
            self._noted = position
            self._hold.note_checkpoint(position.to_json(), patience=self._patience_s)

    def _refused(self, fetched: Fetched) -> Temporary:
        detail = f"HTTP status {fetched.status}"
        if 300 <= fetched.status < 400 and "Location" in fetched.headers:
            detail += ", a redirect, which is not followed"
        said, date = (fetched.headers.get(name, "") for name in ("Retry-After", "Date"))
        wait_s = retry_after_s(said, date=date, wall=self._clock.wall(), most_s=self._plan.wait_max_s)
        if wait_s is None and fetched.status == 429:
            # It does not say for how long, so each time it is twice as long.
            wait_s = max(self._plan.interval_s, FAILED_WAIT_S) * 2.0 ** min(self._position.failures, 32)
        if wait_s is None:
            return self._failed(detail)
        delay_s = max(min(wait_s, self._plan.wait_max_s), self._least_wait_s)
        # It is about this node's address as little as about this one resource.
        self._hold.hold_back(delay_s, detail)
        return self._failed(detail, delay_s=delay_s)

    def _failed(self, detail: str, *, delay_s: float | None = None) -> Temporary:
        wait_s = self._least_wait_s if delay_s is None else delay_s
        due_s, failures = self._clock.wall() + wait_s, self._position.failures + 1
        self._keep(replace(self._position.alone(), due_s=due_s, wait_s=wait_s, failures=failures))
        return Temporary(detail, delay=delay_s)

    @property
    def _least_wait_s(self) -> float:
        return min(self._plan.interval_s, FAILED_WAIT_S)

    def _be_ready(self) -> None:
        # Once for each run: how long it has been open counts from there.
        if not self._ready:
            self._ready = True
            self._hold.ready()

    def _fields(self) -> dict[str, object]:
        return {"resource": self._plan.id, "token": self._hold.token, "node": self._hold.node}


def _content(plan: Plan, fetched: Fetched) -> bytes | None:
    """What is compared to find out whether it changed; None if the server says that it did not."""
    if fetched.status == 304:
        return None
    if plan.method != "HEAD":
        return fetched.body
    return repr([fetched.headers.get(name, "") for name in ("ETag", "Last-Modified", "Content-Length")]).encode()
