"""
`Position`: how far a poller has got; what is in its checkpoint. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import attrs
import msgspec

from pydrm.core.resource import Json

__all__ = ["TARGET_BYTES_MAX", "Position"]

# All of it must fit into a checkpoint, which may have 4,096 bytes.
VALIDATOR_BYTES_MAX = 512
TARGET_BYTES_MAX = 2048


@attrs.frozen
class Position:
    """
    Attributes:
        definition: The digest of the definition that was polled; see `Plan.digest`.
        due_s: When the next poll is due: seconds since the epoch.
        wait_s: How long that was from when it was noted. Nobody waits for longer, whatever his clock shows.
        target: The url that the next poll begins with, if it is not the definition's; "" if it is.
        etag, modified: The validators of *target*'s last response, as they came; "" if there were none.
        seen: The digest of its body; "" if it was never polled.
        failures: How many polls in a row failed.
    """

    definition: str
    due_s: float
    wait_s: float
    target: str = ""
    etag: str = ""
    modified: str = ""
    seen: str = ""
    failures: int = 0

    @property
    def works(self) -> bool:
        """Whether the last poll was good."""
        return self.failures == 0 and (self.seen != "" or self.target != "")

    def tells_more_than(self, other: Position) -> bool:
        """Whether they differ in anything but the time."""
        return self is not other and (
            (self.target, self.etag, self.modified, self.seen, self.failures)
            != (other.target, other.etag, other.modified, other.seen, other.failures)
        )  # fmt: skip

    @classmethod
    def read(cls, checkpoint: Any, definition: str) -> Position | None:
        """What a checkpoint says; None if it is of another definition, or says nothing that can be understood."""
        if not isinstance(checkpoint, Mapping) or checkpoint.get("definition") != definition:
            return None
        try:
            return msgspec.convert(checkpoint, cls)
        except msgspec.ValidationError:
            return None

    def to_json(self) -> dict[str, Json]:
        return {
            field.name: getattr(self, field.name)
            for field in attrs.fields(type(self))
            if getattr(self, field.name) != field.default
        }

    def conditions(self) -> dict[str, str]:
        """The headers of a conditional request (RFC 9110, 13.1.2 and 13.1.3): the validators verbatim."""
        headers = {}
        if self.etag:
            headers["If-None-Match"] = self.etag
        if self.modified:
            headers["If-Modified-Since"] = self.modified
        return headers

    def saw(self, headers: Mapping[str, str], body: bytes) -> Position:
        """With what tells the next response of the same target from this one."""
        etag, modified = _validator(headers.get("ETag", "")), _validator(headers.get("Last-Modified", ""))
        seen = _digest(body)
        if (etag, modified, seen) == (self.etag, self.modified, self.seen):
            return self
        return attrs.evolve(self, etag=etag, modified=modified, seen=seen)

    def same(self, headers: Mapping[str, str]) -> Position:
        """After a response with status 304, which may bring newer validators (RFC 9111, section 4.3.4)."""
        etag, modified = _validator(headers.get("ETag", "")), _validator(headers.get("Last-Modified", ""))
        return attrs.evolve(self, etag=etag or self.etag, modified=modified or self.modified)

    def differs(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Whether a response with a body is another one than the last. The same ETag says that it is not."""
        etag = headers.get("ETag", "")
        return self.seen == "" or not ((etag and etag == self.etag) or _digest(body) == self.seen)

    def turned(self, target: str) -> Position:
        """Of another target nothing has been seen yet."""
        return self if target == self.target else attrs.evolve(self, target=target, etag="", modified="", seen="")


def _validator(value: str) -> str:
    # One that cannot be kept, because it is too long or in no known encoding, is given up: then the body tells.
    return value if value.isprintable() and len(value.encode()) <= VALIDATOR_BYTES_MAX else ""


def _digest(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=16).hexdigest()
