"""
The kind "source.http": a list that a web server has.

It is asked for again and again, on the condition that it changed (RFC 9110, section 13): what the server said of its
last answer, ETag and Last-Modified, is sent back to it as it came, also by the next holder.
"""

from __future__ import annotations

import asyncio
import datetime
import email.utils
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from pydrm.agent.hold import Hold
from pydrm.clock import Clock
from pydrm.core.resource import Json, Resource
from pydrm.engine.codec import UNREADABLE
from pydrm.handlers.retry_after import retry_after_s
from pydrm.handlers.secrets import SecretMissing, Secrets, reading
from pydrm.sources.entries import list_at
from pydrm.sources.fetching import Api, Fetched, Fetcher, FetchFailed
from pydrm.sources.fields import Fields
from pydrm.sources.http_request import HttpRequest, NoNextPage, next_url, without_query
from pydrm.sources.options import Options
from pydrm.sources.secret import revealed

if TYPE_CHECKING:
    from pydrm.sources.http_client import Answered, Client

__all__ = ["HttpOrigin"]

POLL_S = 60.0
CHANGED_LATELY_S = 2.0
VALIDATOR_BYTES_MAX = 512


class HttpOrigin:
    """An Origin, for `SourceKind`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def check(self, resource: Resource) -> Options:
        fields = Fields(resource)
        options = Options.read(resource, fields, poll_s=POLL_S)
        HttpRequest.read(fields)
        fields.refuse_others()
        return options

    def fetcher(self, hold: Hold) -> Fetcher:
        return _HttpFetcher(HttpRequest.read(Fields(hold.resource)), hold, self._clock)


class _HttpFetcher:
    def __init__(self, request: HttpRequest, hold: Hold, clock: Clock) -> None:
        self._request = request
        self._hold = hold
        self._clock = clock
        self._client: Client | None = None

    async def open(self, api: Api) -> None:
        # Only here, so that whoever has no such source does not load aiohttp.
        from pydrm.sources.http_client import Client

        self._client = Client(self._hold)

    async def fetch(self, known: Mapping[str, Json]) -> Fetched | None:
        found: dict[str, str] = {}
        url, headers, body = await self._revealed(found)
        try:
            return await self._fetch(known, url, headers, body)
        except FetchFailed as error:
            # A url may hold a secret in its path, and what the other end says may repeat one.
            failure = FetchFailed(Secrets(found).redact(str(error)), delay_s=error.delay_s)
        if failure.delay_s:
            self._hold.hold_back(failure.delay_s, str(failure))
        # Not from within `except`: what failed would be its context.
        raise failure

    async def _fetch(self, known: Mapping[str, Json], url: str, headers: dict[str, str], body: Json) -> Fetched | None:
        first = await self._ask(url, headers | self._conditions(known), body, self._request.bytes_max)
        if first.status == 304 and known:
            return None
        entries: list[Any] = []
        answer, at, seen = first, url, {url: None}
        left = self._request.bytes_max
        while True:
            content = self._content(answer, at)
            entries += self._list(content, at)
            left -= len(answer.body)
            following = self._next(url, at, answer, content)
            if following is None:
                break
            if following in seen or len(seen) == self._request.pages_max:
                why = "is one that was fetched already" if following in seen else "is past max_pages"
                raise FetchFailed(f"the page after number {len(seen)} {why}; a part of a list is not used")
            seen[following] = None
            at = following
            answer = await self._ask(at, headers, body, left)
        # What validates the first page says nothing of the others.
        validators = _validators(first) if len(seen) == 1 and self._request.conditional else {}
        return Fetched(entries, validators)

    async def wait(self, seconds: float) -> None:
        await (self._clock.sleep(seconds) if seconds else asyncio.Event().wait())

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def _revealed(self, found: dict[str, str]) -> tuple[str, dict[str, str], Json]:
        try:
            return await reading(self._reveal, found)
        except SecretMissing as error:
            raise FetchFailed(f"{error} on this node") from None

    def _reveal(self, found: dict[str, str]) -> tuple[str, dict[str, str], Json]:
        """Reads files. *found* is given the secrets that are in it."""
        request, hold = self._request, self._hold
        assignment = {"id": hold.resource.id, "node": hold.node, "token": str(hold.token)}
        # An id may hold anything, so it must not end the part of the url that it stands in.
        quoted = {name: quote(value, safe="") for name, value in assignment.items()}
        url = revealed(request.url, quoted, found=found)
        headers = {name: str(revealed(value, assignment, found=found)) for name, value in request.headers.items()}
        return str(url), headers, revealed(request.body, {}, found=found)

    def _conditions(self, known: Mapping[str, Json]) -> dict[str, str]:
        conditions = {"If-None-Match": known.get("etag"), "If-Modified-Since": known.get("last_modified")}
        return {name: value for name, value in conditions.items() if isinstance(value, str)}

    async def _ask(self, url: str, headers: Mapping[str, str], body: Json, bytes_max: int) -> Answered:
        assert self._client is not None, "open() comes first"
        await self._hold.may_request()
        answer = await self._client.ask(
            self._request.method, url, headers, body, timeout_s=self._request.timeout_s, bytes_max=bytes_max
        )
        if answer.status == 304 or 200 <= answer.status < 300:
            return answer
        where = f"{without_query(url)} answered with status {answer.status}"
        if "Location" in answer.headers:
            where += f" and leads to {without_query(answer.headers['Location'])}, which is not followed"
        said, date = (answer.headers.get(name, "") for name in ("Retry-After", "Date"))
        delay_s = retry_after_s(said, date=date, wall=self._clock.wall()) or 0.0
        raise FetchFailed(where, delay_s=delay_s)

    def _content(self, answer: Answered, url: str) -> object:
        if answer.status == 304:
            raise FetchFailed(f"{without_query(url)} answered that nothing changed, and was not asked")
        try:
            return msgspec.json.decode(answer.body)
        except UNREADABLE as error:
            raise FetchFailed(f"{without_query(url)} answered with what is not JSON: {error}") from None

    def _list(self, content: object, url: str) -> list[Any]:
        try:
            return list_at(content, self._request.list)
        except ValueError as error:
            raise FetchFailed(f"in the answer of {without_query(url)}: {error}") from None

    def _next(self, first: str, current: str, answer: Answered, content: object) -> str | None:
        try:
            return next_url(self._request, first, current, answer.link, content)
        except NoNextPage as error:
            raise FetchFailed(f"{error}; a part of a list is not used") from None


def _validators(answer: Answered) -> dict[str, Json]:
    """
    What the server said of its answer; nothing, if that was changed in the second in which it was sent.

    Another change in that second would have the same Last-Modified, and with many servers the same ETag, which they
    make of it (RFC 9110, section 8.8.2.2).
    """
    changed_at, sent_at = _moment(answer.headers.get("Last-Modified")), _moment(answer.headers.get("Date"))
    if changed_at is not None and sent_at is not None and sent_at - changed_at < CHANGED_LATELY_S:
        return {}
    said = {"etag": answer.headers.get("ETag", ""), "last_modified": answer.headers.get("Last-Modified", "")}
    # One that cannot be kept, because it is too long or in no known encoding, is done without.
    return {
        name: value
        for name, value in said.items()
        if value and value.isprintable() and len(value.encode()) <= VALIDATOR_BYTES_MAX
    }


def _moment(text: str | None) -> float | None:
    """An HTTP date in seconds since the epoch; None if it cannot be read."""
    try:
        at = email.utils.parsedate_to_datetime(text or "")
        return at.replace(tzinfo=at.tzinfo or datetime.UTC).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
