"""
Addresses as pydrm writes them: host:port, with an IPv6 host in brackets (RFC 3986, section 3.2.2).

Pure text: no name is looked up and nothing is connected.
"""

from __future__ import annotations

import ipaddress
import re

from pydrm.errors import ConfigurationError

__all__ = ["checked_address", "is_loopback", "is_wildcard", "split_address"]

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*")


def split_address(address: str) -> tuple[str, int]:
    """(host, port) of an address that was checked; an IPv6 host comes without its brackets."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def checked_address(value: object, field: str, *, port_0: bool = False, wildcard: bool = False) -> str:
    """
    *value* with its host in lower case, if it is host:port or [IPv6]:port.

    *port_0*, any free port, and *wildcard*, any interface, are allowed where something only listens.

    Raises:
        ConfigurationError: for *field*.
    """
    if not isinstance(value, str):
        raise ConfigurationError(f"must be a string, host:port, not {value!r}", field=field)
    host, separator, port = value.rpartition(":")
    if not separator or not re.fullmatch(r"[0-9]{1,5}", port):
        raise ConfigurationError(f"must be host:port, not {value!r}", field=field)
    if not (0 if port_0 else 1) <= int(port) <= 65535:
        raise ConfigurationError(f"the port must be from 1 to 65535, not {port}", field=field)
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ConfigurationError(f"an IPv6 address needs brackets, [::1]:7001, not {value!r}", field=field)
    if not _is_host(host):
        raise ConfigurationError(f"{host!r} is neither a host name nor an IP address", field=field)
    address = f"{host.lower()}:{int(port)}"
    if not wildcard and is_wildcard(address):
        raise ConfigurationError(f"nobody can connect to {value}", field=field)
    return address


def is_wildcard(address: str) -> bool:
    """Whether it stands for every interface, so that one can listen at it but not connect to it."""
    ip = _ip(split_address(address)[0])
    return ip is not None and ip.is_unspecified


def is_loopback(address: str) -> bool:
    """Whether nobody outside this machine can reach it, as far as that can be read off."""
    host = split_address(address)[0]
    ip = _ip(host)
    return ip.is_loopback if ip is not None else host == "localhost"


def _is_host(host: str) -> bool:
    if host.startswith("["):
        return isinstance(_ip(host), ipaddress.IPv6Address)
    # What is made of digits and dots alone is an IPv4 address or a slip, never a name.
    if re.fullmatch(r"[0-9.]*", host):
        return isinstance(_ip(host), ipaddress.IPv4Address)
    return _HOST_NAME.fullmatch(host) is not None


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
