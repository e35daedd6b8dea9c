"""
`Message`: what a handler delivers to the app, under its hold.
"""

from __future__ import annotations

from typing import Any

import attrs

from pydrm.agent.hold import Hold
from pydrm.core.resource import Json, Resource

__all__ = ["Message"]


@attrs.frozen
class Message:
    """
    Something that arrived for a resource while this node held it.

    Attributes:
        data: As the third party sent it: text as str, binary as bytes; or what its kind made of that.
        hold: What it arrived under.
    """

    data: Any
    hold: Hold = attrs.field(repr=False)

    @property
    def resource(self) -> Resource:
        return self.hold.resource

    @property
    def token(self) -> int:
        """The fencing token it arrived under; pass it on to whatever must refuse a former holder."""
        return self.hold.token

    @property
    def valid(self) -> bool:
        """Whether this node still holds the resource. Ask again right before what must not be done twice."""
        return self.hold.valid

    async def checkpoint(self, value: Json | bytes) -> None:
        """Save that the resource has got as far as *value*; see `Hold.checkpoint`, whose errors it raises."""
        await self.hold.checkpoint(value)

    def note_checkpoint(self, value: Json | bytes) -> None:
        """The same without waiting; see `Hold.note_checkpoint`."""
        self.hold.note_checkpoint(value)

    async def reply(self, data: str | bytes) -> None:
        """Send *data* to where this came from; see `Hold.send`, whose errors it raises."""
        await self.hold.send(data)
