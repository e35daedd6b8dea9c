"""
`Channel`: one end of a TLS connection without I/O: bytes in, bytes out, and whose certificate the other end has.

On `ssl.MemoryBIO` and not asyncio's own TLS, which keeps back three things that a node needs. It drops the alert of a
handshake that fails, so that the other side would never learn why it is not wanted. It shows a connection only once
its handshake is done, so that those which never get there could be neither counted nor closed. And what it has not sent
yet lies in three buffers, of which it counts two.

A certificate is a node's if it has exactly one URI `pydrm://CLUSTER/NODE` among its subjectAltNames (RFC 5280, section
4.2.1.6; SPIFFE names workloads the same way). A DNS name would not do: a node's name may have what DNS does not allow,
it is the same wherever the node runs, and it means nothing without its cluster's.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import attrs

from pydrm.errors import DrmError

__all__ = ["Certificate", "Channel", "TlsFailed", "moment", "proven", "speaks_tls"]

_URI = re.compile(r"pydrm://([A-Za-z0-9._-]{1,64})/([A-Za-z0-9._-]{1,64})")
_RECORD_BYTES_MAX = 16 * 1024
_HANDSHAKE_ROUNDS = 3
_PREFIX_BYTES = 3
# A fatal alert, protocol_version (RFC 8446, section 6). OpenSSL says nothing to whoever does not speak TLS; but by this
# a node that was not told to will know why it is not let in.
_NOT_IN_PLAIN = bytes((21, 3, 3, 0, 2, 2, 70))


class TlsFailed(DrmError):
    """
    One of the two ends does not trust the other, or does not speak TLS.

    Attributes:
        fault: What is wrong with a certificate, to follow a word for it; "" if it is about something else.
        by_peer: Whether it is the other end that hung up.
    """

    def __init__(self, message: str, *, fault: str = "", by_peer: bool = False) -> None:
        super().__init__(message)
        self.fault = fault
        self.by_peer = by_peer


@attrs.frozen
class Certificate:
    """
    What a certificate says that was verified.

    Attributes:
        cluster, node: "" unless it names exactly one node.
        serial: Hexadecimal.
        begins, expires: Seconds since 1970.
    """

    cluster: str
    node: str
    serial: str
    begins: float
    expires: float

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Certificate:
        """From what `getpeercert` returns."""
        uris = [value for kind, value in fields.get("subjectAltName", ()) if kind == "URI"]
        named = [uri for uri in uris if uri.startswith("pydrm:")]
        found = _URI.fullmatch(named[0]) if len(named) == 1 else None
        return cls(
            cluster=found[1] if found else "",
            node=found[2] if found else "",
            serial=fields["serialNumber"],
            begins=ssl.cert_time_to_seconds(fields["notBefore"]),
            expires=ssl.cert_time_to_seconds(fields["notAfter"]),
        )


class Channel:
    """
    Whatever is called, `take` afterwards has what must be sent; also when it raised, for that is how the other end
    hears why.

    Attributes:
        certificate: The other end's, once both ends have shown theirs and proved that they have its key.
        ended: Whether the other end has said that nothing more will come.
    """

    def __init__(self, context: ssl.SSLContext, *, dials: bool) -> None:
        self.certificate: Certificate | None = None
        self.ended = False
        self._heard = False
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=not dials)
        if dials:
            self._shake_hands()

    def receive(self, data: bytes) -> bytes:
        """
        What *data*, as it arrived, says; b"" as long as the handshake goes on.

        Raises:
            TlsFailed: Nothing more may be read or sent.
        """
        if not self._heard and len(data) >= _PREFIX_BYTES and not speaks_tls(data):
            self._outgoing.write(_NOT_IN_PLAIN)
            raise TlsFailed(_NO_TLS)
        self._heard = True
        self._incoming.write(data)
        try:
            if self.certificate is None:
                self._shake_hands()
            return self._read() if self.certificate is not None else b""
        except ssl.SSLError as error:
            raise _failure(error) from error

    def send(self, data: bytes) -> None:
        """Raises TlsFailed. Not before `certificate` is there."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._tls.write(rest) :]  # one record at a time
        except ssl.SSLError as error:
            raise _failure(error) from error

    def take(self) -> bytes:
        """What must go out now, in this order; b"" if nothing."""
        return self._outgoing.read()

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return
        fields = self._tls.getpeercert()
        assert fields, "the context demands a certificate"
        self.certificate = Certificate.of(fields)

    def _read(self) -> bytes:
        parts = []
        # What is only the beginning of a record leaves the one for the other, so this ends.
        while self._incoming.pending or self._tls.pending():
            try:
                part = self._tls.read(_RECORD_BYTES_MAX)
            except ssl.SSLWantReadError:
                break
            if not part:
                self.ended = True
                break
            parts.append(part)
        return b"".join(parts)


def proven(dialling: Channel, answering: Channel) -> Certificate:
    """
    The certificate that *dialling* shows, after a handshake of the two ends in memory.

    Raises:
        TlsFailed: What one of the two has against the other.
    """
    for _ in range(_HANDSHAKE_ROUNDS):
        answering.receive(dialling.take())
        dialling.receive(answering.take())
    if answering.certificate is None:
        raise TlsFailed("the handshake does not end")
    return answering.certificate


def speaks_tls(data: bytes) -> bool:
    """Whether a stream that begins like *data* is TLS (RFC 8446, section 5.1): a record's type and version."""
    return len(data) >= _PREFIX_BYTES and 20 <= data[0] <= 23 and data[1] == 3 and data[2] <= 4


def moment(seconds: float) -> str:
    """*seconds* since 1970, for people."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


# --- why it failed, in words -----------------------------------------------------------------------------------------

_NO_TLS = "it does not speak TLS; set tls_cert, tls_key and tls_ca there"
_EXPIRED = "has expired; renew it with `pydrm certs node`"
_NO_CA_KNOWS_IT = "is not signed by the CA in tls_ca; make one with the cluster's CA, `pydrm certs node`"
_PURPOSE = "is not for TLS clients and servers; make one with `pydrm certs node`"

# By X509_V_ERR_* of OpenSSL's x509_vfy.h: what this end finds wrong with the other's.
_FAULTS = {
    2: _NO_CA_KNOWS_IT,
    7: _NO_CA_KNOWS_IT,
    9: "is not valid yet; compare the clocks of both hosts",
    10: _EXPIRED,
    18: _NO_CA_KNOWS_IT,
    19: _NO_CA_KNOWS_IT,
    20: _NO_CA_KNOWS_IT,
    21: _NO_CA_KNOWS_IT,
    26: _PURPOSE,
}

# By the alert's name (RFC 8446, section 6.2): what the other end finds wrong with this one's.
_FAULTS_TOLD = {
    "CERTIFICATE_EXPIRED": _EXPIRED,
    "UNKNOWN_CA": "is not signed by a CA that it knows; both must have the cluster's CA in tls_ca",
    "DECRYPT_ERROR": "is not signed by a CA that it knows; both must have the cluster's CA in tls_ca",
    "BAD_CERTIFICATE": "is not valid there; it may be for later: compare the clocks of both hosts",
    "UNSUPPORTED_CERTIFICATE": _PURPOSE,
}


def _failure(error: ssl.SSLError) -> TlsFailed:
    if isinstance(error, ssl.SSLCertVerificationError):
        fault = _FAULTS.get(error.verify_code, f"is not accepted: {error.verify_message}")
        return TlsFailed(f"its certificate {fault}", fault=fault)
    reason = error.reason or ""
    _, is_alert, alert = reason.partition("_ALERT_")
    if is_alert:
        if fault := _FAULTS_TOLD.get(alert, ""):
            return TlsFailed(f"this node's certificate {fault}", fault=fault, by_peer=True)
        return TlsFailed(f"TLS alert {alert.lower().replace('_', ' ')}", by_peer=True)
    match reason:
        case "PEER_DID_NOT_RETURN_A_CERTIFICATE":
            return TlsFailed("it shows no certificate; set tls_cert and tls_key there")
        case "UNSUPPORTED_PROTOCOL" | "NO_PROTOCOLS_AVAILABLE":
            return TlsFailed("it does not speak TLS 1.3")
        case "WRONG_VERSION_NUMBER" | "HTTP_REQUEST" | "HTTPS_PROXY_REQUEST":
            return TlsFailed(_NO_TLS)
        case _:
            return TlsFailed(f"its TLS cannot be followed ({reason.lower().replace('_', ' ')})")
