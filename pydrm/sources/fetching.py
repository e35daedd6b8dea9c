"""
What the kinds of sources have in common to fetch by, and the errors of fetching.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import attrs

from pydrm.agent.hold import Hold
from pydrm.core.resource import Json, Resource
from pydrm.sources.options import Options

__all__ = ["Api", "FetchFailed", "Fetched", "Fetcher", "Origin", "said"]


class FetchFailed(Exception):
    """
    The list could not be had.

    Attributes:
        delay_s: How long the other end wants to be left alone; 0 if it did not say.
    """

    def __init__(self, message: str, *, delay_s: float = 0.0) -> None:
        super().__init__(said(message))
        self.delay_s = delay_s


def said(text: str) -> str:
    """*text* as it can be kept: bytes of the other end that were no text are shown as their numbers."""
    return text.encode(errors="backslashreplace").decode()


@attrs.frozen
class Fetched:
    """
    Attributes:
        entries: The whole list; None: there is none to compare with, nothing is to change.
        validators: What says, next time, that it is still the same; empty if nothing can.
    """

    entries: Sequence[Any] | None
    validators: Mapping[str, Json] = attrs.field(factory=dict)


class Api(Protocol):
    """What a plugin may do besides being asked: `plugin.setup` is given it."""

    @property
    def resource(self) -> Resource:
        """The source itself."""

    async def add(self, *entries: Mapping[str, Any]) -> None:
        """
        Add or update entries now. One that the next list does not name goes again.

        Raises:
            InvalidResource: An entry cannot be used; none was added.
            Fenced: This node does not hold the source any more.
        """

    async def remove(self, *ids: str) -> None:
        """Remove entries now, of those that the source owns. Raises Fenced as `add`."""

    def fetch_soon(self) -> None:
        """Have `fetch_resources` called at once rather than when `poll` is over. On the event loop."""


class Fetcher(Protocol):
    """One hold's way to the list."""

    async def open(self, api: Api) -> None:
        """Whatever has to be done once. Raises FetchFailed."""

    async def fetch(self, known: Mapping[str, Json]) -> Fetched | None:
        """
        The whole list, or None if it is still the one that *known* validates.

        Raises:
            FetchFailed: It could not be had; the message says why, in words that hold no secrets.
        """

    async def wait(self, seconds: float) -> None:
        """Until it may be worth to fetch again; *seconds* at the most, 0: without a limit."""

    async def close(self) -> None:
        """Idempotent; nothing of it is open afterwards."""


class Origin(Protocol):
    """What distinguishes one kind of source from another."""

    def check(self, resource: Resource) -> Options:
        """
        Read all fields.

        Raises:
            InvalidResource: A field cannot be used; it is named.
        """

    def fetcher(self, hold: Hold) -> Fetcher: ...
