"""
`Courier`: takes one subscription's events to its receiver, under one hold.

    Rule 1.  A delivery is claimed, and that is committed, before its request is begun; then the hold is read once more.
    Rule 2.  What became of it is committed before it is tried again. With at most once, only what certainly never left
             is.
    Rule 3.  While the receiver fails, it is given one request at a time.
    Rule 4.  Told to end while the hold is valid, it waits a little for what is under way: what is left behind is
             unknown to the next holder.
    Rule 5.  Each request is one of the group's budget. It is waited for first of all, while nothing is claimed and no
             room is taken: so what waits can be let go of at any moment, and keeps nobody else waiting.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Mapping

import attrs

from pydrm.agent.deliveries import Desk
from pydrm.agent.hold import Hold
from pydrm.clock import Clock, Random
from pydrm.core.decide_ledger import UNKNOWN
from pydrm.core.events import DeliveryState, Event
from pydrm.core.ledger_commands import Verdict
from pydrm.errors import Fenced
from pydrm.handlers.retry_after import retry_after_s
from pydrm.handlers.webhook.poster import Lost, NotSent, Post, Poster
from pydrm.handlers.webhook.schedule import delay_s
from pydrm.handlers.webhook.signature import signature
from pydrm.handlers.webhook.subscription import Subscription

__all__ = ["LEAVE_TIMEOUT_S", "Courier", "Envelope"]

LEAVE_TIMEOUT_S = 1.0
CONCURRENCY = 16
ASK_AGAIN_S = 0.5

_GONE = 410
_SUCCESS = range(200, 300)


@attrs.frozen(repr=False)
class Envelope:
    """
    Attributes:
        keys: What each request is signed with.
        headers: What each has besides those of Standard Webhooks.
    """

    keys: tuple[bytes, ...]
    headers: Mapping[str, str]


@attrs.frozen
class _Outcome:
    """
    Attributes:
        failed: Whether the receiver, as far as can be told, is not well.
        hold_back_s: For how long it asked to be left alone.
        gone: That it asked never to be asked again.
    """

    verdict: Verdict
    reason: str = ""
    delay_s: float = 0.0
    failed: bool = False
    hold_back_s: float = 0.0
    gone: bool = False


class Courier:
    """To be worked once."""

    def __init__(
        self,
        hold: Hold,
        subscription: Subscription,
        envelope: Envelope,
        desk: Desk,
        poster: Poster,
        *,
        room: asyncio.Semaphore,
        clock: Clock,
        random: Random,
    ) -> None:
        self._hold = hold
        self._subscription = subscription
        self._envelope = envelope
        self._desk = desk
        self._poster = poster
        self._room = room
        self._clock = clock
        self._random = random
        self._queue: list[tuple[float, int]] = []  # (when, event); with `ordered` (event, event)
        self._at: dict[int, float] = {}  # event -> when; those that are queued
        self._not_before: dict[int, float] = {}
        self._under_way: dict[asyncio.Task[None], int] = {}
        self._unclaimed: set[int] = set()  # those of them that wait for the budget
        self._held_back_until = float("-inf")
        self._leaving = False
        self._failure: BaseException | None = None
        # How long it has failed by now is kept from holder to holder, and grows only while somebody tries.
        noted = hold.last_checkpoint
        self._failing_s = float(noted["failing_s"]) if isinstance(noted, dict) and "failing_s" in noted else 0.0
        self._failing_since = clock.now() - self._failing_s if self._failing_s else None

    async def work(self) -> None:
        """Until cancelled, or until nothing can be said any more."""
        try:
            while self._failure is None:
                for event in self._desk.take():
                    self._note(event)
                self._begin_some()
                await self._wait()
            raise self._failure
        except asyncio.CancelledError:
            self._leaving = True
            for task, event in self._under_way.items():
                if event in self._unclaimed:
                    task.cancel()
            if self._under_way and self._hold.valid:
                await asyncio.wait(self._under_way, timeout=LEAVE_TIMEOUT_S)
            raise
        finally:
            for task in self._under_way:
                task.cancel()
            await asyncio.gather(*self._under_way, return_exceptions=True)

    # --- what is next ------------------------------------------------------------------------------------------------

    def _note(self, event: int) -> None:
        """There is news about it."""
        delivery = self._desk.delivery(event)
        if delivery is None or delivery.state is DeliveryState.DEAD or event in self._under_way.values():
            return
        self._put(event, max(self._desk.due_at(delivery), self._not_before.pop(event, float("-inf"))))

    def _put(self, event: int, at: float) -> None:
        if self._at.get(event) != at:
            queued = event in self._at
            self._at[event] = at
            if not (queued and self._subscription.ordered):
                heapq.heappush(self._queue, (float(event) if self._subscription.ordered else at, event))

    def _next(self) -> tuple[float, int] | None:
        """(when, event) of what is next, if anything is."""
        while self._queue:
            place, event = self._queue[0]
            at = self._at.get(event)
            if at is not None and (self._subscription.ordered or place == at):
                return max(at, self._held_back_until), event
            heapq.heappop(self._queue)  # it was put at another place since
        return None

    @property
    def _most(self) -> int:
        """How many may be under way."""
        return 1 if self._subscription.ordered or self._failing_since is not None else CONCURRENCY

    def _begin_some(self) -> None:
        while len(self._under_way) < self._most:
            following = self._next()
            if following is None or following[0] > self._clock.now():
                return
            heapq.heappop(self._queue)
            event = following[1]
            del self._at[event]
            task = asyncio.create_task(self._deliver(event), name=f"pydrm deliver {self._hold.resource.id}")
            self._under_way[task] = event
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        event = self._under_way.pop(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = self._failure or error
        elif not task.cancelled():
            # What was said of it while it was under way was passed over.
            self._note(event)
        self._desk.news.set()

    async def _wait(self) -> None:
        following = self._next() if len(self._under_way) < self._most else None
        timeout_s = max(following[0] - self._clock.now(), 0.0) if following is not None else None
        try:
            async with asyncio.timeout(timeout_s):
                await self._desk.news.wait()
        except TimeoutError:
            pass

    # --- one delivery ------------------------------------------------------------------------------------------------

    async def _deliver(self, event: int) -> None:
        self._unclaimed.add(event)
        try:
            await self._hold.may_request()
        finally:
            self._unclaimed.remove(event)
        async with self._room:
            delivery = self._desk.delivery(event)
            if self._leaving or delivery is None or delivery.state is DeliveryState.DEAD:
                return
            attempt = delivery.attempt + 1
            if not await self._desk.claim(event, attempt, once=self._subscription.once):
                # It is to let go, or somebody else is at work: with overlap there are two holders for a moment.
                self._not_before[event] = self._clock.now() + ASK_AGAIN_S
                return
            content = self._desk.event(event)
            assert content is not None, "a delivery that is claimed has its event"
            if self._leaving or not self._hold.valid:
                # Rule 1. Nothing has left, and who knows that says so.
                await self._desk.settle(event, attempt, Verdict.AGAIN)
                return
            outcome = await self._post(content, attempt - delivery.series)
            self._learn(outcome)
            await self._desk.settle(event, attempt, outcome.verdict, delay_s=outcome.delay_s, reason=outcome.reason)
            if outcome.failed:
                await self._disable_if_due(outcome)

    async def _post(self, event: Event, tries: int) -> _Outcome:
        timestamp = int(self._clock.wall())
        headers = {
            **self._envelope.headers,
            "Content-Type": event.content_type,
            "webhook-id": event.id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(self._envelope.keys, event.id, timestamp, event.payload),
        }
        once = self._subscription.once
        post = Post(
            self._subscription.url,
            headers,
            event.payload,
            timeout_s=self._subscription.timeout_s,
            allowed=self._subscription.allowed,
            fresh=once,
        )
        try:
            reply = await self._poster.post(self._hold, post)
        except NotSent as error:
            if not self._hold.valid:
                raise Fenced(str(error)) from error
            return self._again(tries, f"not sent: {error}")
        except Lost as error:
            if once:
                return _Outcome(Verdict.DEAD, f"{UNKNOWN}: {error}", failed=True)
            return self._again(tries, f"no answer: {error}")
        if reply.status in _SUCCESS:
            return _Outcome(Verdict.DELIVERED)
        reason = f"answered with HTTP status {reply.status}"
        if reply.status == _GONE:
            return _Outcome(Verdict.DEAD, reason, failed=True, gone=True)
        hold_back_s = retry_after_s(reply.retry_after, date=reply.date, wall=self._clock.wall()) or 0.0
        if once:
            return _Outcome(Verdict.DEAD, reason, failed=True, hold_back_s=hold_back_s)
        return attrs.evolve(self._again(tries, reason), hold_back_s=hold_back_s)

    def _again(self, tries: int, reason: str) -> _Outcome:
        after_s = delay_s(tries, self._random.random())
        if after_s is None:
            return _Outcome(Verdict.DEAD, f"{reason}, in the last of {tries} tries", failed=True)
        return _Outcome(Verdict.AGAIN, reason, delay_s=after_s, failed=True)

    # --- the receiver's health ---------------------------------------------------------------------------------------

    def _learn(self, outcome: _Outcome) -> None:
        """At once, and not only when it is committed: what else is due is not to be begun meanwhile."""
        now = self._clock.now()
        self._held_back_until = max(self._held_back_until, now + outcome.hold_back_s)
        if outcome.hold_back_s:
            self._hold.hold_back(outcome.hold_back_s, outcome.reason)
        if outcome.failed:
            if self._failing_since is None:
                self._failing_since = now
            self._hold.retrying(outcome.reason)
        elif self._failing_since is not None:
            self._failing_since = None
            self._hold.note_checkpoint({"failing_s": 0})
            self._hold.ready()

    async def _disable_if_due(self, outcome: _Outcome) -> None:
        if self._failing_since is None:
            return
        failing_s = self._clock.now() - self._failing_since
        if outcome.gone or failing_s >= self._subscription.disable_after_s:
            why = outcome.reason if outcome.gone else f"failing for {failing_s:.0f} s, {outcome.reason}"
            # Whoever resumes it begins anew.
            self._hold.note_checkpoint({"failing_s": 0})
            await self._desk.pause(f"disabled: {why}")
        else:
            self._hold.note_checkpoint({"failing_s": round(failing_s, 1)})
