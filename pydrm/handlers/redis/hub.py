"""
`RedisHub`: one connection to a server, on which all of this node's subscriptions there share.

Redis answers the commands of a connection in their order, and between the answers it pushes messages. So what an answer
is about is told by a queue of the commands that were sent.

A lost connection is lost for all; each resource shows it, and asks for a new one when the agent runs its handler again.
The first that asks connects, for all. While that fails, it is tried no more often than a backoff of the hub's own says,
however many resources ask.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

import attrs

from pydrm.agent.backoff import Backoff
from pydrm.clock import Clock, Random
from pydrm.handlers.redis.address import RedisAddress
from pydrm.handlers.redis.subscription import Heard, Subscription, Topic
from pydrm.handlers.redis.trouble import Lost, Refused

if TYPE_CHECKING:
    from pydrm.handlers.redis.link import RedisLink

__all__ = ["RedisHub"]

OPEN_TIMEOUT_S = 10.0
LEAVE_TIMEOUT_S = 0.25
PING_S = 10.0
STABLE_S = 5.0
BACKOFF_LONGEST_S = 5.0

_PUSHES = {b"message": "SUBSCRIBE", b"pmessage": "PSUBSCRIBE", b"smessage": "SSUBSCRIBE"}
_LEAVE = {"SUBSCRIBE": "UNSUBSCRIBE", "PSUBSCRIBE": "PUNSUBSCRIBE", "SSUBSCRIBE": "SUNSUBSCRIBE"}
_SHARDED = ("SSUBSCRIBE", "SUNSUBSCRIBE")


@attrs.define(eq=False)
class _Expected:
    """An answer that is to come: one for each name, or one in all for a PING or an error."""

    word: str
    names: set[bytes]
    answered: asyncio.Future[None]


class RedisHub:
    def __init__(self, address: RedisAddress, *, clock: Clock, random: Random) -> None:
        self._address = address
        self._clock = clock
        self._backoff = Backoff(random, cap_s=BACKOFF_LONGEST_S)
        self._not_before = float("-inf")
        self._trouble = ""
        self._connecting = asyncio.Lock()
        self._link: RedisLink | None = None
        self._opened_at = float("-inf")
        self._heard_at = float("-inf")
        self._expected: deque[_Expected] = deque()
        self._subscriptions: dict[Topic, list[Subscription]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def subscribe(self, subscription: Subscription) -> None:
        """
        Return when the server has confirmed all of it; whatever comes of this, `leave` follows.

        Raises:
            Lost, Refused: It has not.
        """
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                link = await self._connected()
                for topic in subscription.topics:
                    self._subscriptions.setdefault(topic, []).append(subscription)
                await asyncio.gather(*self._send(link, subscription.topics))
        except TimeoutError:
            raise Lost(f"{self._address} did not confirm within {OPEN_TIMEOUT_S:g} s") from None

    async def leave(self, subscription: Subscription, *, politely: bool) -> None:
        """Nothing is put into *subscription* any more; *politely*, the server has confirmed that, if it is quick."""
        alone = []
        for topic in subscription.topics:
            sharing = self._subscriptions.get(topic, [])
            if subscription in sharing:
                sharing.remove(subscription)
                if not sharing:
                    del self._subscriptions[topic]
                    alone.append((_LEAVE[topic[0]], topic[1]))
        if self._link is None or not alone:
            return
        answers = self._send(self._link, tuple(alone))
        if politely:
            await asyncio.wait(answers, timeout=LEAVE_TIMEOUT_S)

    async def close(self) -> None:
        """Nobody uses it any more. Idempotent."""
        link, self._link = self._link, None
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if link is not None:
            await link.close()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- the connection ----------------------------------------------------------------------------------------------

    async def _connected(self) -> RedisLink:
        from pydrm.handlers.redis.link import RedisLink

        # Whoever has the lock may be cancelled; then the next in the queue connects.
        async with self._connecting:
            if self._link is not None:
                return self._link
            if self._clock.now() < self._not_before:
                raise Lost(self._trouble)
            await self.close()
            try:
                self._link = await RedisLink.open(self._address, hold=None, timeout_s=OPEN_TIMEOUT_S)
            except (Lost, Refused) as error:
                self._trouble = str(error)
                self._not_before = self._clock.now() + self._backoff.next_s()
                raise
            self._opened_at = self._heard_at = self._clock.now()
            self._tasks = [
                asyncio.create_task(self._listen(self._link), name=f"pydrm {self._address}"),
                asyncio.create_task(self._watch(self._link), name=f"pydrm watch {self._address}"),
            ]
            return self._link

    async def _listen(self, link: RedisLink) -> None:
        try:
            while True:
                try:
                    self._take(await link.read())
                except Refused as refused:
                    self._answer(refused)
                self._heard_at = self._clock.now()
        except Lost as lost:
            await self._lose(link, str(lost))
        except Exception as error:  # noqa: BLE001 (foreign bytes: whatever they led to, nothing more is heard)
            await self._lose(link, f"{self._address} says what cannot be understood ({type(error).__name__})")

    async def _watch(self, link: RedisLink) -> None:
        """A peer that vanished without a word is found out by its not answering."""
        while True:
            await self._clock.sleep(PING_S)
            if self._link is not link:
                # It was lost meanwhile. To expect anything of it would put the answers of the next one out of step.
                return
            silent_s = self._clock.now() - self._heard_at
            if silent_s > 2 * PING_S:
                await self._lose(link, f"{self._address} has not answered for {silent_s:.0f} s")
                return
            if silent_s >= PING_S / 2:
                self._expect("PING")
                link.send("PING")

    async def _lose(self, link: RedisLink, why: str) -> None:
        if self._link is not link:
            return
        self._link = None
        if self._clock.now() - self._opened_at >= STABLE_S:
            self._backoff.reset()
        self._trouble = why
        self._not_before = self._clock.now() + self._backoff.next_s()
        for sharing in self._subscriptions.values():
            for subscription in sharing:
                subscription.lose(why)
        self._subscriptions.clear()
        while self._expected:
            expected = self._expected.popleft()
            if not expected.answered.done():
                expected.answered.set_exception(Lost(why))
        await link.close()

    # --- what goes out and what comes in -----------------------------------------------------------------------------

    def _send(self, link: RedisLink, topics: tuple[Topic, ...]) -> list[asyncio.Future[None]]:
        answers = []
        for word in dict.fromkeys(word for word, _ in topics):
            names = [name for other, name in topics if other == word]
            # A cluster takes several sharded channels in one command only if they are in one slot.
            for group in [[name] for name in names] if word in _SHARDED else [names]:
                answers.append(self._expect(word, *group))
                link.send(word, *group)
        return answers

    def _expect(self, word: str, *names: bytes) -> asyncio.Future[None]:
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Nobody has to wait for it.
        answered.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._expected.append(_Expected(word, set(names), answered))
        return answered

    def _take(self, reply: Any) -> None:
        word = reply[0] if isinstance(reply, list) and reply else None
        if word in _PUSHES:
            self._push(_PUSHES[word], reply)
        elif isinstance(word, bytes) and word.lower().endswith(b"subscribe"):
            self._confirm(word.decode().upper(), reply[1])
        else:
            self._answer(None)

    def _push(self, word: str, reply: list[bytes]) -> None:
        name, channel, data = reply[1], reply[-2], reply[-1]
        heard = Heard(channel, name if word == "PSUBSCRIBE" else b"", data)
        for subscription in self._subscriptions.get((word, name), ()):
            subscription.put(heard)

    def _confirm(self, word: str, name: bytes) -> None:
        first = self._expected[0] if self._expected else None
        if first is not None and first.word == word and name in first.names:
            first.names.discard(name)
            if not first.names:
                self._answer(None)
            return
        # A cluster moved the channel to another server.
        for topic in [topic for topic in self._subscriptions if topic[1] == name and _LEAVE[topic[0]] == word]:
            for subscription in self._subscriptions.pop(topic):
                subscription.lose(f"the channel {name.decode(errors='replace')!r} has left {self._address}")

    def _answer(self, refused: Refused | None) -> None:
        if not self._expected:
            return
        answered = self._expected.popleft().answered
        if answered.done():
            return
        if refused is None:
            answered.set_result(None)
        else:
            answered.set_exception(refused)
