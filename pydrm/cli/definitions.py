"""
`read_definitions`: resources from a file or stdin, JSON or JSON lines.

Checked here as far as they can be without the cluster, so that an error can say which line it is in.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pydrm.cli.exits import Exit, Failed
from pydrm.core.resource import Json, Resource
from pydrm.errors import InvalidResource

__all__ = ["read_definitions"]


def read_definitions(source: str) -> list[dict[str, Json]]:
    """
    The definitions in the file *source*, or on stdin if that is "-".

    An array of resources, a single one, or one a line; empty lines count for nothing.
    """
    name = "stdin" if source == "-" else source
    try:
        text = (sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()).decode("utf-8-sig")
    except OSError as error:
        raise Failed(f"{name} cannot be read: {error.strerror}", exit=Exit.INVALID) from error
    except UnicodeDecodeError as error:
        raise Failed(f"{name} is not UTF-8: {error}", exit=Exit.INVALID) from error
    return [_checked(flat, name, line) for line, flat in _parsed(text, name)]


def _parsed(text: str, name: str) -> list[tuple[int, object]]:
    """What *text* holds, with the line that each is on; 0 where that cannot be told."""
    try:
        whole = json.loads(text)
    except ValueError as error:
        if text.lstrip().startswith("["):
            raise Failed(f"{name} is not valid JSON: {error}", exit=Exit.INVALID) from error
        return [(number, _line(line, name, number)) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    return [(0, flat) for flat in whole] if isinstance(whole, list) else [(0, whole)]


def _line(line: str, name: str, number: int) -> object:
    try:
        return json.loads(line)
    except ValueError as error:
        raise Failed(f"{name}, line {number} is not valid JSON: {error}", exit=Exit.INVALID) from error


def _checked(flat: object, name: str, line: int) -> dict[str, Json]:
    try:
        return Resource.from_dict(flat).to_dict()
    except InvalidResource as error:
        where = f"{name}, line {line}" if line else name
        raise Failed(f"{where}: {error}", exit=Exit.INVALID) from error
