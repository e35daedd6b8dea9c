"""
Which addresses an app may be sent to by a url that somebody else wrote.

A url is data, and a name in it is what its owner's DNS says at that moment. Without a guard it leads into the network
that the node stands in, to hosts that trust whoever reaches them (OWASP, "Server-Side Request Forgery Prevention").
So only addresses that are public are connected to, and those that somebody has allowed.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

__all__ = ["Network", "address_problem", "network_of"]

Network = IPv4Network | IPv6Network

# RFC 6052, section 2.1: a translator connects to the IPv4 address in the last 32 bits.
_NAT64 = IPv6Network("64:ff9b::/96")

# RFC 4291, section 2.5.5.1: deprecated, and still understood by some.
_COMPATIBLE = IPv6Network("::/96")


def network_of(text: str) -> Network:
    """Raises ValueError."""
    return ip_network(text, strict=False)


def address_problem(text: str, allowed: Iterable[Network]) -> str:
    """
    Why nobody is to connect to the address *text*, in words; "" if one may.

    An IPv6 address that stands for an IPv4 one must be permitted as what it stands for.
    """
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return f"{text} is not an address"
    meant = _meant_by(address)
    if any(meant in network or address in network for network in allowed):
        return ""
    shown = f"{address}" if meant == address else f"{address}, which stands for {meant},"
    if not _is_public(meant):
        return f"{shown} is not a public address"
    return ""


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address) and address.is_site_local:
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved and not address.is_unspecified


def _meant_by(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Where a packet to *address* may come out in the end."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address
