"""
Certificates as `pydrm certs` makes them, and such as it never would.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

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


def root_and_between(cluster: str = CLUSTER) -> tuple[bytes, Authority]:
    """A company's root, in PEM, and a CA that it has signed for this cluster."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in ("root", "between")]
    made = []
    for number in range(2):
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(names[0], names[number], keys[number].public_key(), number + 1)
        builder = builder.not_valid_before(now - DAY).not_valid_after(now + 100 * DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=1 - number), critical=True)
        made.append(builder.sign(keys[0], hashes.SHA256()))
    return made[0].public_bytes(Encoding.PEM), Authority(cluster, made[1], keys[1])
