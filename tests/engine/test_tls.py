"""
`Tls`: what is read from files, when it is read again, and what is said of it.
"""

from __future__ import annotations

import logging
import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from pydrm.cli.authority import Authority
from pydrm.engine.channel import Certificate, proven
from pydrm.engine.tls import Tls
from pydrm.errors import ConfigurationError
from tests.certificates import CLUSTER, DAY, Certificates, root_and_between


class Wall:
    """The wall clock, and how far it was moved by hand."""

    def __init__(self) -> None:
        self.moved_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.moved_s


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    made = Certificates(tmp_path)
    made.make("a")
    return made


@pytest.fixture(autouse=True)
def all_that_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pydrm.engine.tls")


def loaded(certificates: Certificates, node: str = "a", wall: Wall | None = None) -> Tls:
    tls = Tls(certificates.files(node), CLUSTER, node, wall=wall or Wall())
    tls.load()
    return tls


def shown(tls: Tls) -> Certificate:
    """What the others see: this node dials itself."""
    return proven(tls.channel(dials=True), tls.channel(dials=False))


def lines(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


# --- at the start ----------------------------------------------------------------------------------------------------


def test_a_node_tells_which_certificate_it_shows(certificates: Certificates, caplog: pytest.LogCaptureFixture):
    """Once, with its serial number and its end."""
    tls = loaded(certificates)

    [line] = lines(caplog, logging.INFO)
    assert line.startswith(f"this node shows certificate {shown(tls).serial}, valid until 20")
    assert tls.problem == ""
    assert lines(caplog, logging.WARNING) == []


@pytest.mark.parametrize("field", ["tls_cert", "tls_key", "tls_ca"])
@pytest.mark.parametrize("content", [None, b"", b"nonsense", b"-----BEGIN nonsense"])
def test_a_file_that_is_not_what_it_should_be_is_named(certificates: Certificates, field: str, content: bytes | None):
    """With the setting and the path."""
    files = certificates.files("a")
    path = {"tls_cert": files.cert, "tls_key": files.key, "tls_ca": files.ca}[field]
    path.unlink()
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigurationError, match=str(path)) as refusal:
        loaded(certificates)
    assert refusal.value.field == field


@pytest.mark.parametrize("file", ["cert", "key", "ca"])
def test_half_a_file_is_refused(certificates: Certificates, file: str):
    """It begins as it should."""
    path: Path = getattr(certificates.files("a"), file)
    path.write_bytes(path.read_bytes()[:150])

    with pytest.raises(ConfigurationError, match=str(path)):
        loaded(certificates)


def test_a_key_of_another_certificate_is_refused(certificates: Certificates):
    """The pair does not fit."""
    certificates.files("a").key.write_bytes(certificates.authority.sign("a", until=certificates.authority.until).key)

    with pytest.raises(ConfigurationError, match="is not the key of") as refusal:
        loaded(certificates)
    assert refusal.value.field == "tls_key"


def test_an_encrypted_key_is_refused_and_nobody_asked_for_its_password(certificates: Certificates):
    """OpenSSL would ask the terminal, and a node waits there for ever."""
    path = certificates.files("a").key
    key = load_pem_private_key(path.read_bytes(), password=None)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))

    with pytest.raises(ConfigurationError, match="is encrypted") as refusal:
        loaded(certificates)
    assert refusal.value.field == "tls_key"


@pytest.mark.parametrize(("node", "cluster"), [("b", CLUSTER), ("a", "invoices")])
def test_a_certificate_of_another_node_or_cluster_is_refused(tmp_path: Path, node: str, cluster: str):
    """It could never be of use here; the message has the command that makes the right one."""
    made = Certificates(tmp_path, cluster)
    made.make("a", of=node)

    with pytest.raises(ConfigurationError, match=f"node '{node}', cluster '{cluster}'.*pydrm certs node a") as refusal:
        loaded(made)
    assert refusal.value.field == "tls_cert"


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        ({"since": -3 * DAY, "until": -DAY}, "has expired"),
        ({"since": DAY}, "is not valid yet"),
        ({"by": Authority.make(CLUSTER, days=5)}, "is not signed by the CA in tls_ca"),
    ],
)
def test_what_the_others_will_refuse_is_said_at_once_and_as_long_as_it_is_so(
    certificates: Certificates, caplog: pytest.LogCaptureFixture, how: dict[str, object], problem: str
):
    """It is no reason not to start: the certificate may be renewed, and then all is well."""
    wall = Wall()
    certificates.make("a", **how)
    tls = loaded(certificates, wall=wall)
    for _ in range(5):
        wall.moved_s += 100
        tls.look()

    [line] = lines(caplog, logging.ERROR)
    assert line == f"the other nodes will refuse this one: {tls.problem}"
    assert f"this node's certificate ({certificates.files('a').cert}) {problem}" in line
    certificates.make("a")
    tls.look()

    assert tls.problem == ""
    assert shown(tls).node == "a"


@pytest.mark.parametrize("trusted", ["root", "between"])
def test_there_may_be_a_ca_between_the_root_and_the_nodes(certificates: Certificates, trusted: str):
    """It comes with the certificate; and it may be the only one that is trusted, as it should be beside others."""
    root, between = root_and_between()
    for name in "ab":
        pair = certificates.make(name, by=between)
        certificates.files(name).cert.write_bytes(pair.certificate + between.pair.certificate)
    certificates.ca.write_bytes(root if trusted == "root" else between.pair.certificate)
    a, b = loaded(certificates), loaded(certificates, "b")

    assert (a.problem, b.problem) == ("", "")
    assert proven(a.channel(dials=True), b.channel(dials=False)).node == "a"


# --- when the files change -------------------------------------------------------------------------------------------


def test_new_files_are_used_for_the_next_link(certificates: Certificates, caplog: pytest.LogCaptureFixture):
    """Nobody has to say so."""
    tls = loaded(certificates)
    before = shown(tls)
    certificates.make("a", until=25 * DAY)
    after = shown(tls)

    assert after.serial != before.serial
    assert after.expires > before.expires
    assert [before.serial in lines(caplog, logging.INFO)[0], after.serial in lines(caplog, logging.INFO)[1]] == [
        True,
        True,
    ]
    assert lines(caplog, logging.WARNING) == []


def test_half_a_pair_is_passed_over_until_the_other_half_is_there(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
):
    """Whoever renews them may write the certificate first, or the key."""
    tls = loaded(certificates)
    before = shown(tls)
    pair = certificates.authority.sign("a", until=certificates.authority.until)
    certificates.files("a").cert.write_bytes(pair.certificate)
    between = [shown(tls), shown(tls)]
    certificates.files("a").key.write_bytes(pair.key)
    after = shown(tls)

    assert between == [before, before]
    assert after.serial != before.serial
    [line] = lines(caplog, logging.WARNING)
    assert line.startswith("new TLS files are not used, the former ones stay: tls_key: ")


@pytest.mark.parametrize(
    "how",
    [
        {"since": -3 * DAY, "until": -DAY},
        {"by": Authority.make(CLUSTER, days=5)},
        {"of": "b"},
    ],
)
def test_what_is_worse_than_before_is_passed_over(
    certificates: Certificates, caplog: pytest.LogCaptureFixture, how: dict[str, object]
):
    """A certificate of a new CA that this node does not know yet, say; said once."""
    tls = loaded(certificates)
    before = shown(tls)
    certificates.make("a", **how)
    after = [shown(tls), shown(tls)]

    assert after == [before, before]
    assert tls.problem == ""
    assert len(lines(caplog, logging.WARNING)) == 1


def test_files_that_are_gone_are_no_reason_to_stop(certificates: Certificates, caplog: pytest.LogCaptureFixture):
    """What was read is in memory."""
    tls = loaded(certificates)
    before = shown(tls)
    certificates.files("a").cert.unlink()

    assert [shown(tls), shown(tls)] == [before, before]
    assert len(lines(caplog, logging.WARNING)) == 1


def test_a_directory_that_is_swapped_behind_a_symbolic_link_is_noticed(certificates: Certificates):
    """So Kubernetes renews what it mounts."""
    old, new, link = (certificates.directory / name for name in ("old", "new", "link"))
    for directory in (old, new):
        directory.mkdir()
        certificates.make("a")
        for file in (certificates.files("a").cert, certificates.files("a").key, certificates.ca):
            (directory / file.name).write_bytes(file.read_bytes())
            os.utime(directory / file.name, (1, 1))
    link.symlink_to(old)
    there = Certificates.__new__(Certificates)
    there.directory, there.ca = link, link / "ca.pem"
    tls = loaded(there)
    before = shown(tls)
    link.unlink()
    link.symlink_to(new)

    assert shown(tls).serial != before.serial


def test_a_new_ca_is_taken_in_three_steps(certificates: Certificates):
    """Both CAs in tls_ca, then new certificates, then the new CA alone: at each step every node knows every other."""
    certificates.make("b")
    a, b = loaded(certificates), loaded(certificates, "b")
    new = Authority.make(CLUSTER, days=9)
    old = certificates.ca.read_bytes()
    seen = []
    for step in (
        lambda: certificates.ca.write_bytes(old + new.pair.certificate),
        lambda: certificates.make("a", by=new),
        lambda: certificates.make("b", by=new),
        lambda: certificates.ca.write_bytes(new.pair.certificate),
    ):
        step()
        seen.append(proven(a.channel(dials=True), b.channel(dials=False)).node)
        seen.append(proven(b.channel(dials=True), a.channel(dials=False)).node)

    assert seen == ["a", "b"] * 4


# --- as time goes by -------------------------------------------------------------------------------------------------


def test_a_certificate_that_ends_soon_is_warned_of_once_a_day(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
):
    """From 14 days before, and with the command that renews it."""
    wall = Wall()
    certificates.make("a", until=60 * DAY)
    tls = loaded(certificates, wall=wall)
    counts = []
    for day in range(40, 50):
        for hour in range(0, 24, 4):
            wall.moved_s = (24 * day + hour) * 3600.0
            tls.look()
        counts.append(len(lines(caplog, logging.WARNING)))

    assert counts == [0, 0, 0, 0, 0, 0, 1, 2, 3, 4]
    assert "pydrm certs node a --force" in lines(caplog, logging.WARNING)[0]
    assert tls.problem == ""


def test_one_that_lives_for_a_day_is_not_warned_of_all_its_life(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
):
    """Only in its last third: by then whoever renews them should have."""
    wall = Wall()
    certificates.make("a", since=timedelta(0), until=DAY)
    tls = loaded(certificates, wall=wall)
    tls.look()
    before = lines(caplog, logging.WARNING)
    wall.moved_s = 17 * 3600.0
    tls.look()

    assert before == []
    assert len(lines(caplog, logging.WARNING)) == 1


def test_one_that_has_expired_meanwhile_is_a_problem_until_it_is_renewed(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
):
    """Links that were made with it end with it."""
    wall = Wall()
    tls = loaded(certificates, wall=wall)
    until = tls.lasts_until(shown(tls))
    before = tls.is_over(until)
    wall.moved_s = 20.5 * 86400
    tls.look()
    tls.look()

    assert (before, tls.is_over(until)) == (False, True)
    assert "has expired on" in tls.problem
    assert len(lines(caplog, logging.ERROR)) == 1
    certificates.make("a", until=25 * DAY)
    tls.look()

    assert tls.problem == ""


def test_one_that_was_not_valid_yet_is_used_once_it_is(certificates: Certificates):
    """The files do not change for that. (OpenSSL's clock cannot be moved; so the certificate is early by seconds.)"""
    wall = Wall()
    certificates.make("a", since=timedelta(seconds=2))
    tls = loaded(certificates, wall=wall)
    before = tls.problem
    deadline = time.monotonic() + 30
    while tls.problem and time.monotonic() < deadline:
        time.sleep(0.1)
        wall.moved_s += 20
        tls.look()

    assert "is not valid yet" in before
    assert tls.problem == ""


def test_a_link_ends_with_the_certificate_that_ends_first(certificates: Certificates):
    """This node's or the other's."""
    tls = loaded(certificates)
    mine = shown(tls)
    longer = Certificate(CLUSTER, "b", "0B", mine.begins, mine.expires + 1)
    shorter = Certificate(CLUSTER, "b", "0B", mine.begins, mine.expires - 1)

    assert [tls.lasts_until(theirs) for theirs in (longer, shorter)] == [mine.expires, mine.expires - 1]


# --- who is wanted ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cluster", "node", "expected", "objection"),
    [
        (CLUSTER, "b", "b", ""),
        (CLUSTER, "b", "", ""),
        (CLUSTER, "b", "c", "its certificate is of node 'b', cluster 'orders'; 'c' was expected there"),
        ("invoices", "b", "b", "its certificate is of node 'b', cluster 'invoices'; this node is of cluster 'orders'"),
        ("", "", "b", "its certificate does not name one node: pydrm://orders/NODE must be a subjectAltName"),
    ],
)
def test_a_name_is_wanted_or_not(certificates: Certificates, cluster: str, node: str, expected: str, objection: str):
    """Whoever has signed it."""
    theirs = Certificate(cluster, node, "0B", 0, 1)

    assert loaded(certificates).objection(theirs, expected) == objection
