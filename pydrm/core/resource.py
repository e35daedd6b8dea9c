"""
`Resource`: what an app puts under management, as the app writes it.

The state machine itself carries a `Definition`, the same thing with its free fields sealed as
bytes: it compares them and hands them on, and must not know what they mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from types import MappingProxyType
from typing import Any, Union

import attrs

from pydrm.errors import InvalidResource

__all__ = ["FIELDS_BYTES_MAX", "ID_BYTES_MAX", "WEIGHT_MAX", "Json", "Resource"]

Json = Union[None, bool, int, float, str, "list[Json]", "dict[str, Json]"]

ID_BYTES_MAX = 256
KIND_BYTES_MAX = 64
FIELDS_BYTES_MAX = 64 * 1024
WEIGHT_MAX = 1_000_000


@attrs.frozen(init=False)
class Resource:
    """
    Something that exactly one node holds.

    Attributes:
        id: Unique in the cluster; 1 to 256 bytes of UTF-8 without control characters.
        kind: Names the handler, such as "websocket".
        weight: How much it counts in placement; a whole number from 1 to 1,000,000.
        overlap: Whether a planned move opens at the new holder before it closes at the old one
            (then it is held twice for that moment). Off by default.
        fields: Any further fields, read-only; JSON values. Kept and handed to the handler.

    Raises:
        InvalidResource: A field has a type or a size that cannot be kept; it is named.
    """

    id: str
    kind: str
    weight: int
    overlap: bool
    fields: Mapping[str, Json]

    def __init__(self, /, id: str, *, kind: str, weight: int = 1, overlap: bool = False, **fields: Any) -> None:
        shown = id if isinstance(id, str) else repr(id)
        _check_name(id, shown, "id", ID_BYTES_MAX)
        _check_name(kind, shown, "kind", KIND_BYTES_MAX)
        if isinstance(weight, bool) or not isinstance(weight, int) or not 1 <= weight <= WEIGHT_MAX:
            raise InvalidResource(
                f"must be a whole number from 1 to {WEIGHT_MAX}, not {weight!r}", resource=shown, field="weight"
            )
        if not isinstance(overlap, bool):
            raise InvalidResource(f"must be true or false, not {overlap!r}", resource=shown, field="overlap")
        for name in fields:
            _json(name, shown, repr(name))
        kept = {name: _json(value, shown, name) for name, value in fields.items()}
        self.__attrs_init__(id, kind, weight, overlap, MappingProxyType(kept))

    @classmethod
    def as_kept(cls, id: str, kind: str, weight: int, overlap: bool, fields: dict[str, Json]) -> Resource:
        """What was checked when it was added, and is read back; *fields* are its own from now on."""
        resource = cls.__new__(cls)
        resource.__attrs_init__(id, kind, weight, overlap, MappingProxyType(fields))
        return resource

    @classmethod
    def from_dict(cls, flat: object) -> Resource:
        """Read the flat form, `{"id": ..., "kind": ..., "url": ...}`, as JSON and TOML have it."""
        if not isinstance(flat, Mapping):
            raise InvalidResource(
                f"must be an object with fields, not {type(flat).__name__}", resource=repr(flat)[:40], field="id"
            )
        shown = str(flat.get("id", "?"))
        for name in flat:
            if not isinstance(name, str):
                raise InvalidResource("field names must be strings", resource=shown, field=repr(name))
        for name in ("id", "kind"):
            if name not in flat:
                raise InvalidResource("is missing", resource=shown, field=name)
        rest = {name: value for name, value in flat.items() if name != "id"}
        return cls(flat["id"], **rest)

    def to_dict(self) -> dict[str, Json]:
        """The flat form; `Resource.from_dict` reads it back equal."""
        flat: dict[str, Json] = {"id": self.id, "kind": self.kind}
        if self.weight != 1:
            flat["weight"] = self.weight
        if self.overlap:
            flat["overlap"] = True
        return flat | {name: _json(value, self.id, name) for name, value in self.fields.items()}

    def get(self, name: str, default: Json = None) -> Json:
        """A free field's value, or *default*."""
        return self.fields.get(name, default)

    def __getitem__(self, name: str) -> Json:
        return self.fields[name]

    def __hash__(self) -> int:
        return hash((self.id, self.kind, self.weight, self.overlap))


def _check_name(value: object, shown: str, field: str, bytes_max: int) -> None:
    if not isinstance(value, str) or not value:
        raise InvalidResource(f"must be a string that is not empty, not {value!r}", resource=shown, field=field)
    if not value.isprintable():
        raise InvalidResource("must not contain control characters", resource=shown, field=field)
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidResource("is not valid Unicode", resource=shown, field=field) from None
    if size > bytes_max:
        raise InvalidResource(f"is longer than {bytes_max} bytes", resource=shown, field=field)


def _json(value: Any, shown: str, name: str, depth: int = 0) -> Json:
    """A deep copy of *value*, so that what was checked is what is kept."""
    if depth > 16:
        raise InvalidResource("is nested deeper than 16 levels", resource=shown, field=name)
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidResource("is not valid Unicode", resource=shown, field=name) from None
        return value
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if not -(2**63) <= value < 2**64:
            raise InvalidResource("is a number that does not fit into 64 bits", resource=shown, field=name)
        return value
    if isinstance(value, float):
        if not isfinite(value):
            raise InvalidResource("must be a finite number", resource=shown, field=name)
        return value
    if isinstance(value, (list, tuple)):
        return [_json(item, shown, name, depth + 1) for item in value]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise InvalidResource(f"has a key that is not a string: {key!r}", resource=shown, field=name)
            _json(key, shown, name)
        return {key: _json(item, shown, name, depth + 1) for key, item in value.items()}
    raise InvalidResource(f"must be a JSON value, not {type(value).__name__}", resource=shown, field=name)
