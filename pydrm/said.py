"""
`Said`: what arguments, environment and file say of a node, read value by value.

A name that none of them should hold is refused, as a slip would otherwise be a setting that is silently not there.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from pydrm.errors import ConfigurationError

__all__ = ["Said", "checked_name"]

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")

# What is a table, which one variable of the environment is no place for.
_TABLES = ("resources", "sources", "budgets")


class Said(dict[str, Any]):
    """Values by name, as they were given. The readers raise ConfigurationError, which names the field."""

    @classmethod
    def gathered(
        cls, names: Collection[str], arguments: dict[str, Any], environ: Mapping[str, str], path: Path | None
    ) -> Self:
        """
        What was said by *arguments*, or else by *environ*, or else in the TOML file at *path*.

        Args:
            names: Those that there are.
        """
        _refuse_unknown(arguments, names)
        in_file = _from_file(path, names) if path is not None else {}
        return cls(in_file | _from_environment(environ, names) | arguments)

    def name(self, field: str) -> str:
        if field not in self:
            raise ConfigurationError("is missing", field=field)
        return checked_name(self[field], field)

    def path(self, field: str) -> Path | None:
        value = self.get(field)
        if value is None:
            return None
        if not isinstance(value, (str, Path)) or not str(value) or "\0" in str(value):
            raise ConfigurationError(f"must be a path, not {value!r}", field=field)
        return Path(value)

    def switch(self, field: str) -> bool:
        value = self.get(field, False)
        # TOML and Python have true and false, the environment a text.
        if isinstance(value, str):
            value = {"true": True, "false": False}.get(value.lower(), value)
        if not isinstance(value, bool):
            raise ConfigurationError(f"must be true or false, not {value!r}", field=field)
        return value

    def seconds(self, field: str, default: float, allowed: tuple[float, float]) -> float:
        value = self.get(field, default)
        try:
            # TOML and Python may give a number, the environment a text; true is a slip, not one second.
            seconds = float("nan") if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            seconds = float("nan")
        if not allowed[0] <= seconds <= allowed[1]:
            raise ConfigurationError(
                f"must be from {allowed[0]:g} to {allowed[1]:g} seconds, not {value!r}", field=field
            )
        return seconds

    def count(self, field: str, default: int, allowed: tuple[int, int]) -> int:
        value = self.get(field, default)
        number = int(value) if isinstance(value, str) and value.isdecimal() else value
        if isinstance(number, bool) or not isinstance(number, int) or not allowed[0] <= number <= allowed[1]:
            raise ConfigurationError(
                f"must be a whole number from {allowed[0]} to {allowed[1]}, not {value!r}", field=field
            )
        return number

    def one_of(self, field: str, default: str, other: str) -> str:
        value = self.get(field, default)
        if value not in (default, other):
            raise ConfigurationError(f"must be {default!r} or {other!r}, not {value!r}", field=field)
        return str(value)


def checked_name(value: object, field: str) -> str:
    """
    The name of a cluster or a node.

    Raises:
        ConfigurationError: It cannot be one.
    """
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ConfigurationError(f"must be 1 to 64 letters, digits, '.', '_' or '-', not {value!r}", field=field)
    return value


def _from_file(path: Path, names: Collection[str]) -> dict[str, Any]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror}", field=str(path)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"is not valid TOML: {error}", field=str(path)) from error
    _refuse_unknown(content, ("pydrm",))
    table = content.get("pydrm")
    if not isinstance(table, dict):
        raise ConfigurationError("must be a table, [pydrm]", field="pydrm")
    _refuse_unknown(table, names)
    return table


def _from_environment(environ: Mapping[str, str], names: Collection[str]) -> dict[str, Any]:
    """
    What `PYDRM_*` says; an empty value counts as not given.

    Unlike a file, the environment is not ours alone (Kubernetes puts PYDRM_SERVICE_HOST there for a
    service called pydrm), so only a name that looks like a misspelt one of ours is refused.
    """
    names = [name for name in names if name not in _TABLES]
    said: dict[str, Any] = {}
    for variable, value in environ.items():
        if not variable.startswith("PYDRM_") or not value:
            continue
        name = variable.removeprefix("PYDRM_").lower()
        if name in names:
            said[name] = value
        elif close := difflib.get_close_matches(name, names, n=1, cutoff=0.75):
            raise ConfigurationError(f"is unknown; did you mean PYDRM_{close[0].upper()}?", field=variable)
    # Client commands read the same variable as the URL of a node to talk to; that is not an address to listen at.
    if "://" in said.get("admin", ""):
        del said["admin"]
    if "peers" in said:
        said["peers"] = _peers_from_text(said["peers"])
    return said


def _peers_from_text(text: str) -> dict[str, str]:
    peers: dict[str, str] = {}
    for part in text.split(","):
        name, separator, address = part.strip().partition("=")
        if not separator or name in peers:
            raise ConfigurationError(
                f"must be name=host:port,name=host:port with no name twice, not {text!r}", field="peers"
            )
        peers[name] = address
    return peers


def _refuse_unknown(given: Iterable[str], known: Collection[str]) -> None:
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
            raise ConfigurationError(f"is unknown; {hint}", field=name)
