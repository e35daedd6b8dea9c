"""
`Position`: how far a poller has got; what is in its checkpoint. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from pydrm.core.resource import Json

__all__ = ["TARGET_BYTES_MAX", "Position"]

# All of it must fit into a checkpoint, which may have 4,096 bytes.
VALIDATOR_BYTES_MAX = 512
TARGET_BYTES_MAX = 2048


class Position(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """
    Attributes:
        definition: The digest of the definition that was polled; see `Plan.digest`.
        due_s: When the next poll is due: seconds since the epoch.
        wait_s: How long that was from when it was noted. Nobody waits for longer, whatever his clock shows.
        target: The url that the next poll begins with, if it is not the definition's; "" if it is.
        etag, modified: The validators of *target*'s last response, as they came; "" if there were none.
        seen: The digest of its body; "" if it was never polled.
        failures: How many polls in a row failed.
        interval_s: With what interval the polls from *due_s* on go by the watermark of the node: then each is at its
            time, and those that may have been sent are not noted here. 0: each is noted here before it is sent.
    """

    definition: str
    due_s: float
    wait_s: float
    target: str = ""
    etag: str = ""
    modified: str = ""
    seen: str = ""
    failures: int = 0
    interval_s: float = 0.0

    @property
    def shared(self) -> bool:
        """Whether its polls go by the watermark of the node."""
        return self.interval_s > 0

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
        """What `read` reads; without what is as in a new one."""
        value: dict[str, Json] = msgspec.to_builtins(self)
        return value

    def conditions(self) -> dict[str, str]:
        """The headers of a conditional request (RFC 9110, 13.1.2 and 13.1.3): the validators verbatim."""
        headers = {}
        if self.etag:
            headers["If-None-Match"] = self.etag
        if self.modified:
            headers["If-Modified-Since"] = self.modified
        return headers

    def after(self, headers: Mapping[str, str], content: bytes | None) -> tuple[Position, bool]:
        """
        Where it stands after a response of the same target, and whether that is another one than the last.

        Args:
            content: None with status 304, which may bring newer validators (RFC 9111, section 4.3.4).
        """
        etag, modified = _validator(headers.get("ETag")), _validator(headers.get("Last-Modified"))
        if content is None:
            etag, modified, seen = etag or self.etag, modified or self.modified, self.seen
            changed = False
        else:
            seen = hashlib.blake2b(content, digest_size=16).hexdigest()
            # The same ETag says that it is the same.
            changed = self.seen == "" or not (seen == self.seen or (etag != "" and etag == self.etag))
        if (etag, modified, seen) == (self.etag, self.modified, self.seen):
            return self, changed
        return replace(self, etag=etag, modified=modified, seen=seen), changed

    def alone(self) -> Position:
        """The same, for polls that do not go by the watermark."""
        return replace(self, interval_s=0.0)

    def turned(self, target: str) -> Position:
        """Of another target nothing has been seen yet."""
        return self if target == self.target else replace(self, target=target, etag="", modified="", seen="")


def _validator(value: str | None) -> str:
    if not value:
        return ""
    # One that cannot be kept, because it is too long or in no known encoding, is given up: then the body tells.
    return value if value.isprintable() and len(value.encode()) <= VALIDATOR_BYTES_MAX else ""
