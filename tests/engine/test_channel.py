"""
`Channel`: two ends of TLS in memory; what they make of each other's certificates, and of what is no TLS at all.
"""

from __future__ import annotations

import contextlib
import ssl
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pydrm.cli.authority import Authority
from pydrm.engine.channel import Certificate, Channel, TlsFailed, proven, speaks_tls
from pydrm.engine.tls import Tls
from tests.certificates import CLUSTER, DAY, Certificates


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    made = Certificates(tmp_path_factory.mktemp("certificates"))
    made.make("a")
    made.make("b")
    made.make("expired", of="b", since=-3 * DAY, until=-DAY)
    made.make("early", of="b", since=DAY, until=2 * DAY)
    made.make("foreign", of="b", by=Authority.make(CLUSTER, days=5))
    return made


def end(certificates: Certificates, name: str, *, dials: bool) -> Channel:
    """One end that shows the certificate in *name*'s files, whatever that is."""
    tls = Tls(certificates.files(name), CLUSTER, "b" if name not in "ab" else name)
    tls.load()
    return tls.channel(dials=dials)


def ends(certificates: Certificates, dialling: str = "a", answering: str = "b") -> tuple[Channel, Channel]:
    return end(certificates, dialling, dials=True), end(certificates, answering, dials=False)


def client(certificates: Certificates) -> ssl.SSLContext:
    """One that knows the CA, and shows nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(certificates.ca)
    return context


def failure(dialling: Channel, answering: Channel) -> tuple[str, str]:
    """What the end that trusts the other too little says, and what the other end hears of it."""
    for first, second in ((dialling, answering), (answering, dialling)) * 3:
        said = refusal(second, first.take())
        if said is not None:
            heard = refusal(first, second.take())
            assert heard is not None
            assert (said.by_peer, heard.by_peer) == (False, True)
            return str(said), str(heard)
    raise AssertionError("they trust each other")


def refusal(channel: Channel, data: bytes) -> TlsFailed | None:
    try:
        channel.receive(data)
    except TlsFailed as error:
        return error
    return None


# --- who is there ----------------------------------------------------------------------------------------------------


def test_both_ends_know_whose_certificate_the_other_has(certificates: Certificates):
    """And what they say arrives, whatever its length."""
    a, b = ends(certificates)

    proven(a, b)

    assert a.certificate is not None
    assert b.certificate is not None
    assert (a.certificate.cluster, a.certificate.node) == (CLUSTER, "b")
    assert (b.certificate.cluster, b.certificate.node) == (CLUSTER, "a")
    for length in (0, 1, 16 * 1024, 16 * 1024 + 1, 3_000_000):
        a.send(bytes(length))
        assert b.receive(a.take()) == bytes(length)
        b.send(b"answer")
        assert a.receive(b.take()) == b"answer"


def test_it_is_tls_1_3_and_nothing_is_resumed(certificates: Certificates):
    """A ticket would let a peer in again whose certificate has expired meanwhile."""
    a, b = ends(certificates)

    proven(a, b)

    assert a._tls.version() == b._tls.version() == "TLSv1.3"
    assert a._tls.session is None or not a._tls.session.has_ticket
    old = client(certificates)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(TlsFailed, match=r"it does not speak TLS 1\.3"):
        end(certificates, "b", dials=False).receive(Channel(old, dials=True).take())


@pytest.mark.parametrize(
    ("name", "found", "told"),
    [
        ("expired", "its certificate has expired; renew it", "this node's certificate has expired; renew it"),
        ("early", "its certificate is not valid yet", "this node's certificate is not valid there"),
        ("foreign", "its certificate is not signed by the CA", "this node's certificate is not signed by a CA"),
    ],
)
@pytest.mark.parametrize("dials", [True, False])
def test_a_certificate_that_is_not_good_is_told_to_both_ends(
    certificates: Certificates, name: str, found: str, told: str, dials: bool
):
    """Each learns whose it is, and what to do."""
    said, heard = failure(*(ends(certificates, name, "a") if dials else ends(certificates, "a", name)))

    assert said.startswith(found)
    assert heard.startswith(told)


def test_whoever_shows_no_certificate_is_told_so(certificates: Certificates):
    """A browser, say."""
    said, heard = failure(Channel(client(certificates), dials=True), end(certificates, "b", dials=False))

    assert said == "it shows no certificate; set tls_cert and tls_key there"
    assert "certificate required" in heard


def test_a_self_made_certificate_is_not_signed_by_the_ca(certificates: Certificates, tmp_path: Path):
    """Whatever it says of itself."""
    other = Certificates(tmp_path)
    other.put("a", other.authority.pair)
    context = client(certificates)
    context.load_cert_chain(other.files("a").cert, other.files("a").key)

    said, _ = failure(Channel(context, dials=True), end(certificates, "b", dials=False))

    assert said.startswith("its certificate is not signed by the CA")


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ((("URI", "pydrm://orders/a"),), ("orders", "a")),
        ((("DNS", "a.example"), ("URI", "spiffe://x/y"), ("URI", "pydrm://orders/A_b.-9")), ("orders", "A_b.-9")),
        ((), ("", "")),
        ((("DNS", "pydrm://orders/a"),), ("", "")),
        ((("URI", "pydrm://orders/a"), ("URI", "pydrm://orders/b")), ("", "")),
        ((("URI", "pydrm://orders"),), ("", "")),
        ((("URI", "pydrm://orders/a/b"),), ("", "")),
        ((("URI", "pydrm://orders/a\n"),), ("", "")),
        ((("URI", "pydrm://orders/a\x00.evil"),), ("", "")),
        ((("URI", "pydrm://orders/" + "a" * 65),), ("", "")),
        ((("URI", "PYDRM://orders/a"),), ("", "")),
    ],
)
def test_a_certificate_names_one_node_by_one_uri_to_the_letter(names: object, found: tuple[str, str]):
    """Two would be a certificate for either; and nothing is rounded to a name."""
    certificate = Certificate.of(
        {
            "subjectAltName": names,
            "serialNumber": "0A",
            "notBefore": "Jan  1 00:00:00 2030 GMT",
            "notAfter": "Jan  2 00:00:00 2030 GMT",
        }
    )

    assert (certificate.cluster, certificate.node) == found
    assert certificate.expires - certificate.begins == timedelta(days=1).total_seconds()


def test_the_serial_is_that_which_people_are_shown(certificates: Certificates):
    """So that a line of the log can be held beside a file."""
    a, b = ends(certificates)
    read = x509.load_pem_x509_certificate(certificates.files("a").cert.read_bytes())

    assert int(proven(a, b).serial, 16) == read.serial_number


# --- what is no TLS --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"\x40\x00\x00\x00\x9b\x01\x01", bytes(50), b"\xff" * 50])
@pytest.mark.parametrize("dials", [True, False])
def test_whoever_does_not_speak_tls_gets_an_alert_and_nothing_else(
    certificates: Certificates, data: bytes, dials: bool
):
    """OpenSSL says nothing at all; the alert is what a node without TLS knows the other by."""
    channel = end(certificates, "a", dials=dials)
    channel.take()

    with pytest.raises(TlsFailed, match="it does not speak TLS; set tls_cert, tls_key and tls_ca there"):
        channel.receive(data)

    answer = channel.take()
    assert len(answer) == 7
    assert speaks_tls(answer)


@settings(
    derandomize=True, deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=300), st.booleans(), st.booleans())
def test_any_bytes_are_waited_with_or_refused(certificates: Certificates, data: bytes, dials: bool, like_tls: bool):
    """Nothing but TlsFailed comes out, and nobody is let in."""
    channel = end(certificates, "a", dials=dials)
    if like_tls:
        data = b"\x16\x03\x01" + len(data).to_bytes(2, "big") + data
    with contextlib.suppress(TlsFailed):
        assert channel.receive(data) == b""

    assert channel.certificate is None


@settings(
    derandomize=True, deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(0, 2), st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_a_damaged_handshake_is_waited_with_or_refused(
    certificates: Certificates, damaged: int, where: float, change: int
):
    """Any byte of it, in either direction; whoever is let in has said what it should."""
    a, b = ends(certificates)
    try:
        for number, (source, target) in enumerate(((a, b), (b, a), (a, b))):
            flight = bytearray(source.take())
            if number == damaged and flight:
                flight[int(where * len(flight))] ^= change
            target.receive(bytes(flight))
    except TlsFailed:
        pass

    assert b.certificate is None or b.certificate.node == "a"
    assert a.certificate is None or a.certificate.node == "b"


@settings(derandomize=True, deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 400), min_size=1, max_size=8))
def test_how_the_bytes_are_split_on_the_way_makes_no_difference(certificates: Certificates, sizes: list[int]):
    """As a network may."""
    a, b = ends(certificates)
    heard = {id(a): b"", id(b): b""}
    a_said = b_said = False
    for _ in range(4):
        for source, target in ((a, b), (b, a)):
            flight = source.take()
            turn = 0
            while flight:
                size = sizes[turn % len(sizes)]
                heard[id(target)] += target.receive(flight[:size])
                flight, turn = flight[size:], turn + 1
        if a.certificate and not a_said:
            a.send(b"from a" * 5000)
            a_said = True
        if b.certificate and not b_said:
            b.send(b"from b" * 5000)
            b_said = True

    assert heard == {id(a): b"from b" * 5000, id(b): b"from a" * 5000}
