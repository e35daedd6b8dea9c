"""
`Reach`: how far a node may go without TLS: not beyond loopback, unless it was told that this is wanted.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket

import attrs

from pydrm.address import is_loopback, split_address
from pydrm.errors import ConfigurationError

__all__ = ["Reach"]

_log = logging.getLogger(__name__)


@attrs.frozen
class Reach:
    """
    Attributes:
        tls: Whether all that is said is under TLS.
        insecure: Whether it was told that it may go further without.
    """

    tls: bool
    insecure: bool

    async def check_bind(self, bind: str) -> None:
        """Raises ConfigurationError if a node must not listen there, or OSError if there is no such host."""
        if self.tls or await _is_local(bind):
            return
        if not self.insecure:
            message = (
                f"is required, because bind is {bind} and not on loopback. Make certificates with `pydrm certs`, "
                "or set insecure = true in a network that nobody else can reach"
            )
            raise ConfigurationError(message, field="tls_cert")
        _log.warning("insecure = true: whoever reaches %s can read all that nodes say, and pass for one of them", bind)

    async def covers(self, address: str) -> bool:
        """Whether it may be dialled. Raises OSError if there is no such host."""
        return self.tls or self.insecure or await _is_local(address)


async def _is_local(address: str) -> bool:
    """Whether *address* stays inside this machine, whatever its host name stands for."""
    host, port = split_address(address)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return all(is_loopback(f"{where[0]}:{port}") for *_, where in found)
    return is_loopback(address)
