"""
`Fields`: reads the fields of a source one by one, so that every complaint names the field that it is about.

A field that nobody has read is one that the source does not know; it is refused, because a slip in `max_shrink` would
show only on the day on which it is needed.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from pydrm.core.resource import Json, Resource
from pydrm.errors import InvalidResource

__all__ = ["Fields"]

# Those that every resource may have.
_COMMON = ("budget", "give_up_after", "priority")


class Fields:
    """All methods raise InvalidResource, which names the field."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource
        self._read = dict.fromkeys(_COMMON)

    def any(self, name: str, default: Json = None) -> Json:
        self._read[name] = None
        return self._resource.get(name, default)

    def text(self, name: str, default: str | None = None) -> str:
        """A string; not empty, unless that is the default. Without a default it is required."""
        value = self.any(name, default)
        if value is None:
            raise self.wrong(name, "is missing")
        if not isinstance(value, str) or (not value and value != default):
            raise self.wrong(name, f"must be a string that is not empty, not {value!r}")
        return value

    def number(self, name: str, default: float, least: float, most: float) -> float:
        value = self.any(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
            raise self.wrong(name, f"must be a number from {least:g} to {most:g}, not {value!r}")
        return float(value)

    def count(self, name: str, default: int, least: int, most: int) -> int:
        value = self.any(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.wrong(name, f"must be a whole number from {least} to {most}, not {value!r}")
        return value

    def flag(self, name: str) -> bool:
        value = self.any(name, False)
        if not isinstance(value, bool):
            raise self.wrong(name, f"must be true or false, not {value!r}")
        return value

    def choice(self, name: str, *allowed: str) -> str:
        """One of *allowed*; the first is the default."""
        value = self.any(name, allowed[0])
        if value not in allowed:
            raise self.wrong(name, f"must be {' or '.join(map(repr, allowed))}, not {value!r}")
        return str(value)

    def table(self, name: str) -> Mapping[str, Json]:
        value = self.any(name, {})
        if not isinstance(value, Mapping):
            raise self.wrong(name, f"must be an object, not {value!r}")
        return value

    def path(self, name: str, default: str) -> Sequence[str]:
        """Names of members, one inside the other, with dots between; none for what holds them all."""
        value = self.any(name, default)
        if not isinstance(value, str):
            raise self.wrong(name, f"must be a string such as 'result.items', not {value!r}")
        return tuple(value.split(".")) if value else ()

    def refuse_others(self) -> None:
        for name in self._resource.fields:
            if name not in self._read:
                close = difflib.get_close_matches(name, self._read, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(self._read))}"
                raise self.wrong(name, f"is unknown; {hint}")

    def wrong(self, name: str, message: str) -> InvalidResource:
        return InvalidResource(message, resource=self._resource.id, field=name)
