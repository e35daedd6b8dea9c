"""
The kind "redis_stream": entries of Redis streams, read by one node at a time, which goes on where the last one was.

The position is noted after the callback has returned. So nothing that is published during a move is lost, and an entry
that was at work when its node died is delivered again, under a higher token: at least once.
"""

from __future__ import annotations

import hashlib
import json
import logging
from typing import TYPE_CHECKING, Any

import attrs

from pydrm.agent.hold import Hold
from pydrm.agent.message import Message
from pydrm.clock import Clock
from pydrm.core.resource import Resource
from pydrm.errors import Fenced, InvalidResource, Permanent, Temporary, Unavailable
from pydrm.handlers.callbacks import Callback, Callbacks
from pydrm.handlers.counts import Counts
from pydrm.handlers.decoding import DECODES, decoded
from pydrm.handlers.fields import Fields
from pydrm.handlers.redis.address import MAY_HOLD_SECRETS, RedisAddress
from pydrm.handlers.redis.position import NONE, Mark, StreamInfo, StreamPosition, is_entry_id
from pydrm.handlers.redis.trouble import MISSING, Refused, is_installed
from pydrm.handlers.secrets import Secrets

if TYPE_CHECKING:
    from pydrm.handlers.redis.link import RedisLink

__all__ = ["Entry", "RedisStream"]

logger = logging.getLogger(__name__)

STREAMS_MAX = 16
STREAM_BYTES_MAX = 128
COUNT = 100
BLOCK_S = 5.0
ANSWER_TIMEOUT_S = 10.0
LOOK_AGAIN_S = 1.0


@attrs.frozen
class Entry(Message):
    """
    Attributes:
        data: Its fields, by name; the values as the definition's `decode` says.
        stream, entry_id: Where it is. With the id a receiver can tell an entry that it has had already.
    """

    stream: str
    entry_id: str


@attrs.frozen
class _Plan:
    address: RedisAddress
    streams: tuple[str, ...]
    start: str
    on_message: str
    decode: str
    count: int
    digest: str

    @classmethod
    def of(
        cls,
        resource: Resource,
        *,
        node: str,
        token: int,
        callbacks: Callbacks | None = None,
        secrets: Secrets | None = None,
    ) -> _Plan:
        fields = Fields(resource, node=node, token=token, may_hold_secrets=MAY_HOLD_SECRETS, secrets=secrets)
        streams = fields.texts("streams")
        if not streams:
            raise fields.wrong("streams", "is missing")
        # The position in all of them must fit into one checkpoint.
        if len(streams) > STREAMS_MAX or any(len(stream.encode()) > STREAM_BYTES_MAX for stream in streams):
            raise fields.wrong("streams", f"must be at most {STREAMS_MAX}, of {STREAM_BYTES_MAX} bytes each")
        start = fields.text("start", "$")
        if start not in ("$", "0") and not is_entry_id(start):
            raise fields.wrong("start", f'must be "$" (what is new), "0" (all there is) or an id, not {start!r}')
        address = RedisAddress.of(fields)
        where = [address.host, address.port, address.database, *streams]
        return cls(
            address=address,
            streams=streams,
            start=start,
            on_message=fields.callback("on_message", callbacks),
            decode=fields.choice("decode", "bytes", DECODES),
            count=fields.whole("count", COUNT, least=1, most=10_000),
            digest=hashlib.sha256(json.dumps(where).encode()).hexdigest()[:16],
        )


class RedisStream:
    """
    Fields of a resource: `url`, `streams` (one or a list of them), and optionally `username`, `password`, `start`
    ("$", "0" or an entry's id; for a resource that has no position yet), `on_message` (a callback's name; it gets an
    `Entry`), `decode` ("bytes", "text" or "json", for the values) and `count` (how many entries are asked for at once).

    It is open once the server has told how far its streams are, and where it begins is saved. Entries of one resource
    are delivered one after the other. A callback that raises `Temporary` is given the same entry again after its delay;
    if it raises anything else, that is logged and counted and costs that entry only.

    Attributes:
        counts: The entries that the app did not get.
    """

    fields = frozenset(
        {
            "url",
            "username",
            "password",
            "streams",
            "start",
            "on_message",
            "decode",
            "count",
        }
    )

    def __init__(self, callbacks: Callbacks, *, clock: Clock, counts: Counts | None = None) -> None:
        self.counts = counts or Counts()
        self._callbacks = callbacks
        self._clock = clock

    def validate(self, resource: Resource) -> None:
        _Plan.of(resource, node="node", token=1, callbacks=self._callbacks)
        if not is_installed():
            raise InvalidResource(MISSING, resource=resource.id, field="kind")

    async def run(self, hold: Hold) -> None:
        if not is_installed():
            raise Permanent(MISSING)
        from pydrm.handlers.redis.link import RedisLink

        secrets = await Secrets.held(hold, MAY_HOLD_SECRETS)
        plan = secrets.fill(lambda: _Plan.of(hold.resource, node=hold.node, token=hold.token, secrets=secrets))
        callback = self._callbacks.named_by(hold, plan.on_message)
        with secrets.redacted():
            link = await RedisLink.open(plan.address, hold=hold, timeout_s=ANSWER_TIMEOUT_S)
            try:
                await _Reader(self.counts, plan, hold, link, callback, self._clock).run()
            finally:
                await link.close()


class _Reader:
    """One run of the handler."""

    def __init__(
        self, counts: Counts, plan: _Plan, hold: Hold, link: RedisLink, callback: Callback | None, clock: Clock
    ) -> None:
        self._counts = counts
        self._plan = plan
        self._hold = hold
        self._link = link
        self._callback = callback
        self._clock = clock
        self._marks: dict[str, Mark] = dict(StreamPosition.read(hold.last_checkpoint, plan.digest).marks)
        self._looked_at = float("-inf")

    async def run(self) -> None:
        new = [stream for stream in self._plan.streams if stream not in self._marks]
        await self._look()
        if new:
            # Saved before it shows as open: from then on whoever publishes may rely on its being read.
            await self._hold.checkpoint(self._position())
        self._hold.ready()
        while True:
            read, full = await self._read_some()
            if (full or not read) and self._clock.now() - self._looked_at >= LOOK_AGAIN_S:
                await self._look(reports=full)

    async def _look(self, *, reports: bool = True) -> None:
        """
        Find out where the streams begin now, and whether one is another than was read.

        Args:
            reports: Whether to say that something was cut off before it was read, which is so only while there is more.
        """
        self._looked_at = self._clock.now()
        for stream in self._plan.streams:
            info = StreamInfo.of(await self._info(stream))
            mark = self._marks.get(stream)
            if mark is None:
                self._marks[stream] = info.mark(self._plan.start)
            elif info.is_another(mark):
                logger.warning(
                    "the stream %r is not as far as it was read (%s, and was at %s): it is read from its beginning",
                    stream,
                    info.last,
                    mark.id,
                    extra=self._fields(),
                )
                self._marks[stream] = Mark(NONE, info.gone)
            elif reports and (cut_off := info.cut_off(mark)):
                self._report(stream, mark, info, cut_off)

    async def _info(self, stream: str) -> list[Any] | None:
        try:
            reply: list[Any] = await self._link.ask("XINFO", "STREAM", stream, timeout_s=ANSWER_TIMEOUT_S)
        except Refused as refused:
            if "no such key" in str(refused):
                return None
            raise
        return reply

    def _report(self, stream: str, mark: Mark, info: StreamInfo, cut_off: int) -> None:
        self._counts.cut_off_entries += max(cut_off, 1)
        logger.warning(
            "%s entries of the stream %r after %s were cut off by the server before they were read",
            cut_off if cut_off > 0 else "some",
            stream,
            mark.id,
            extra=self._fields(),
        )
        # Not to be reported twice.
        self._marks[stream] = Mark(mark.id, info.gone)

    async def _read_some(self) -> tuple[int, bool]:
        """Wait for entries and deliver them; how many there were, and whether there may be more at once."""
        plan = self._plan
        ids = [self._marks[stream].id for stream in plan.streams]
        block_ms = round(BLOCK_S * 1000)
        reply = await self._link.ask(
            "XREAD", "COUNT", plan.count, "BLOCK", block_ms, "STREAMS", *plan.streams, *ids,
            timeout_s=BLOCK_S + ANSWER_TIMEOUT_S,
        )  # fmt: skip
        read, full = 0, False
        for name, entries in reply or ():
            for entry_id, pairs in entries:
                await self._deliver(name.decode(), entry_id.decode(), pairs or [])
            read += len(entries)
            full = full or len(entries) == plan.count
        return read, full

    async def _deliver(self, stream: str, entry_id: str, pairs: list[bytes]) -> None:
        hold = self._hold
        if not hold.valid:
            self._counts.dropped_messages += 1
            raise Fenced(f"an entry for resource {hold.resource.id!r} came when token {hold.token} was over")
        if self._callback is not None:
            try:
                await self._callback(self._entry(stream, entry_id, pairs))
            except (Temporary, Unavailable):
                # The latter comes of what it did with its hold, such as `publish`, and asks to be repeated.
                raise
            except Exception:
                # The border to the app's code: one entry must not keep the rest from it for ever.
                self._counts.callback_failures += 1
                logger.exception("a callback failed; entry %s is lost to it", entry_id, extra=self._fields())
        mark = self._marks[stream]
        self._marks[stream] = Mark(entry_id, mark.number + 1 if mark.number or mark.id == NONE else 0)
        if hold.valid:
            hold.note_checkpoint(self._position())

    def _entry(self, stream: str, entry_id: str, pairs: list[bytes]) -> Entry:
        data = {
            pairs[at].decode(errors="replace"): decoded(pairs[at + 1], self._plan.decode)
            for at in range(0, len(pairs), 2)
        }
        return Entry(data, self._hold, stream, entry_id)

    def _position(self) -> dict[str, Any]:
        return StreamPosition(self._plan.digest, self._marks).to_json()

    def _fields(self) -> dict[str, object]:
        return {"resource": self._hold.resource.id, "token": self._hold.token, "node": self._hold.node}
