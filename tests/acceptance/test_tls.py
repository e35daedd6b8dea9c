"""Three nodes under TLS, with certificates of the command line; and who does not get in, and says why."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydrm.cli.authority import Authority, Pair
from pydrm.testing.node_process import NodeProcess, run_cli
from pydrm.testing.processes import ProcessCluster
from pydrm.testing.witness import Witness
from tests.acceptance.scene import LEASE_TTL_S, PATIENCE_S, Scene

DAY = timedelta(days=1)


class SecuredCluster(ProcessCluster):
    """Each node's configuration file names its certificate, in one directory for all."""

    def __init__(self, *arguments: Any, certificates: Path, **options: Any) -> None:
        self.certificates = certificates
        super().__init__(*arguments, **options)

    def settings(self, name: str) -> dict[str, Any]:
        files = {"tls_cert": f"{name}.pem", "tls_key": f"{name}.key", "tls_ca": "ca.pem"}
        return super().settings(name) | {field: str(self.certificates / file) for field, file in files.items()}


@contextlib.contextmanager
def on_stage(directory: Path, *, resources: int) -> Iterator[tuple[Scene, Path]]:
    """A scene in which nothing has been started but the third party, and the directory of certificates."""
    certificates = directory / "certs"
    make("init", "--cluster", "orders", at=certificates)
    for name in "abc":
        make("node", name, at=certificates)
    with Witness(directory) as witness:
        definitions = witness.resources(resources)
        with SecuredCluster(
            "abc", resources=definitions, lease_ttl_s=LEASE_TTL_S, directory=directory, certificates=certificates
        ) as cluster:
            try:
                yield Scene(cluster, witness, [str(definition["id"]) for definition in definitions]), certificates
            except BaseException as error:
                error.add_note(cluster.log_tails())
                raise


def make(*arguments: str, at: Path) -> None:
    made = run_cli("certs", *arguments, "--dir", str(at))
    assert made.exit_code == 0, made.stderr


def serial(file: Path) -> str:
    [certificate] = json.loads(run_cli("certs", "show", str(file), "--json").stdout)
    return str(certificate["serial"])


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def lines(node: NodeProcess, pattern: str) -> list[str]:
    return [line for line in node.log().splitlines() if re.search(pattern, line)]


def problem(node: NodeProcess) -> str:
    return str(node.cli("status", "--json").json()["problem"])


def put(pair: Pair, certificates: Path, name: str) -> None:
    (certificates / f"{name}.key").write_bytes(pair.key)
    (certificates / f"{name}.pem").write_bytes(pair.certificate)


def test_a_certificate_that_expired_and_one_of_another_ca_do_not_get_in_until_they_are_replaced(tmp_path: Path) -> None:
    """Both sides say why, once; the others hold everything meanwhile. Nobody is restarted for the new ones."""
    with on_stage(tmp_path, resources=30) as (scene, certificates):
        scene.start_all()
        authority = Authority.read(Pair((certificates / "ca.pem").read_bytes(), (certificates / "ca.key").read_bytes()))
        now = datetime.now(UTC)
        expired = authority.sign("c", since=now - 3 * DAY, until=now - DAY)
        foreign = Authority.make("orders", days=5).sign("c", until=now + DAY)
        for pair, found, told in (
            (expired, "its certificate has expired", "this node's certificate has expired"),
            (foreign, "its certificate is not signed by", "this node's certificate is not signed by"),
        ):
            killed_s = scene.cluster["c"].kill()
            put(pair, certificates, "c")
            scene.settle("ab", killed_s)
            started_s = scene.cluster.start("c")
            for name in "ab":
                wait_for(lambda name=name, found=found: lines(scene.cluster[name], f"refused 'c'.*{found}"))
                wait_for(lambda name=name, told=told: lines(scene.cluster["c"], f"{name} refuses this node: {told}"))
            scene.witness.watch(LEASE_TTL_S)

            assert scene.diary.stays(since_s=started_s, nodes="c") == []
            assert scene.diary.ended(started_s) == []
            assert "this node's certificate" in problem(scene.cluster["c"])
            for name in "ab":
                assert found in problem(scene.cluster[name])
                assert len(lines(scene.cluster[name], f"refused 'c'.*{found}")) == 1
                assert len(lines(scene.cluster["c"], f"{name} refuses this node: {told}")) == 1

            make("node", "c", "--force", at=certificates)
            scene.settle("abc", started_s)
            wait_for(lambda: [problem(scene.cluster[name]) for name in "abc"] == ["", "", ""])
        scene.verify()


def test_certificates_are_renewed_under_nodes_that_run(tmp_path: Path) -> None:
    """Nothing is interrupted; a node that is restarted shows the new one to the others, and sees theirs."""
    with on_stage(tmp_path, resources=30) as (scene, certificates):
        settled_s = scene.start_all()
        old = {name: serial(certificates / f"{name}.pem") for name in "abc"}
        for name in "abc":
            wait_for(lambda name=name: lines(scene.cluster[name], f"this node shows certificate {old[name]}"))
            make("node", name, "--force", at=certificates)
        new = {name: serial(certificates / f"{name}.pem") for name in "abc"}
        for name in "abc":
            wait_for(lambda name=name: lines(scene.cluster[name], f"this node shows certificate {new[name]}"))
        scene.witness.watch(LEASE_TTL_S)
        assert scene.diary.ended(settled_s) == []

        scene.cluster["c"].terminate()
        scene.cluster["c"].wait(timeout_s=PATIENCE_S)
        started_s = scene.cluster.start("c")
        scene.settle("abc", started_s)

        # It is settled once the leader has it; it may be linked with the other one a moment later.
        for name in "ab":
            wait_for(lambda name=name: lines(scene.cluster[name], f"c shows certificate {new['c']}"))
            wait_for(lambda name=name: lines(scene.cluster["c"], f"{name} shows certificate {new[name]}"))
        scene.verify()


def test_beyond_loopback_a_node_without_tls_exits_and_says_what_to_do(tmp_path: Path) -> None:
    """Before it listens anywhere."""
    with ProcessCluster("abc", directory=tmp_path) as cluster:
        node = cluster.add_stranger("d", bind="0.0.0.0:7001")
        node.start()

        assert node.wait(timeout_s=PATIENCE_S) == 7
        [line] = lines(node, "ERROR.*tls_cert: is required")
        assert "0.0.0.0:7001" in line
        assert "insecure = true" in line
        assert "Traceback" not in node.log()
