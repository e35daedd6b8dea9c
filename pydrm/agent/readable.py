"""
`Readable`: which variables and files of this node a definition may have it read.

A definition refers to secrets, `{env:NAME}` and `{file:PATH}`, and says where what they stand for is sent. So whoever
may add resources can have whatever the holder's process can read sent to a place of their own; unless the node says
what is for that. It is asked before a handler is run, whatever its kind, because any kind may read references.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from pydrm.agent.hold import Hold
from pydrm.agent.kind import Kind
from pydrm.core.resource import Json, Resource
from pydrm.errors import Temporary

__all__ = ["Guarded", "Readable"]

# As wide as any kind reads them: what looks like a reference counts as one.
_REFERENCE = re.compile(r"\{(env|file):([^{}]*)\}")


@attrs.frozen
class Readable:
    """
    Attributes:
        variables: What the names of variables must begin with; None: any may be read.
        directories: Where files must be, whatever links lead there; None: any may be read.
    """

    variables: Sequence[str] | None = None
    directories: Sequence[Path] | None = None

    @property
    def is_limited(self) -> bool:
        return self.variables is not None or self.directories is not None

    def problem(self, resource: Resource) -> str:
        """Why *resource* is not to be opened here, in words; "" if nothing is against it. Looks at directories."""
        for source, name in _references(dict(resource.fields)):
            problem = self.variable_problem(name) if source == "env" else self.file_problem(name)
            if problem:
                return f"{{{source}:{name}}} {problem}"
        return ""

    def variable_problem(self, name: str) -> str:
        if self.variables is None or any(name.startswith(prefix) for prefix in self.variables):
            return ""
        return "may not be read here: it is none of readable_variables"

    def file_problem(self, path: str | Path) -> str:
        """*path* as it would be opened: links are followed, so look again right before."""
        if self.directories is None:
            return ""
        try:
            real = Path(os.path.realpath(path))
            if any(real.is_relative_to(os.path.realpath(directory)) for directory in self.directories):
                return ""
        except (OSError, ValueError) as error:
            return f"cannot be looked at: {error}"
        return "may not be read here: it is in none of readable_directories"


class Guarded:
    """A kind, run for definitions only that have nothing read which is not for them."""

    def __init__(self, kind: Kind, readable: Readable) -> None:
        self._kind = kind
        self._readable = readable

    def validate(self, resource: Resource) -> None:
        self._kind.validate(resource)

    async def run(self, hold: Hold) -> None:
        # A directory may be on a network.
        problem = await asyncio.to_thread(self._readable.problem, hold.resource)
        if problem:
            # Another node may have other limits, as it may have another secret.
            raise Temporary(f"{problem} on node {hold.node!r}")
        await self._kind.run(hold)


def _references(value: Json) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield from _REFERENCE.findall(value)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _REFERENCE.findall(name)
            yield from _references(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _references(item)
