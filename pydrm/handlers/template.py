"""
Templates in definitions: `{name}` stands for a value of the assignment or of the resource.

`{id}`, `{node}` and `{token}` come from the assignment, and any field that holds a string, a number or a boolean from
the resource. `{{` and `}}` are braces. `{env:NAME}` and `{file:PATH}` are secrets, where a kind allows them (see
`secrets`). Nothing else of `str.format` is understood: no attributes, no indexes, no format specifications,
because a definition is data that may come from anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from string import Formatter, ascii_letters, digits
from types import MappingProxyType
from urllib.parse import quote

from pydrm.core.resource import Json, Resource

__all__ = ["SECRET_SOURCES", "TemplateError", "TemplateValues", "in_url", "names_in", "quoted", "render", "render_json"]

SECRET_SOURCES = ("env", "file")

_formatter = Formatter()


class TemplateError(ValueError):
    """A template that cannot be filled in; the message says why."""


class TemplateValues(Mapping[str, str]):
    """
    What templates of a resource may use. A name that means two things is left out, so using it is an error.

    Of all that they may use they use little; so each is looked up when it is asked for.
    """

    __slots__ = ("_more", "_node", "_resource", "_token")

    def __init__(
        self, resource: Resource, *, node: str, token: int, more: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """*more*: what else they may use; it goes before the resource's fields."""
        self._resource = resource
        self._node = node
        self._token = token
        self._more = more

    def __getitem__(self, name: str) -> str:
        if name in self._more:
            return self._more[name]
        resource = self._resource
        if name == "id":
            return resource.id
        if name in resource.fields:
            value = resource.fields[name]
            if name in ("node", "token") or not isinstance(value, (str, int, float)):
                raise KeyError(name)
            return _text(value)
        match name:
            case "token":
                return str(self._token)
            case "node":
                return self._node
            case "kind":
                return resource.kind
            case "weight":
                return str(resource.weight)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        names = dict.fromkeys(["kind", "weight", *self._resource.fields, "id", "node", "token", *self._more])
        return (name for name in names if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def quoted(value: str) -> str:
    """*value* percent-encoded, to stand anywhere in a url (RFC 3986, section 2.3)."""
    # Most ids are made of these, and finding that out costs less than encoding them.
    return value if _UNRESERVED.issuperset(value) else quote(value, safe="")


def in_url(name: str, value: str) -> str:
    """
    For `render`: what stands for *name* in a url.

    An id may hold anything, so it must not end the part of the url that it stands in; nor may a secret.
    """
    return quoted(value) if name in ("id", "node") or ":" in name else value


_UNRESERVED = frozenset(ascii_letters + digits + "-._~")


def render(template: str, values: Mapping[str, str], encode: Callable[[str, str], str] | None = None) -> str:
    """
    Args:
        encode: Called with a name and its value, for what is to stand in its place.

    Raises:
        TemplateError: A name is unknown, or the braces do not match.
    """
    if "{" not in template and "}" not in template:
        return template
    pieces = []
    for literal, name in _parts(template):
        pieces.append(literal)
        if name is not None:
            try:
                value = values[name]
            except KeyError:
                raise _unknown(name, values) from None
            pieces.append(value if encode is None else encode(name, value))
    return "".join(pieces)


def render_json(template: Json, values: Mapping[str, str]) -> Json:
    """*template* with every string value inside filled in; names of members stay as they are."""
    if isinstance(template, str):
        return render(template, values)
    if isinstance(template, list):
        return [render_json(item, values) for item in template]
    if isinstance(template, dict):
        return {name: render_json(item, values) for name, item in template.items()}
    return template


def names_in(template: str) -> list[str]:
    """
    What stands between braces in *template*.

    Raises:
        TemplateError: The braces do not match.
    """
    if "{" not in template and "}" not in template:
        return []
    return [name for _, name in _parts(template) if name is not None]


# The same one is gone through for its secrets, and then filled in; and thousands of resources may share it.
@lru_cache(maxsize=256)
def _parts(template: str) -> tuple[tuple[str, str | None], ...]:
    """Each piece of text with the name that follows it; None after the last one."""
    try:
        parts = tuple(_formatter.parse(template))
    except ValueError as error:
        raise TemplateError(f"{error}; write {{{{ or }}}} for a brace") from None
    return tuple((literal, _name(name, form, conversion)) for literal, name, form, conversion in parts)


def _name(name: str | None, form: str | None, conversion: str | None) -> str | None:
    if name in SECRET_SOURCES and form and not conversion and "{" not in form:
        return f"{name}:{form}"
    if form or conversion:
        raise TemplateError(f"{{{name}}} must be a plain name, without format or conversion; write {{{{ for a brace")
    return name


def _unknown(name: str, values: Mapping[str, str]) -> TemplateError:
    known = ", ".join(sorted(known for known in values if ":" not in known))
    return TemplateError(f"{{{name}}} is not known here (known: {known}); write {{{{ for a brace")


def _text(value: str | float) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
