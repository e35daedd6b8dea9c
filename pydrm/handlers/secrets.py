"""
`Secrets`: what `{env:NAME}` and `{file:PATH}` in a definition stand for, read on the node that holds the resource.

A definition is replicated, kept on every disk and shown to whoever asks; so a credential is not in it, only where the
holder finds it. Read anew each time the resource is opened: a rotated one is in use after the next reconnect. Nothing
that pydrm says holds a value: complaints show the template, and what comes from elsewhere goes through `redact`.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote

import attrs

from pydrm.core.resource import Json
from pydrm.handlers.template import SECRET_SOURCES, TemplateError, names_in

__all__ = ["SECRET_BYTES_MAX", "SecretMissing", "Secrets", "fetch_reference", "read_reference", "references"]

SECRET_BYTES_MAX = 64 * 1024

# IEEE Std 1003.1, section 8.1: names that every shell can set.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLACEHOLDER = "secret"


class SecretMissing(Exception):
    """This node does not have what a reference names; the message says which, and never a value."""


@attrs.frozen(repr=False)
class Secrets:
    """
    Attributes:
        values: By the reference between the braces, such as "env:FEED_KEY"; for `render`.
    """

    values: Mapping[str, str] = attrs.field(factory=dict)

    @classmethod
    def unread(cls, templates: Iterable[Json]) -> Secrets:
        """
        Something in place of each, to check the rest of a definition with.

        Raises:
            TemplateError: A reference is not one.
        """
        return cls(dict.fromkeys(references(templates), _PLACEHOLDER))

    @classmethod
    async def read(cls, templates: Iterable[Json], environment: Mapping[str, str] = os.environ) -> Secrets:
        """
        What they are on this node now. Files are read in a thread: they may be on a network.

        Raises:
            TemplateError: A reference is not one.
            SecretMissing: There is no such variable or file, or nothing in it.
        """
        values = {reference: await fetch_reference(reference, environment) for reference in references(templates)}
        # Most have none, and what has is kept for as long as a connection is open.
        return cls(values) if values else _NONE

    def redact(self, text: str) -> str:
        """*text* with every value replaced by its reference, also where it is encoded as in a url or in JSON."""
        for reference, value in sorted(self.values.items(), key=lambda item: -len(item[1])):
            for shown in {value, quote(value, safe=""), quote(value), json.dumps(value)[1:-1], repr(value)[1:-1]}:
                text = text.replace(shown, f"{{{reference}}}")
        return text


def read_reference(reference: str, environment: Mapping[str, str] = os.environ) -> str:
    """
    What "env:NAME" or "file:PATH" is on this node now. Reads files.

    Raises:
        SecretMissing: There is no such variable or file, or nothing in it.
    """
    source, _, where = reference.partition(":")
    value = environment.get(where, "") if source == "env" else _content(where)
    if not value:
        raise SecretMissing(f"{{{reference}}} is not set, or is empty")
    return value


async def fetch_reference(reference: str, environment: Mapping[str, str] = os.environ) -> str:
    """The same for an event loop: a file is read in a thread, since it may be on a network."""
    if reference.startswith("env:"):
        return read_reference(reference, environment)
    return await asyncio.to_thread(read_reference, reference, environment)


_NONE = Secrets()


def references(templates: Iterable[Json]) -> list[str]:
    """
    Those in *templates*, each once.

    Raises:
        TemplateError: The name of a variable or the path of a file cannot be one.
    """
    found: dict[str, None] = {}
    for template in templates:
        for name in names_in(template):
            source, separator, where = name.partition(":")
            if not separator or source not in SECRET_SOURCES:
                continue
            if source == "env" and not _NAME.fullmatch(where):
                raise TemplateError(f"{{{name}}} does not name an environment variable")
            if source == "file" and not (where.startswith("/") and where.isprintable()):
                raise TemplateError(f"{{{name}}} must have the absolute path of a file")
            found[name] = None
    return list(found)


def _content(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            data = file.read(SECRET_BYTES_MAX + 1)
    except OSError as error:
        raise SecretMissing(f"{{file:{path}}} cannot be read: {error.strerror}") from None
    if len(data) > SECRET_BYTES_MAX:
        raise SecretMissing(f"{{file:{path}}} is longer than {SECRET_BYTES_MAX} bytes")
    try:
        # Editors and `echo` end a file with a line break that is no part of the secret.
        return data.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise SecretMissing(f"{{file:{path}}} is not UTF-8") from None
