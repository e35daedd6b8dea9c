"""
`pydrm certs`: files that nodes can use, and that nobody loses by accident.
"""

from __future__ import annotations

import json
import stat
import sys
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pydrm.cli.exits import Exit
from pydrm.cli.main import main
from pydrm.engine import TlsFiles
from pydrm.engine.channel import Certificate, proven
from pydrm.engine.tls import Tls


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "certs"


def certs(*arguments: object) -> int:
    return main(["certs", *map(str, arguments)])


def made(directory: Path, *nodes: str, cluster: str = "orders") -> None:
    assert certs("init", "--dir", directory, "--cluster", cluster) == Exit.OK
    for node in nodes:
        assert certs("node", node, "--dir", directory) == Exit.OK


def loaded(directory: Path, node: str, cluster: str = "orders") -> Tls:
    tls = Tls(TlsFiles(directory / f"{node}.pem", directory / f"{node}.key", directory / "ca.pem"), cluster, node)
    tls.load()
    return tls


def shown(capsys: pytest.CaptureFixture[str], file: Path) -> dict[str, object]:
    capsys.readouterr()
    assert certs("show", file, "--json") == Exit.OK
    [certificate] = json.loads(capsys.readouterr().out)
    assert isinstance(certificate, dict)
    return certificate


def days_left(certificate: dict[str, object]) -> float:
    return (datetime.fromisoformat(str(certificate["until"])) - datetime.now(UTC)) / timedelta(days=1)


def test_nodes_whose_certificates_it_made_trust_each_other(directory: Path):
    """Whatever a node may be called."""
    made(directory, "a", "B_2.x-y", ".")

    a, b, dot = (loaded(directory, name) for name in ("a", "B_2.x-y", "."))

    assert [tls.problem for tls in (a, b, dot)] == ["", "", ""]
    seen: Certificate = proven(a.channel(dials=True), b.channel(dials=False))
    assert (seen.cluster, seen.node) == ("orders", "a")
    assert proven(dot.channel(dials=True), a.channel(dials=False)).node == "."


def test_it_prints_the_lines_for_the_configuration(directory: Path, capsys: pytest.CaptureFixture[str]):
    """To paste as they are."""
    made(directory)
    capsys.readouterr()
    certs("node", "a", "--dir", directory)

    assert tomllib.loads(capsys.readouterr().out) == {
        "tls_cert": str(directory / "a.pem"),
        "tls_key": str(directory / "a.key"),
        "tls_ca": str(directory / "ca.pem"),
    }


def test_keys_are_for_their_owner_alone(directory: Path):
    """From the moment at which they are there; and nothing else is left beside them."""
    made(directory, "a")
    modes = {file.name: oct(stat.S_IMODE(file.stat().st_mode)) for file in directory.iterdir()}

    assert modes["ca.key"] == modes["a.key"] == "0o600"
    assert sorted(modes) == ["a.key", "a.pem", "ca.key", "ca.pem"]


def test_a_certificate_says_what_it_is(directory: Path, capsys: pytest.CaptureFixture[str]):
    """The serial number is the one that nodes log."""
    made(directory, "a")
    ca, a = shown(capsys, directory / "ca.pem"), shown(capsys, directory / "a.pem")
    tls = loaded(directory, "a")

    assert (ca["names"], ca["ca"]) == (["pydrm://orders"], True)
    assert (a["names"], a["ca"]) == (["pydrm://orders/a"], False)
    assert a["issuer"] == ca["subject"]
    assert a["serial"] == proven(tls.channel(dials=True), tls.channel(dials=False)).serial
    assert 3649 < days_left(ca) <= 3650
    assert 364 < days_left(a) <= 365
    certs("show", directory / "a.pem")
    assert "pydrm://orders/a (a node)" in capsys.readouterr().out


def test_days_are_as_told_and_no_node_outlives_its_ca(directory: Path, capsys: pytest.CaptureFixture[str]):
    """Fractions too, for who renews them often."""
    certs("init", "--dir", directory, "--cluster", "orders", "--days", 10)
    certs("node", "a", "--dir", directory, "--days", 0.5)
    certs("node", "b", "--dir", directory, "--days", 100)

    assert 0.4 < days_left(shown(capsys, directory / "a.pem")) <= 0.5
    assert shown(capsys, directory / "b.pem")["until"] == shown(capsys, directory / "ca.pem")["until"]


def test_nothing_is_overwritten_unless_it_is_asked_for(directory: Path, capsys: pytest.CaptureFixture[str]):
    """A CA that is lost is a certificate for every node."""
    made(directory, "a")
    before = {file: file.read_bytes() for file in directory.iterdir()}
    codes = [certs("init", "--dir", directory, "--cluster", "x"), certs("node", "a", "--dir", directory)]

    assert codes == [Exit.CONFLICT, Exit.CONFLICT]
    assert "--force replaces it" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in directory.iterdir()} == before
    assert certs("node", "a", "--dir", directory, "--force") == Exit.OK
    assert (directory / "a.pem").read_bytes() != before[directory / "a.pem"]
    assert (directory / "ca.pem").read_bytes() == before[directory / "ca.pem"]
    assert loaded(directory, "a").problem == ""


def test_the_cluster_may_be_said_by_the_environment(directory: Path, monkeypatch: pytest.MonkeyPatch):
    """As a node reads it."""
    monkeypatch.delenv("PYDRM_CLUSTER", raising=False)
    assert certs("init", "--dir", directory) == Exit.USAGE
    monkeypatch.setenv("PYDRM_CLUSTER", "invoices")

    assert certs("init", "--dir", directory) == Exit.OK
    assert certs("node", "a", "--dir", directory) == Exit.OK
    loaded(directory, "a", "invoices")


@pytest.mark.parametrize("name", ["../a", "a/b", "", "ca", "two words", "x" * 65])
def test_a_name_that_no_node_can_have_is_refused(directory: Path, name: str):
    """`ca` would be the CA's own files."""
    made(directory)
    before = sorted(directory.parent.rglob("*"))

    assert certs("node", name, "--dir", directory) == Exit.USAGE
    assert sorted(directory.parent.rglob("*")) == before


def test_what_is_not_there_or_is_no_ca_is_named(directory: Path, capsys: pytest.CaptureFixture[str]):
    """The file, and what is wrong with it."""
    missing = certs("node", "a", "--dir", directory)
    said = [capsys.readouterr().err]
    made(directory, "a")
    (directory / "ca.key").write_bytes((directory / "a.key").read_bytes())
    foreign = certs("node", "b", "--dir", directory)
    said.append(capsys.readouterr().err)
    (directory / "ca.pem").write_bytes((directory / "a.pem").read_bytes())
    no_ca = certs("node", "b", "--dir", directory)
    said.append(capsys.readouterr().err)
    (directory / "ca.pem").write_bytes(b"nonsense")
    nonsense = certs("show", directory / "ca.pem")
    said.append(capsys.readouterr().err)

    assert [missing, foreign, no_ca, nonsense] == [Exit.INVALID] * 4
    assert f"{directory / 'ca.pem'}: No such file" in said[0]
    assert "the key does not belong to the certificate" in said[1]
    assert "it is not the CA of a pydrm cluster" in said[2]
    assert str(directory / "ca.pem") in said[3]


def test_without_cryptography_it_says_what_to_install(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Nodes do not need it."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "pydrm.cli.authority", raising=False)
    monkeypatch.setattr("pydrm.cli.authority", None, raising=False)
    monkeypatch.delattr("pydrm.cli.authority")
    monkeypatch.setattr(sys, "meta_path", [Without(), *sys.meta_path])

    assert certs("init", "--dir", directory, "--cluster", "orders") == Exit.FAILURE
    assert "pip install pydrm[tls]" in capsys.readouterr().err
    assert not directory.exists()


class Without:
    """Where cryptography is not installed."""

    def find_spec(self, name: str, *_: object) -> None:
        if name.partition(".")[0] == "cryptography":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
