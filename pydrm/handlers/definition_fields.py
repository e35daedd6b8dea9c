"""
`FieldReader`: reads the fields of a definition one by one, so that every complaint names the field that it is about.

What it says shows what the definition says, and never what a template was filled in with: that may be a secret.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from pydrm.core.resource import Json, Resource
from pydrm.errors import InvalidResource
from pydrm.handlers.template import TemplateError

__all__ = [
    "TOKEN",
    "FieldReader",
    "Read",
    "Values",
    "Wrong",
    "choice",
    "name_of",
    "seconds",
    "seconds_or_off",
    "whole_number",
]

T = TypeVar("T")

Values = Mapping[str, str]
Read = Callable[[Json, Values], T]

# RFC 9110, section 5.6.2.
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Wrong(ValueError):
    """Why a field cannot be used, in words that follow its name."""


class FieldReader:
    """
    Args:
        values: What templates may use.
    """

    def __init__(self, resource: Resource, values: Values) -> None:
        self._resource = resource
        self._values = values

    def field(self, name: str, read: Read[T]) -> T:
        """Raises InvalidResource."""
        try:
            return read(self._resource.get(name), self._values)
        except (TemplateError, Wrong) as error:
            raise self._invalid(name, error) from None

    def checked(self, name: str, read: Callable[[], T]) -> T:
        """Raises InvalidResource."""
        try:
            return read()
        except (TemplateError, Wrong) as error:
            raise self._invalid(name, error) from None

    def _invalid(self, name: str, error: Exception) -> InvalidResource:
        return InvalidResource(str(error), resource=self._resource.id, field=name)


def seconds(default: float, most: float = 300.0) -> Read[float]:
    def read(value: Json, values: Values) -> float:
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= most:
            raise Wrong(f"must be a number of seconds above 0, at most {most:g}, not {value!r}")
        return float(value)

    return read


def seconds_or_off(default: float | None, most: float = 86_400.0) -> Read[float | None]:
    """None stands for "off"."""

    def read(value: Json, values: Values) -> float | None:
        if value is None or value == "off":
            return default if value is None else None
        try:
            return seconds(0.0, most)(value, values)
        except Wrong as error:
            raise Wrong(f'{error}; or "off"') from None

    return read


def whole_number(default: int, least: int, most: int) -> Read[int]:
    def read(value: Json, values: Values) -> int:
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise Wrong(f"must be a whole number from {least} to {most}, not {value!r}")
        return value

    return read


def choice(*allowed: str) -> Read[str]:
    """The first one if nothing is said."""

    def read(value: Json, values: Values) -> str:
        if value is None:
            return allowed[0]
        if not isinstance(value, str) or value not in allowed:
            raise Wrong(f"must be {' or '.join(map(json.dumps, allowed))}, not {value!r}")
        return value

    return read


def name_of(what: str) -> Read[str]:
    """A string that is not empty; "" if nothing is said."""

    def read(value: Json, values: Values) -> str:
        if value is None:
            return ""
        if not isinstance(value, str) or not value:
            raise Wrong(f"must be {what}, not {value!r}")
        return value

    return read
