"""
Certificates as `pydrm certs` makes them, and such as it never would.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydrm.cli.authority import Authority, Pair
from pydrm.engine import Security, TlsFiles

CLUSTER = "orders"
DAY = timedelta(days=1)


class Certificates:
    """
    A directory with the files of one cluster's nodes, and CAs to sign them with.

    Attributes:
        authority: The cluster's CA; what `tls_ca` holds.
    """

    def __init__(self, directory: Path, cluster: str = CLUSTER) -> None:
        self.directory = directory
        self.authority = Authority.make(cluster, days=365)
        self.ca = directory / "ca.pem"
        self.ca.write_bytes(self.authority.pair.certificate)

    def files(self, name: str) -> TlsFiles:
        """Where the files of node *name* are."""
        return TlsFiles(self.directory / f"{name}.pem", self.directory / f"{name}.key", self.ca)

    def security(self, name: str, **how: object) -> Security:
        """Make a certificate for node *name*, as `make` does."""
        self.make(name, **how)
        return Security(self.files(name))

    def make(
        self,
        name: str,
        *,
        of: str = "",
        by: Authority | None = None,
        since: timedelta = -DAY,
        until: timedelta = 20 * DAY,
    ) -> Pair:
        """
        A certificate in the files of node *name*, valid from now + *since* to now + *until*.

        Args:
            of: The node that it names, if that is another one.
            by: Who signs it, if not the cluster's CA.
        """
        now = datetime.now(UTC)
        pair = (by or self.authority).sign(of or name, since=now + since, until=now + until)
        self.put(name, pair)
        return pair

    def put(self, name: str, pair: Pair) -> None:
        files = self.files(name)
        files.cert.write_bytes(pair.certificate)
        files.key.write_bytes(pair.key)
