"""
What stands in braces in a url or a header that a source is fetched with: secrets, and the assignment.

A definition is replicated, written to disks and shown to whoever asks, so it only says where a secret is: `{env:NAME}`
and `{file:PATH}`, read on the node that holds it, for each fetch; one that was changed is used from the next on.
`{id}`, `{node}` and `{token}` are of the assignment. Nothing else in braces means anything, because a request's body
may be JSON.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping

from pydrm.core.resource import Json
from pydrm.handlers.secrets import read_reference

__all__ = ["names_secret", "revealed"]

_REFERENCE = re.compile(r"\{(env|file):([^{}]+)\}|\{(id|node|token)\}")


def names_secret(value: Json) -> bool:
    """Whether any string in *value* has what a reference begins with."""
    return any(mark in text for text in _texts(value) for mark in ("{env:", "{file:"))


def revealed(
    value: Json,
    assignment: Mapping[str, str],
    environ: Mapping[str, str] = os.environ,
    *,
    found: dict[str, str] | None = None,
) -> Json:
    """
    *value* with all references filled in; reads files.

    Args:
        assignment: What `id`, `node` and `token` stand for; those that are left out stay as they are.
        found: Is given what each reference to a secret stands for, so that it can be kept out of what is said.

    Raises:
        SecretMissing: One cannot be had here.
    """
    if isinstance(value, str):
        return _REFERENCE.sub(lambda match: _filled_in(match, assignment, environ, found), value)
    if isinstance(value, list):
        return [revealed(item, assignment, environ, found=found) for item in value]
    if isinstance(value, dict):
        return {name: revealed(item, assignment, environ, found=found) for name, item in value.items()}
    return value


def _texts(value: Json) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)


def _filled_in(
    match: re.Match[str], assignment: Mapping[str, str], environ: Mapping[str, str], found: dict[str, str] | None
) -> str:
    if match[3] is not None:
        return assignment.get(match[3], match[0])
    reference = f"{match[1]}:{match[2]}"
    value = read_reference(reference, environ)
    if found is not None:
        found[reference] = value
    return value
