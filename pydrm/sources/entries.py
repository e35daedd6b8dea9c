"""
`Entries`: a fetched list on its way to definitions. Pure; what comes from elsewhere is typed here.

An entry that cannot be used costs that entry only, and is reported. What is held under its id stays as it is; and while
there is an entry whose id cannot even be read, nothing counts as missing, because it could be any of those.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from pydrm.core.records import SOURCE_PREFIX, Definition
from pydrm.core.resource import Resource
from pydrm.errors import InvalidResource
from pydrm.sources.fetching import said
from pydrm.sources.options import Options
from pydrm.sources.secret import names_secret

__all__ = ["Entries", "list_at"]


class Entries:
    """
    Args:
        source: The id of the source, which the definitions are of.
        define: Checks a resource with its kind and makes what the cluster keeps.

    Attributes:
        definitions: What can be used, by id.
        rejected: Why entries cannot be used: one sentence for each, which names it.
        spared: The ids of entries that cannot be used; what is held under them stays as it is.
        nameless: Whether there is an entry whose id cannot be read.
    """

    def __init__(self, source: str, options: Options, define: Callable[[Resource], Definition]) -> None:
        self.definitions: dict[str, Definition] = {}
        self.rejected: list[str] = []
        self.spared: dict[str, None] = {}
        self.nameless = False
        self._source = source
        self._options = options
        self._define = define
        self._count = 0

    def add(self, entry: object) -> None:
        self._count += 1
        id = _id_of(entry)
        if id is None or not isinstance(entry, Mapping):
            self.nameless = True
            self.rejected.append(f"entry {self._count} has no id that could be one: {_short(entry)}")
            return
        try:
            definition = self._definition(id, entry)
        except InvalidResource as error:
            self._reject(id, str(error))
            return
        except Exception as error:  # noqa: BLE001 (the border to the kind, which may be an app's own)
            self._reject(id, said(f"resource {id!r} cannot be checked: {type(error).__name__}: {error}"))
            return
        if id in self.spared:
            return
        if self.definitions.setdefault(id, definition) != definition:
            self._reject(id, f"resource {id!r} is there twice, with different fields")

    def _definition(self, id: str, entry: Mapping[Any, Any]) -> Definition:
        telling = [str(name) for name, value in entry.items() if names_secret(value)]
        if telling and not self._options.allow_secrets:
            # Whoever writes the list could have it sent anywhere.
            message = "refers to a secret of the holder, which entries may do with allow_secrets only"
            raise InvalidResource(message, resource=id, field=telling[0])
        resource = Resource.from_dict({**self._options.defaults, **entry, "id": id})
        if resource.kind.startswith(SOURCE_PREFIX):
            raise InvalidResource("must not be a source itself", resource=id, field="kind")
        return replace(self._define(resource), source=self._source)

    def _reject(self, id: str, why: str) -> None:
        self.definitions.pop(id, None)
        self.spared[id] = None
        self.rejected.append(why)


def list_at(content: object, path: Sequence[str]) -> list[Any]:
    """
    The list at *path* in what was fetched; a list that is all there is, is that whatever the path.

    Raises:
        ValueError: There is none; the message says where.
    """
    at = "the content"
    if isinstance(content, list):
        return content
    for name in path:
        if not isinstance(content, Mapping) or name not in content:
            raise ValueError(f"{at} has no member {name!r}: {_short(content)}")
        content, at = content[name], f"member {name!r}"
    if not isinstance(content, list):
        raise ValueError(f"{at} is not a list: {_short(content)}")
    return content


def _id_of(entry: object) -> str | None:
    """Many APIs number what they have; here every id is a string."""
    id = entry.get("id") if isinstance(entry, Mapping) else None
    if isinstance(id, int) and not isinstance(id, bool):
        return str(id)
    return id if isinstance(id, str) and id else None


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:80]}..."
