"""
`Authority`: a cluster's own CA, and the certificates that it signs, in PEM (RFC 5280). Needs the extra `tls`.

Only whoever makes or shows certificates needs it; a node that uses them reads them with the standard library. What
a node's certificate must look like is said in `pydrm.engine.tls`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["Authority", "Pair", "Shown", "shown"]

# Hosts whose clocks are a little behind must not refuse what was just made.
_BACKDATED = timedelta(hours=1)

_Key = ec.EllipticCurvePrivateKey


@attrs.frozen
class Pair:
    """A certificate and its private key, as the files hold them."""

    certificate: bytes
    key: bytes = attrs.field(repr=False)


@attrs.frozen
class Authority:
    """Raises ValueError where bytes are not what they should be."""

    cluster: str
    certificate: x509.Certificate
    key: _Key = attrs.field(repr=False)

    @classmethod
    def make(cls, cluster: str, *, days: float) -> Authority:
        """A new one, valid from now on for so many *days*."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(cluster, "pydrm CA")
        now = datetime.now(UTC)
        builder = _builder(name, name, key, now - _BACKDATED, now + timedelta(days=days), f"pydrm://{cluster}")
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        return cls(cluster, builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def read(cls, pair: Pair) -> Authority:
        certificate = x509.load_pem_x509_certificate(pair.certificate)
        key = serialization.load_pem_private_key(pair.key, password=None)
        if not isinstance(key, _Key) or key.public_key() != certificate.public_key():
            raise ValueError("the key does not belong to the certificate")
        clusters = [uri.removeprefix("pydrm://") for uri in _uris(certificate) if uri.startswith("pydrm://")]
        if len(clusters) != 1 or "/" in clusters[0]:
            raise ValueError("it is not the CA of a pydrm cluster")
        return cls(clusters[0], certificate, key)

    @property
    def pair(self) -> Pair:
        return _pair(self.certificate, self.key)

    @property
    def until(self) -> datetime:
        return self.certificate.not_valid_after_utc

    def sign(self, node: str, *, since: datetime | None = None, until: datetime) -> Pair:
        """A new key and certificate for *node*, which do not outlive the CA; *since* is now unless told."""
        key = ec.generate_private_key(ec.SECP256R1())
        begins = since or datetime.now(UTC) - _BACKDATED
        subject = _name(self.cluster, node)
        uri = f"pydrm://{self.cluster}/{node}"
        builder = _builder(subject, self.certificate.subject, key, begins, min(until, self.until), uri)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
        # Each node dials and is dialled.
        both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = builder.add_extension(both, critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = builder.add_extension(issuer, critical=False)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        return _pair(builder.sign(self.key, hashes.SHA256()), key)


@attrs.frozen
class Shown:
    """A certificate as people read it; `serial` as nodes log it."""

    names: tuple[str, ...]
    subject: str
    issuer: str
    serial: str
    since: datetime
    until: datetime
    signs_certificates: bool
    sha256: str


def shown(path: Path) -> list[Shown]:
    """Every certificate in the file. Raises OSError or ValueError."""
    return [_shown(certificate) for certificate in x509.load_pem_x509_certificates(path.read_bytes())]


def _shown(certificate: x509.Certificate) -> Shown:
    try:
        signs = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        signs = False
    serial = f"{certificate.serial_number:X}"
    return Shown(
        names=tuple(_uris(certificate)),
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        serial=serial.zfill(len(serial) + len(serial) % 2),
        since=certificate.not_valid_before_utc,
        until=certificate.not_valid_after_utc,
        signs_certificates=signs,
        sha256=certificate.fingerprint(hashes.SHA256()).hex(),
    )


def _name(cluster: str, name: str) -> x509.Name:
    # For people only: what counts is the URI.
    parts = [(NameOID.ORGANIZATION_NAME, cluster), (NameOID.COMMON_NAME, name)]
    return x509.Name([x509.NameAttribute(kind, text) for kind, text in parts])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: _Key, since: datetime, until: datetime, uri: str
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder(subject_name=subject, issuer_name=issuer)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(since).not_valid_after(until)
    return builder.add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pair(certificate: x509.Certificate, key: _Key) -> Pair:
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Pair(certificate.public_bytes(Encoding.PEM), private)


def _uris(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return names.value.get_values_for_type(x509.UniformResourceIdentifier)
