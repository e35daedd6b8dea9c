"""
`Config`: what a node must know before it starts, checked field by field.

Each value is taken from the first of four places that names it: arguments, `PYDRM_*` in the environment, the TOML file
(all by `pydrm.said`), the default. A value that cannot work is refused by an error that says which field it is. Nothing
here opens a socket or touches the data directory: an address in use is found when the node starts.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, cast

import attrs

from pydrm.address import checked_address, is_loopback, is_wildcard
from pydrm.core.budget_commands import SetBudget
from pydrm.core.records import SOURCE_PREFIX
from pydrm.core.resource import Resource
from pydrm.errors import ConfigurationError, InvalidResource
from pydrm.limits import budget_of
from pydrm.said import Said, checked_name

__all__ = ["Config"]

logger = logging.getLogger(__name__)

LEASE_TTL_RANGE = (0.5, 600.0)
DRAIN_TIMEOUT_RANGE = (0.0, 3600.0)
GIVE_UP_AFTER_RANGE = (0, 1_000_000)
QUARANTINE_RANGE = (0.1, 7 * 86_400.0)
CHECKPOINT_INTERVAL_RANGE = (0.0, 3600.0)
STALL_TIMEOUT_RANGE = (0.1, 3600.0)


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
        websocket_transport: The library that websockets are made with; "picows" needs the extra "fast".
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
    websocket_transport: Literal["websockets", "picows"] = "websockets"
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
        config = _checked(Said.gathered(_NAMES, given, environ or {}, Path(path) if path is not None else None))
        _warn_of_open_doors(config)
        return config


_TLS = ("tls_cert", "tls_key", "tls_ca")
_NAMES = tuple(field.name for field in attrs.fields(Config))


def _checked(said: Said) -> Config:
    cluster = said.name("cluster")
    node = said.name("node")
    role = cast(Literal["voter", "worker"], said.one_of("role", "voter", "worker"))
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
    data_dir = said.path("data_dir")
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
        lease_ttl=said.seconds("lease_ttl", 2.0, LEASE_TTL_RANGE),
        drain_timeout=said.seconds("drain_timeout", 20.0, DRAIN_TIMEOUT_RANGE),
        stall_timeout=said.seconds("stall_timeout", 5.0, STALL_TIMEOUT_RANGE),
        on_unfenced=cast(Literal["exit", "token"], said.one_of("on_unfenced", "exit", "token")),
        give_up_after=said.count("give_up_after", 10, GIVE_UP_AFTER_RANGE),
        quarantine=said.seconds("quarantine", 60.0, QUARANTINE_RANGE),
        checkpoint_interval=said.seconds("checkpoint_interval", 1.0, CHECKPOINT_INTERVAL_RANGE),
        readable_variables=said.texts("readable_variables"),
        readable_directories=_directories(said),
        websocket_transport=cast(
            Literal["websockets", "picows"], said.one_of("websocket_transport", "websockets", "picows")
        ),
        peers=MappingProxyType(peers),
        resources=resources,
        sources=sources,
        budgets=_budgets(said.get("budgets", {})),
    )


def _peers(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f'must be a table of name = "host:port", not {value!r}', field="peers")
    return {
        checked_name(name, f"peers.{name}"): checked_address(address, f"peers.{name}")
        for name, address in value.items()
    }


def _bind(said: Said, unvisited: bool) -> str:
    if "bind" not in said and unvisited:
        return "127.0.0.1:0"
    if "bind" not in said:
        raise ConfigurationError("is required with peers", field="bind")
    return checked_address(said["bind"], "bind", port_0=unvisited, wildcard=True)


def _advertise(said: Said, bind: str, listed: str | None, unvisited: bool) -> str:
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


def _security(said: Said) -> dict[str, Any]:
    files = {field: said.path(field) for field in _TLS}
    insecure = said.switch("insecure")
    missing = [field for field, path in files.items() if path is None]
    if not missing and insecure:
        raise ConfigurationError("contradicts tls_cert, tls_key and tls_ca: leave it out", field="insecure")
    if missing and len(missing) < len(files):
        raise ConfigurationError(f"is missing: {', '.join(_TLS)} belong together", field=missing[0])
    # Whether they are needed depends on what the names in the addresses stand for; so that is found out at the start.
    return {**files, "insecure": insecure}


def _directories(said: Said) -> tuple[Path, ...] | None:
    texts = said.texts("readable_directories")
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
