"""
`Config`: what a node must know before it starts, checked field by field.

Each value is taken from the first of four places that names it: arguments, `PYDRM_*` in the
environment, the TOML file, the default. A name that none of them should hold is refused, and so is
a value that cannot work, by an error that says which field it is. Nothing here opens a socket or
touches the data directory: an address in use is found when the node starts.
"""

from __future__ import annotations

import difflib
import logging
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, cast

import attrs

from pydrm.address import checked_address, is_loopback, is_wildcard
from pydrm.budgets import budget_of
from pydrm.core.budget_commands import SetBudget
from pydrm.core.records import SOURCE_PREFIX
from pydrm.core.resource import Resource
from pydrm.errors import ConfigurationError, InvalidResource

__all__ = ["Config"]

logger = logging.getLogger(__name__)

LEASE_TTL_RANGE = (0.5, 600.0)
DRAIN_TIMEOUT_RANGE = (0.0, 3600.0)
GIVE_UP_AFTER_RANGE = (0, 1_000_000)
QUARANTINE_RANGE = (0.1, 7 * 86_400.0)
CHECKPOINT_INTERVAL_RANGE = (0.0, 3600.0)
STALL_TIMEOUT_RANGE = (0.1, 3600.0)

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


@attrs.frozen
class Config:
    """
    Made by `load`, which checks; the names are those of the file.

    Attributes:
        cluster, node: Names; letters, digits, ".", "_" and "-", up to 64 of them.
        bind: host:port where peers are listened for.
        advertise: host:port where peers reach this node.
        admin: host:port of the admin API, or None for none.
        role: "voter", or "worker" for a node that follows the voters without a vote, and holds resources like them.
        data_dir: Relative to the working directory; None keeps a cluster of one, or a worker, in memory.
        tls_cert, tls_key, tls_ca: Files, relative to the working directory; all three or none.
        insecure: Whether it may do without TLS beyond loopback.
        lease_ttl, drain_timeout, stall_timeout: Seconds.
        on_unfenced: What to do about a handle that outlives the lease: "exit" the process, or trust the "token".
        readable_variables: What the names of variables begin with that definitions may refer to; None: any.
        readable_directories: Where the files are that definitions may refer to; None: any.
        peers: Every voter's address by name, this node's `advertise` among them if it is one; empty for a cluster of
            one.
        resources: Added if absent once the node has joined.
        sources: The same; each of a kind that begins with "source.", which may be left out of what is given.
        budgets: Set then for groups that have none.
    """

    cluster: str
    node: str
    bind: str
    advertise: str
    role: Literal["voter", "worker"] = "voter"
    admin: str | None = None
    data_dir: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_ca: Path | None = None
    insecure: bool = False
    lease_ttl: float = 2.0
    drain_timeout: float = 20.0
    stall_timeout: float = 5.0
    on_unfenced: Literal["exit", "token"] = "exit"
    give_up_after: int = 10
    quarantine: float = 60.0
    checkpoint_interval: float = 1.0
    readable_variables: tuple[str, ...] | None = None
    readable_directories: tuple[Path, ...] | None = None
    peers: Mapping[str, str] = MappingProxyType({})
    resources: tuple[Resource, ...] = ()
    sources: tuple[Resource, ...] = ()
    budgets: tuple[SetBudget, ...] = ()

    @classmethod
    def load(cls, path: Path | str | None = None, environ: Mapping[str, str] | None = None, **arguments: Any) -> Config:
        """
        Gather and check; an argument that is None counts as not given.

        Raises:
            ConfigurationError: `.field` names what to mend; InvalidResource if it is one of `resources`.
        """
        given = {name: value for name, value in arguments.items() if value is not None}
        _refuse_unknown(given, _NAMES, "")
        said = (_from_file(Path(path)) if path is not None else {}) | _from_environment(environ or {}) | given
        config = _checked(said)
        _warn_of_open_doors(config)
        return config


_TLS = ("tls_cert", "tls_key", "tls_ca")
_NAMES = tuple(field.name for field in attrs.fields(Config))


def _from_file(path: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror}", field=str(path)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"is not valid TOML: {error}", field=str(path)) from error
    _refuse_unknown(content, ("pydrm",), "")
    table = content.get("pydrm")
    if not isinstance(table, dict):
        raise ConfigurationError("must be a table, [pydrm]", field="pydrm")
    _refuse_unknown(table, _NAMES, "")
    return table


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """
    What `PYDRM_*` says; an empty value counts as not given.

    Unlike a file, the environment is not ours alone (Kubernetes puts PYDRM_SERVICE_HOST there for a
    service called pydrm), so only a name that looks like a misspelt one of ours is refused.
    """
    names = [name for name in _NAMES if name not in ("resources", "sources", "budgets")]
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


def _refuse_unknown(given: Iterable[str], known: Iterable[str], prefix: str) -> None:
    known = list(known)
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
            raise ConfigurationError(f"is unknown; {hint}", field=prefix + name)


def _checked(said: Mapping[str, Any]) -> Config:
    cluster = _name(said, "cluster")
    node = _name(said, "node")
    role = cast(Literal["voter", "worker"], _one_of(said, "role", "voter", "worker"))
    listed = _peers(said.get("peers", {}))
    alone = not listed.keys() - {node}
    if role == "worker":
        _check_worker(node, listed)
    # Nobody connects to a worker, or to a cluster of one, so any free port will do.
    unvisited = alone or role == "worker"
    bind = _bind(said, unvisited)
    advertise = _advertise(said, bind, listed.get(node), unvisited)
    peers = listed | {node: advertise} if listed and role == "voter" else listed
    _refuse_shared_addresses(peers)
    admin = checked_address(said["admin"], "admin", port_0=True, wildcard=True) if "admin" in said else None
    if admin == bind:
        raise ConfigurationError("must differ from bind", field="admin")
    data_dir = _path(said, "data_dir")
    if data_dir is None and not alone and role == "voter":
        raise ConfigurationError("is required with peers: a voter must remember how it voted", field="data_dir")
    resources = _resources(said.get("resources", ()), "resources")
    sources = _resources(map(_source, _listed(said.get("sources", ()), "sources")), "sources")
    _refuse_twice((*resources, *sources))
    return Config(
        cluster=cluster,
        node=node,
        bind=bind,
        advertise=advertise,
        role=role,
        admin=admin,
        data_dir=data_dir,
        **_security(said),
        lease_ttl=_seconds(said, "lease_ttl", 2.0, LEASE_TTL_RANGE),
        drain_timeout=_seconds(said, "drain_timeout", 20.0, DRAIN_TIMEOUT_RANGE),
        stall_timeout=_seconds(said, "stall_timeout", 5.0, STALL_TIMEOUT_RANGE),
        on_unfenced=cast(Literal["exit", "token"], _one_of(said, "on_unfenced", "exit", "token")),
        give_up_after=_count(said, "give_up_after", 10, GIVE_UP_AFTER_RANGE),
        quarantine=_seconds(said, "quarantine", 60.0, QUARANTINE_RANGE),
        checkpoint_interval=_seconds(said, "checkpoint_interval", 1.0, CHECKPOINT_INTERVAL_RANGE),
        readable_variables=_texts(said, "readable_variables"),
        readable_directories=_directories(said),
        peers=MappingProxyType(peers),
        resources=resources,
        sources=sources,
        budgets=_budgets(said.get("budgets", {})),
    )


def _name(said: Mapping[str, Any], field: str) -> str:
    if field not in said:
        raise ConfigurationError("is missing", field=field)
    return _checked_name(said[field], field)


def _checked_name(value: object, field: str) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ConfigurationError(f"must be 1 to 64 letters, digits, '.', '_' or '-', not {value!r}", field=field)
    return value


def _peers(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f'must be a table of name = "host:port", not {value!r}', field="peers")
    return {
        _checked_name(name, f"peers.{name}"): checked_address(address, f"peers.{name}")
        for name, address in value.items()
    }


def _bind(said: Mapping[str, Any], unvisited: bool) -> str:
    if "bind" not in said and unvisited:
        return "127.0.0.1:0"
    if "bind" not in said:
        raise ConfigurationError("is required with peers", field="bind")
    return checked_address(said["bind"], "bind", port_0=unvisited, wildcard=True)


def _advertise(said: Mapping[str, Any], bind: str, listed: str | None, unvisited: bool) -> str:
    if "advertise" in said:
        return checked_address(said["advertise"], "advertise")
    if unvisited or not is_wildcard(bind):
        return bind
    if listed is None:
        raise ConfigurationError(f"is required, since nobody can connect to {bind}", field="advertise")
    return listed


def _refuse_shared_addresses(peers: Mapping[str, str]) -> None:
    owners: dict[str, str] = {}
    for name, address in peers.items():
        other = owners.setdefault(address, name)
        if other != name:
            raise ConfigurationError(f"{address} is the address of {other!r} already", field=f"peers.{name}")


def _path(said: Mapping[str, Any], field: str) -> Path | None:
    value = said.get(field)
    if value is None:
        return None
    if not isinstance(value, (str, Path)) or not str(value) or "\0" in str(value):
        raise ConfigurationError(f"must be a path, not {value!r}", field=field)
    return Path(value)


def _security(said: Mapping[str, Any]) -> dict[str, Any]:
    files = {field: _path(said, field) for field in _TLS}
    insecure = _switch(said, "insecure")
    missing = [field for field, path in files.items() if path is None]
    if not missing and insecure:
        raise ConfigurationError("contradicts tls_cert, tls_key and tls_ca: leave it out", field="insecure")
    if missing and len(missing) < len(files):
        raise ConfigurationError(f"is missing: {', '.join(_TLS)} belong together", field=missing[0])
    # Whether they are needed depends on what the names in the addresses stand for; so that is found out at the start.
    return {**files, "insecure": insecure}


def _switch(said: Mapping[str, Any], field: str) -> bool:
    value = said.get(field, False)
    # TOML and Python have true and false, the environment a text.
    if isinstance(value, str):
        value = {"true": True, "false": False}.get(value.lower(), value)
    if not isinstance(value, bool):
        raise ConfigurationError(f"must be true or false, not {value!r}", field=field)
    return value


def _seconds(said: Mapping[str, Any], field: str, default: float, allowed: tuple[float, float]) -> float:
    value = said.get(field, default)
    try:
        # TOML and Python may give a number, the environment a text; true is a slip, not one second.
        seconds = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        seconds = float("nan")
    if not allowed[0] <= seconds <= allowed[1]:
        raise ConfigurationError(f"must be from {allowed[0]:g} to {allowed[1]:g} seconds, not {value!r}", field=field)
    return seconds


def _count(said: Mapping[str, Any], field: str, default: int, allowed: tuple[int, int]) -> int:
    value = said.get(field, default)
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if isinstance(number, bool) or not isinstance(number, int) or not allowed[0] <= number <= allowed[1]:
        raise ConfigurationError(
            f"must be a whole number from {allowed[0]} to {allowed[1]}, not {value!r}", field=field
        )
    return number


def _one_of(said: Mapping[str, Any], field: str, default: str, other: str) -> str:
    value = said.get(field, default)
    if value not in (default, other):
        raise ConfigurationError(f"must be {default!r} or {other!r}, not {value!r}", field=field)
    return str(value)


def _texts(said: Mapping[str, Any], field: str) -> tuple[str, ...] | None:
    """A list; None if nothing is said. The environment has one text, with commas between."""
    value = said.get(field)
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if value is None:
        return None
    if isinstance(value, Mapping) or not isinstance(value, Iterable):
        raise ConfigurationError(f"must be a list of strings, not {value!r}", field=field)
    texts = tuple(value)
    for text in texts:
        if not isinstance(text, (str, Path)) or not str(text):
            raise ConfigurationError(f"must be a list of strings that are not empty, not {text!r}", field=field)
    return tuple(map(str, texts))


def _directories(said: Mapping[str, Any]) -> tuple[Path, ...] | None:
    texts = _texts(said, "readable_directories")
    for text in texts or ():
        if not Path(text).is_absolute() or "\0" in text:
            raise ConfigurationError(f"must be absolute paths, not {text!r}", field="readable_directories")
    return None if texts is None else tuple(map(Path, texts))


def _check_worker(node: str, listed: Mapping[str, str]) -> None:
    if node in listed:
        raise ConfigurationError("is a worker, which is not listed among the voters in peers", field="node")
    if not listed:
        raise ConfigurationError("is required: a worker follows the voters that it lists", field="peers")


def _listed(value: object, field: str) -> Iterable[object]:
    if isinstance(value, (str, Mapping)) or not isinstance(value, Iterable):
        raise ConfigurationError(f"must be a list of tables, [[pydrm.{field}]]", field=field)
    return value


def _resources(value: object, field: str) -> tuple[Resource, ...]:
    return tuple(item if isinstance(item, Resource) else Resource.from_dict(item) for item in _listed(value, field))


def _source(item: object) -> object:
    """Its kind with "source." before it: among sources that goes without saying."""
    if not isinstance(item, Mapping) or not isinstance(item.get("kind"), str):
        return item
    return {**item, "kind": SOURCE_PREFIX + item["kind"].removeprefix(SOURCE_PREFIX)}


def _refuse_twice(resources: Iterable[Resource]) -> None:
    seen: set[str] = set()
    for resource in resources:
        if resource.id in seen:
            raise InvalidResource("is there twice", resource=resource.id, field="id")
        seen.add(resource.id)


def _budgets(value: object) -> tuple[SetBudget, ...]:
    if not isinstance(value, Mapping):
        raise ConfigurationError('must be tables, [pydrm.budgets."api.example.com"]', field="budgets")
    for group, limits in value.items():
        if not isinstance(limits, Mapping):
            raise ConfigurationError(f"must be a table of limits, not {limits!r}", field=f"budgets.{group}")
    return tuple(budget_of(group, limits, prefix=f"budgets.{group}.") for group, limits in value.items())


def _warn_of_open_doors(config: Config) -> None:
    if config.admin is not None and not is_loopback(config.admin):
        logger.warning(
            "the admin API asks for no password: whoever reaches %s can add and remove resources",
            config.admin,
            extra={"node": config.node},
        )
