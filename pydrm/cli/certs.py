"""
`pydrm certs`: a CA for a cluster, a certificate for each node, and what a certificate says.

A file is written whole under another name and then renamed, so that a node which runs never reads half of it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydrm.cli.exits import Exit, Failed

if TYPE_CHECKING:
    from pydrm.cli.authority import Authority, Pair, Shown

__all__ = ["add_arguments", "run"]

_CA = "ca"
_CA_DAYS = 3650
_NODE_DAYS = 365
_DAYS_MAX = 36500
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SECRET = 0o600
_PUBLIC = 0o644

T = TypeVar("T")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Certificates for TLS between nodes. Needs `pip install pydrm[tls]`."
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    init = actions.add_parser("init", help="make a CA for a cluster")
    init.add_argument("--cluster", metavar="NAME", help="the cluster's name (default: PYDRM_CLUSTER)")
    _add_making(init, _CA_DAYS)
    node = actions.add_parser("node", help="make a certificate for one node, signed by the CA")
    node.add_argument("name", metavar="NAME", help="the node's name")
    _add_making(node, _NODE_DAYS)
    show = actions.add_parser("show", help="what the certificates in a file say")
    show.add_argument("file", metavar="FILE", type=Path)
    show.add_argument("--json", action="store_true", help="print JSON")


def _add_making(parser: argparse.ArgumentParser, days: int) -> None:
    parser.add_argument("--dir", metavar="DIR", type=Path, default=Path("certs"), help="default: certs")
    parser.add_argument("--days", type=_days, default=days, help=f"how long it is valid (default: {days})")
    parser.add_argument("--force", action="store_true", help="replace what is there")


def _days(text: str) -> float:
    days = float(text)
    if not 0 < days <= _DAYS_MAX:
        raise argparse.ArgumentTypeError(f"must be above 0 and up to {_DAYS_MAX}")
    return days


def run(arguments: argparse.Namespace) -> Exit:
    try:
        from pydrm.cli import authority  # noqa: F401 (only to see whether it can be)
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("cryptography"):
            raise
        raise Failed("certificates are made by `cryptography`: pip install pydrm[tls]", exit=Exit.FAILURE) from error
    match arguments.action:
        case "init":
            return _init(arguments)
        case "node":
            return _node(arguments)
        case _:
            return _show(arguments)


def _init(arguments: argparse.Namespace) -> Exit:
    from pydrm.cli.authority import Authority

    cluster = arguments.cluster or os.environ.get("PYDRM_CLUSTER")
    if not cluster:
        raise Failed("init: say which --cluster it is for", exit=Exit.USAGE)
    _check_name(cluster, "--cluster")
    directory: Path = arguments.dir
    _refuse_to_overwrite(directory, _CA, arguments.force)
    authority = Authority.make(cluster, days=arguments.days)
    _write(directory, _CA, authority.pair)
    print(f"a CA for cluster {cluster}, valid until {_date(authority.until)}: {directory / 'ca.pem'}")
    print(f"Keep {directory / 'ca.key'} where no node is: whoever has it can be any node.")
    return Exit.OK


def _node(arguments: argparse.Namespace) -> Exit:
    name: str = arguments.name
    directory: Path = arguments.dir
    _check_name(name, "NAME")
    if name == _CA:
        raise Failed(f"a node's files cannot be called {_CA}: those are the CA's", exit=Exit.USAGE)
    authority = _attempt(lambda: _read_authority(directory), directory / "ca.pem")
    _refuse_to_overwrite(directory, name, arguments.force)
    until = datetime.now(UTC) + timedelta(days=arguments.days)
    _write(directory, name, authority.sign(name, until=until))
    print(f"# node {name} of cluster {authority.cluster}, valid until {_date(min(until, authority.until))}")
    for field, file in (("tls_cert", f"{name}.pem"), ("tls_key", f"{name}.key"), ("tls_ca", "ca.pem")):
        print(f"{field} = {json.dumps(str(directory / file), ensure_ascii=False)}")
    return Exit.OK


def _read_authority(directory: Path) -> Authority:
    from pydrm.cli.authority import Authority, Pair

    return Authority.read(Pair((directory / "ca.pem").read_bytes(), (directory / "ca.key").read_bytes()))


def _show(arguments: argparse.Namespace) -> Exit:
    from pydrm.cli.authority import shown

    certificates = _attempt(lambda: shown(arguments.file), arguments.file)
    if arguments.json:
        print(json.dumps([_as_json(certificate) for certificate in certificates], indent=2, ensure_ascii=False))
    else:
        print("\n\n".join("\n".join(_lines(certificate)) for certificate in certificates))
    return Exit.OK


def _lines(certificate: Shown) -> list[str]:
    left = certificate.until - datetime.now(UTC)
    state = f"{left.days} days left" if left > timedelta(0) else "EXPIRED"
    what = "a CA" if certificate.signs_certificates else "a node"
    return [
        f"names    {', '.join(certificate.names) or 'none'} ({what})",
        f"subject  {certificate.subject}",
        f"issuer   {certificate.issuer}",
        f"serial   {certificate.serial}",
        f"valid    {_date(certificate.since)} to {_date(certificate.until)}, {state}",
        f"sha256   {certificate.sha256}",
    ]


def _as_json(certificate: Shown) -> dict[str, Any]:
    return {
        "names": certificate.names,
        "subject": certificate.subject,
        "issuer": certificate.issuer,
        "serial": certificate.serial,
        "since": certificate.since.isoformat(),
        "until": certificate.until.isoformat(),
        "ca": certificate.signs_certificates,
        "sha256": certificate.sha256,
    }


def _date(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")


def _check_name(name: str, what: str) -> None:
    if not _NAME.fullmatch(name):
        raise Failed(f"{what}: must be 1 to 64 letters, digits, '.', '_' or '-', not {name!r}", exit=Exit.USAGE)


def _attempt(read: Callable[[], T], what: Path) -> T:
    try:
        return read()
    except OSError as error:
        raise Failed(f"{error.filename or what}: {error.strerror}", exit=Exit.INVALID) from error
    except (ValueError, TypeError) as error:  # TypeError: its key is encrypted
        raise Failed(f"{what}: {error}", exit=Exit.INVALID) from error


def _refuse_to_overwrite(directory: Path, name: str, force: bool) -> None:
    for file in (directory / f"{name}.key", directory / f"{name}.pem"):
        if file.exists() and not force:
            raise Failed(f"{file} is there already; --force replaces it", exit=Exit.CONFLICT)


def _write(directory: Path, name: str, pair: Pair) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        key = _written_beside(directory / f"{name}.key", pair.key, _SECRET)
        certificate = _written_beside(directory / f"{name}.pem", pair.certificate, _PUBLIC)
        # One right after the other: between them the pair does not fit, and a node that looks then says so.
        key.replace(directory / f"{name}.key")
        certificate.replace(directory / f"{name}.pem")
    except OSError as error:
        raise Failed(f"{error.filename}: {error.strerror}", exit=Exit.FAILURE) from error


def _written_beside(path: Path, content: bytes, mode: int) -> Path:
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    return beside
