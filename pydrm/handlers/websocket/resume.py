"""
`Position`: where a decoded message says how far a stream is, for the next connection to go on from there.
"""

from __future__ import annotations

from typing import Any

import attrs

from pydrm.core.resource import Json
from pydrm.handlers.definition_fields import Wrong

__all__ = ["Position", "position_of"]


@attrs.frozen
class Position:
    """
    Attributes:
        path: The names of members and the numbers of items that lead there from the message.
    """

    path: tuple[str | int, ...]

    def of(self, message: Any) -> Json:
        """What stands there, if that is a string or a number; None if there is no such thing."""
        for step in self.path:
            if isinstance(message, dict):
                message = message.get(step)
            elif (
                isinstance(message, list)
                and (number := _number(step)) is not None
                and -len(message) <= number < len(message)
            ):
                message = message[number]
            else:
                return None
        return message if isinstance(message, (str, int, float)) and not isinstance(message, bool) else None


def position_of(value: Json, *, decodes: bool) -> Position | None:
    """
    From `"data.id"`, or as a list where a name has a dot of its own: `["data", "id"]`; a number is an item of a list.

    Raises:
        Wrong: It is none, or messages are not decoded.
    """
    if value is None:
        return None
    steps = value.split(".") if isinstance(value, str) else value
    if not isinstance(steps, list) or not steps or not all(_is_step(step) for step in steps):
        raise Wrong(f'must be a path such as "data.id", or a list of names and numbers, not {value!r}')
    if not decodes:
        raise Wrong('needs decode = "json"')
    return Position(tuple(step if isinstance(step, (str, int)) else "" for step in steps))


def _is_step(step: Json) -> bool:
    return (isinstance(step, str) and step != "") or (isinstance(step, int) and not isinstance(step, bool))


def _number(step: str | int) -> int | None:
    if isinstance(step, int):
        return step
    return int(step) if step.removeprefix("-").isdecimal() and len(step) < 10 else None
