"""
`Secrets`: what `{env:NAME}` and `{file:PATH}` in a definition stand for, read on the node that holds the resource.

A definition is replicated, kept on every disk and shown to whoever asks; so a credential is not in it, only where the
holder finds it. Read anew each time the resource is opened: a rotated one is in use after the next reconnect. Nothing
that pydrm says holds a value: complaints show the template, and what comes from elsewhere goes through `redact`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import ParamSpec, TypeVar
from urllib.parse import quote, quote_plus

import attrs

from pydrm.agent.hold import Hold
from pydrm.core.resource import Json
from pydrm.errors import HandlerError, InvalidResource, Temporary
from pydrm.handlers.template import SECRET_SOURCES, TemplateError, names_in

__all__ = ["SECRET_BYTES_MAX", "SecretMissing", "Secrets", "fetch_reference", "read_reference", "reading", "references"]

SECRET_BYTES_MAX = 64 * 1024
READ_TIMEOUT_S = 10.0

# IEEE Std 1003.1, section 8.1: names that every shell can set.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLACEHOLDER = "secret"

_readers = ThreadPoolExecutor(max_workers=4, thread_name_prefix="pydrm secrets")

P = ParamSpec("P")
T = TypeVar("T")


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
    async def held(cls, hold: Hold, fields: Iterable[str]) -> Secrets:
        """
        Those of *hold*'s resource in *fields*, for this run of its handler.

        Raises:
            Temporary: One is not to be had: another node may have it, and somebody may put it there.
        """
        try:
            return await cls.read(map(hold.resource.get, fields))
        except SecretMissing as missing:
            raise Temporary(f"{missing} on node {hold.node!r}") from None

    @classmethod
    def unread(cls, templates: Iterable[Json]) -> Secrets:
        """
        Something in place of each, to check the rest of a definition with.

        Raises:
            TemplateError: A reference is not one.
        """
        found = references(templates)
        return cls(dict.fromkeys(found, _PLACEHOLDER)) if found else _NONE

    @classmethod
    async def read(cls, templates: Iterable[Json], environment: Mapping[str, str] = os.environ) -> Secrets:
        """
        What they are on this node now. Files are read in a thread: they may be on a network.

        Raises:
            TemplateError: A reference is not one.
            SecretMissing: There is no such variable or file, or nothing in it.
        """
        found = references(templates)
        # Most have none, and what has is kept for as long as a connection is open.
        if not found:
            return _NONE
        return cls({reference: await fetch_reference(reference, environment) for reference in found})

    def fill(self, plan: Callable[[], T]) -> T:
        """What *plan* makes of them. The definition was checked; so what cannot be used is a secret, and may change."""
        try:
            return plan()
        except InvalidResource as error:
            if not self.values:
                raise
            raise Temporary(f"what its templates stand for cannot be used: {error}") from None

    @contextlib.contextmanager
    def redacted(self) -> Iterator[None]:
        """What a handler raises in this is told without the values, and without what led to it."""
        failure: HandlerError | None = None
        try:
            yield
        except HandlerError as error:
            failure = error
        if failure is not None:
            failure.args = (self.redact(str(failure)),)
            # They go wherever an error is shown.
            failure.__cause__ = failure.__context__ = None
            raise failure

    def redact(self, text: str) -> str:
        """*text* with every value replaced by its reference, also where it is encoded as in a url or in JSON."""
        for reference, value in sorted(self.values.items(), key=lambda item: -len(item[1])):
            for shown in {value, json.dumps(value)[1:-1], repr(value)[1:-1]}:
                text = text.replace(shown, f"{{{reference}}}")
            for shown in {quote(value, safe=""), quote(value), quote_plus(value)}:
                # Who repeats a url may write "%2f" for "%2F" (RFC 3986, section 6.2.2.1).
                parts = re.split(re.escape(shown), text, flags=re.IGNORECASE)
                text = f"{{{reference}}}".join(parts)
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
    """The same for an event loop."""
    if reference.startswith("env:"):
        return read_reference(reference, environment)
    return await reading(read_reference, reference, environment)


async def reading(read: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
    """
    What *read* returns, in a thread: a secret's file may be on a network.

    Raises:
        SecretMissing: It takes too long. The threads are few and for this only, so that nothing else waits with it.
    """
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            return await asyncio.get_running_loop().run_in_executor(_readers, partial(read, *arguments, **keywords))
    except TimeoutError:
        raise SecretMissing(f"what secrets stand for was not read within {READ_TIMEOUT_S:g} s") from None


_NONE = Secrets()


def references(templates: Iterable[Json]) -> list[str]:
    """
    Those in *templates*, each once.

    Raises:
        TemplateError: The name of a variable or the path of a file cannot be one.
    """
    found: dict[str, None] = {}
    for template in templates:
        if template is None:
            continue
        if isinstance(template, str):
            if "{" in template or "}" in template:
                found.update(dict.fromkeys(_references_in(template)))
        elif isinstance(template, (list, dict)):
            found.update(dict.fromkeys(references(template.values() if isinstance(template, dict) else template)))
    return list(found)


# Read before each opening of what may be one of thousands that have it from the same template.
@lru_cache(maxsize=256)
def _references_in(template: str) -> tuple[str, ...]:
    return tuple(name for name in names_in(template) if _is_reference(name))


def _is_reference(name: str) -> bool:
    source, separator, where = name.partition(":")
    if not separator or source not in SECRET_SOURCES:
        return False
    if source == "env" and not _NAME.fullmatch(where):
        raise TemplateError(f"{{{name}}} does not name an environment variable")
    if source == "file" and not (where.startswith("/") and where.isprintable()):
        raise TemplateError(f"{{{name}}} must have the absolute path of a file")
    return True


def _open_at_once(path: str, flags: int) -> int:
    """Not to wait for whoever writes, should it be a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def _content(path: str) -> str:
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise SecretMissing(f"{{file:{path}}} is no file")
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
