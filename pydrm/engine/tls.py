"""
`Tls`: what this node shows to the others and by what it knows them, from files that may change under way.

    Rule 1.  Both ends show a certificate that a CA in `ca` has signed, under TLS 1.3 and nothing older. Both are pydrm,
             so nothing older is ever needed. No session is resumed, for that would pass the certificate by.
    Rule 2.  The certificate names the node; `channel` says how.
    Rule 3.  The files are looked at before each link is made and at least each second. New ones are proven first, by a
             handshake with themselves in memory: half a pair, another node's or what the others would refuse
             is passed over with a warning, and the former ones stay.
    Rule 4.  A link outlives the files that it was made with, but not the certificates.

Everything that is judged by date is judged by the host's wall clock, as OpenSSL does, and that clock alone.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import attrs

from pydrm.engine.channel import Certificate, Channel, TlsFailed, moment, proven
from pydrm.errors import ConfigurationError

__all__ = ["Security", "Tls", "TlsFiles"]

_log = logging.getLogger(__name__)

_DAY_S = 86_400.0
_RENEW_BEFORE_S = 14 * _DAY_S
_PROVE_AGAIN_S = 10.0
_CERTIFICATE = b"BEGIN CERTIFICATE"
_KEY = b"PRIVATE KEY"


@attrs.frozen
class TlsFiles:
    """Paths, in PEM: this node's certificate (and those between it and the CA), its key, the CAs of the others."""

    cert: Path
    key: Path
    ca: Path


@attrs.frozen
class Security:
    """
    Attributes:
        tls: None for a node that stays on loopback.
        insecure: Whether it may leave loopback without.
    """

    tls: TlsFiles | None = None
    insecure: bool = False


@attrs.frozen
class _Credentials:
    """
    Attributes:
        certificate: This node's; None if the others would refuse it.
        fault: Why they would.
    """

    dialling: ssl.SSLContext
    answering: ssl.SSLContext
    certificate: Certificate | None
    fault: str


class Tls:
    """Nothing is read before `load`."""

    def __init__(self, files: TlsFiles, cluster: str, node: str, *, wall: Callable[[], float] = time.time) -> None:
        """*wall* is the wall clock: seconds since 1970."""
        self._files = files
        self._cluster = cluster
        self._node = node
        self._wall = wall
        self._stamps: object = None
        self._credentials: _Credentials | None = None
        self._proved_at = self._warned_at = float("-inf")

    def load(self) -> None:
        """
        Read the files. A certificate that the others will refuse is no reason not to start: it may be renewed.

        Raises:
            ConfigurationError: They cannot be read, do not belong together, or are another node's.
        """
        self._stamps = self._look_at_files()
        self._adopt(self._read())

    def look(self) -> None:
        """Read the files again if they have changed, and warn of a certificate that will have to be renewed."""
        assert self._credentials is not None
        stamps = self._look_at_files()
        # What was not valid yet may be now.
        again = self._credentials.fault and not 0 <= self._wall() - self._proved_at < _PROVE_AGAIN_S
        if stamps != self._stamps or again:
            self._stamps = stamps
            self._reload()
        self._warn_of_expiry()

    def channel(self, *, dials: bool) -> Channel:
        """One end of a new connection, with the newest credentials."""
        self.look()
        assert self._credentials is not None
        return Channel(self._credentials.dialling if dials else self._credentials.answering, dials=dials)

    def objection(self, theirs: Certificate, expected: str) -> str:
        """Why *theirs* is not wanted, in words for people; "" if it is. *expected* is a node's name, or "" for any."""
        named = f"its certificate is of node {theirs.node!r}, cluster {theirs.cluster!r}"
        if not theirs.node:
            return f"its certificate does not name one node: pydrm://{self._cluster}/NODE must be a subjectAltName"
        if theirs.cluster != self._cluster:
            return f"{named}; this node is of cluster {self._cluster!r}"
        if expected and theirs.node != expected:
            return f"{named}; {expected!r} was expected there"
        return ""

    def lasts_until(self, theirs: Certificate) -> float:
        """When a link that is made now with *theirs* must end, by the wall clock."""
        mine = self._credentials.certificate if self._credentials is not None else None
        return min(theirs.expires, mine.expires) if mine is not None else theirs.expires

    def is_over(self, until: float) -> bool:
        return self._wall() > until

    @property
    def problem(self) -> str:
        """Why the others refuse this node's certificate, if they do."""
        if self._credentials is None:
            return ""
        if self._credentials.fault:
            return f"this node's certificate ({self._files.cert}) {self._credentials.fault}"
        certificate = self._credentials.certificate
        if certificate is not None and self.is_over(certificate.expires):
            return self._expired(certificate)
        return ""

    # --- files -------------------------------------------------------------------------------------------------------

    def _look_at_files(self) -> object:
        return [_stamp(path) for path in (self._files.cert, self._files.key, self._files.ca)]

    def _read(self) -> _Credentials:
        """Raises ConfigurationError."""
        files = self._files
        _check(files.cert, "tls_cert", _CERTIFICATE)
        _check(files.key, "tls_key", _KEY)
        _check(files.ca, "tls_ca", _CERTIFICATE)
        dialling = _context(ssl.PROTOCOL_TLS_CLIENT, files)
        answering = _context(ssl.PROTOCOL_TLS_SERVER, files)
        self._proved_at = self._wall()
        try:
            mine = proven(Channel(dialling, dials=True), Channel(answering, dials=False))
        except TlsFailed as failure:
            return _Credentials(dialling, answering, None, failure.fault or f"cannot be used: {failure}")
        if objection := self.objection(mine, self._node):
            raise ConfigurationError(
                f"{files.cert}: {objection}. Make one with `pydrm certs node {self._node}`", field="tls_cert"
            )
        return _Credentials(dialling, answering, mine, "")

    def _reload(self) -> None:
        assert self._credentials is not None
        try:
            read = self._read()
        except ConfigurationError as error:
            self._pass_over(str(error))
            return
        if read.fault and not self._credentials.fault:
            self._pass_over(f"tls_cert: {self._files.cert} {read.fault}")
        elif read.fault and read.fault == self._credentials.fault:
            self._credentials = read  # said already
        else:
            self._adopt(read)

    def _pass_over(self, reason: str) -> None:
        _log.warning("new TLS files are not used, the former ones stay: %s", reason, extra={"node": self._node})

    def _adopt(self, credentials: _Credentials) -> None:
        self._credentials = credentials
        self._warned_at = float("-inf")
        if credentials.certificate is None:
            _log.error("the other nodes will refuse this one: %s", self.problem, extra={"node": self._node})
        else:
            serial, until = credentials.certificate.serial, moment(credentials.certificate.expires)
            _log.info("this node shows certificate %s, valid until %s", serial, until, extra={"node": self._node})
            self._warn_of_expiry()

    def _warn_of_expiry(self) -> None:
        certificate = self._credentials.certificate if self._credentials is not None else None
        now = self._wall()
        if certificate is None or now - self._warned_at < _DAY_S:
            return
        # Whoever has them renewed each day must not be warned each day.
        notice_s = min(_RENEW_BEFORE_S, (certificate.expires - certificate.begins) / 3)
        left_s = certificate.expires - now
        if left_s < 0:
            self._warned_at = now
            _log.error("the other nodes refuse this one: %s", self._expired(certificate), extra={"node": self._node})
        elif left_s < notice_s:
            self._warned_at = now
            _log.warning(
                "this node's certificate (%s) is valid until %s only; renew it with `pydrm certs node %s --force`",
                self._files.cert,
                moment(certificate.expires),
                self._node,
                extra={"node": self._node},
            )

    def _expired(self, certificate: Certificate) -> str:
        return (
            f"this node's certificate ({self._files.cert}) has expired on {moment(certificate.expires)}; "
            f"renew it with `pydrm certs node {self._node} --force`"
        )


def _stamp(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def _check(path: Path, field: str, label: bytes) -> None:
    """Raises ConfigurationError, which says more of a file than OpenSSL does."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}", field=field) from error
    if label not in content:
        raise ConfigurationError(f"{path} has no {label.decode()} in it; it must be PEM", field=field)
    if label == _KEY and b"ENCRYPTED" in content:
        raise ConfigurationError(f"{path} is encrypted, and there is nobody to ask for its password", field=field)


def _context(protocol: int, files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # rule 2 instead
    context.verify_mode = ssl.CERT_REQUIRED
    # So that a CA between a company's root and the nodes can be the only one that is trusted.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0  # nothing to resume
    try:
        # With a password it cannot ask the terminal for one.
        context.load_cert_chain(files.cert, files.key, password="")
    except (ssl.SSLError, OSError) as error:
        if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
            raise ConfigurationError(f"{files.key} is not the key of {files.cert}", field="tls_key") from error
        raise ConfigurationError(f"{files.cert} and {files.key} cannot be used: {error}", field="tls_cert") from error
    try:
        context.load_verify_locations(files.ca)
    except (ssl.SSLError, OSError) as error:
        raise ConfigurationError(f"{files.ca} cannot be used: {error}", field="tls_ca") from error
    return context
