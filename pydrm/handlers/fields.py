"""
`Fields`: one definition's fields, read one by one, each checked and its templates filled in.

Pure. What cannot be used is refused with the field named, when a resource is added and again before it is opened.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from urllib.parse import SplitResult, urlsplit

from pydrm.core.resource import Json, Resource
from pydrm.errors import InvalidResource
from pydrm.handlers.callbacks import Callbacks
from pydrm.handlers.secrets import Secrets
from pydrm.handlers.template import TemplateError, TemplateValues, in_url, render

__all__ = ["Fields"]

# RFC 9110, section 5.6.2.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Fields:
    """
    All methods raise `InvalidResource`, which names the field, when it cannot be used.

    Args:
        may_hold_secrets: The fields in which references to secrets may stand.
        secrets: What these stand for; None: none are there yet, and the rest is checked.
    """

    def __init__(
        self,
        resource: Resource,
        *,
        node: str,
        token: int,
        may_hold_secrets: tuple[str, ...] = (),
        secrets: Secrets | None = None,
    ) -> None:
        self._resource = resource
        more: dict[str, str] = {}
        for name in may_hold_secrets:
            try:
                more |= (secrets or Secrets.unread([resource.get(name)])).values
            except TemplateError as error:
                raise self.wrong(name, str(error)) from None
        self._values = TemplateValues(resource, node=node, token=token, more=more)

    @property
    def values(self) -> Mapping[str, str]:
        """What templates may use."""
        return self._values

    def wrong(self, name: str, message: str) -> InvalidResource:
        return InvalidResource(message, resource=self._resource.id, field=name)

    def raw(self, name: str) -> Json:
        """As the definition has it, templates and all; None if it is left out."""
        return self._resource.get(name)

    def render(self, name: str, template: str, encode: Callable[[str, str], str] | None = None) -> str:
        """*template*, which is in the field *name*, filled in; *encode* as with `template.render`."""
        try:
            return render(template, self._values, encode)
        except TemplateError as error:
            raise self.wrong(name, str(error)) from None

    def url(self, name: str, schemes: tuple[str, ...]) -> tuple[str, SplitResult]:
        """A url with a host; also in its parts. `{id}`, `{node}` and secrets in it are percent-encoded."""
        value = self.raw(name)
        if value is None:
            raise self.wrong(name, "is missing")
        if not isinstance(value, str):
            raise self.wrong(name, f"must be a string, not {value!r}")
        url = self.render(name, value, in_url)
        # What is said of it is said of the template: what stands for a secret is filled in by now.
        if not url.isprintable() or " " in url:
            raise self.wrong(name, f"must not contain spaces or control characters: {value!r}")
        try:
            parts = urlsplit(url)
            _ = parts.port  # is read only now, and may be no number
        except ValueError as error:
            raise self.wrong(name, f"{value!r} cannot be read: {error}") from None
        if parts.scheme not in schemes or not parts.hostname:
            wanted = " or ".join(f"{scheme}://" for scheme in schemes)
            raise self.wrong(name, f"must begin with {wanted} and a host: {value!r}")
        return url, parts

    def headers(self, name: str) -> dict[str, str]:
        value = self.raw(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self.wrong(name, f"must be an object of names and strings, not {value!r}")
        headers = {}
        for header, template in value.items():
            if not _TOKEN.fullmatch(header):
                raise self.wrong(name, f"{header!r} cannot be the name of a header")
            if not isinstance(template, str):
                raise self.wrong(name, f"{header} must be a string, not {template!r}")
            text = self.render(name, template)
            # A line break would begin a header of the value's own making.
            if not text.isprintable() or not text.isascii():
                raise self.wrong(name, f"{header} must be printable ASCII: {template!r}")
            headers[header] = text
        return headers

    def seconds(self, name: str, default: float | None, *, least: float, most: float) -> float:
        """A number of seconds; with None as *default* it must be there."""
        value = self.raw(name)
        if value is None and default is not None:
            return default
        if value is None:
            raise self.wrong(name, "is missing; it is a number of seconds")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
            raise self.wrong(name, f"must be a number of seconds from {least:g} to {most:g}, not {value!r}")
        return float(value)

    def whole(self, name: str, default: int, *, least: int, most: int) -> int:
        value = self.raw(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.wrong(name, f"must be a whole number from {least} to {most}, not {value!r}")
        return value

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        value = self.raw(name)
        if value is None:
            return default
        if not isinstance(value, str) or value not in choices:
            raise self.wrong(name, f"must be one of {', '.join(map(repr, choices))}, not {value!r}")
        return value

    def text(self, name: str, default: str) -> str:
        """A string with its templates filled in."""
        value = self.raw(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.wrong(name, f"must be a string, not {value!r}")
        return self.render(name, value)

    def texts(self, name: str) -> tuple[str, ...]:
        """A string, or a list of them; their templates are filled in. Left out: none."""
        value = self.raw(name)
        if value is None:
            return ()
        texts = []
        for item in value if isinstance(value, list) else [value]:
            if not isinstance(item, str) or not item:
                raise self.wrong(name, f"must be a string that is not empty, or a list of them, not {item!r}")
            texts.append(self.render(name, item))
        if len(set(texts)) != len(texts):
            raise self.wrong(name, "names something twice")
        return tuple(texts)

    def callback(self, name: str, callbacks: Callbacks | None) -> str:
        """The name of a callback, "" if it is left out. With *callbacks* it must be one of them."""
        value = self.raw(name)
        if value is None:
            return ""
        if not isinstance(value, str) or not value:
            raise self.wrong(name, f"must be the name of a callback, not {value!r}")
        if callbacks is not None and callbacks.get(value) is None:
            known = ", ".join(callbacks) or "none"
            raise self.wrong(name, f"no callback {value!r} is registered on this node (registered: {known})")
        return value
