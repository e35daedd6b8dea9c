from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydrm.testing.node_process import NodeProcess
from pydrm.testing.processes import ProcessCluster

SETTINGS: dict[str, Any] = {
    "cluster": 'a "quoted" name, ü and \\ and 🦊',
    "node": "a",
    "bind": "127.0.0.1:7001",
    "admin": "127.0.0.1:8001",
    "lease_ttl": 2.0,
    "peers": {"a": "127.0.0.1:7001", "b c": "127.0.0.1:7002"},
    "resources": [
        {"id": "r1", "kind": "websocket", "overlap": True, "headers": {"x-one": "1"}, "subscribe": ["a", {"b": 2}]},
        {"id": "r2", "kind": "websocket", "weight": 3},
    ],
}


def test_the_configuration_file_says_what_the_settings_say(tmp_path: Path) -> None:
    NodeProcess(SETTINGS, tmp_path)

    read = tomllib.loads((tmp_path / "a.toml").read_text(encoding="utf-8"))

    wanted = {"data_dir": str(tmp_path / "data-a")} | SETTINGS
    assert read["pydrm"] == wanted


def test_all_nodes_of_a_cluster_list_the_same_voters_and_have_ports_of_their_own(tmp_path: Path) -> None:
    with ProcessCluster("abc", directory=tmp_path) as cluster:
        files = [tomllib.loads((tmp_path / f"{name}.toml").read_text())["pydrm"] for name in cluster.names]

    assert len({tuple(file["peers"].items()) for file in files}) == 1
    assert [file["peers"][file["node"]] for file in files] == [file["bind"] for file in files]
    assert len({file["bind"] for file in files} | {file["admin"] for file in files}) == 6


def test_with_links_a_node_dials_the_others_through_them(tmp_path: Path) -> None:
    """And nobody can be found by what it advertises."""
    with ProcessCluster("ab", directory=tmp_path, with_links=True) as cluster:
        a, b = (tomllib.loads((tmp_path / f"{name}.toml").read_text())["pydrm"] for name in cluster.names)
        through = cluster.links.address("a", "b")

    assert a["peers"] == {"a": a["advertise"], "b": through}
    assert len({through, b["bind"], b["advertise"]}) == 3


def test_a_stranger_knows_the_voters_and_they_do_not_know_it(tmp_path: Path) -> None:
    with ProcessCluster("ab", directory=tmp_path) as cluster:
        cluster.add_stranger("x", cluster="other")
        names = cluster.names
        stranger = tomllib.loads((tmp_path / "x.toml").read_text())["pydrm"]

    assert names == ("a", "b")
    assert (stranger["node"], stranger["cluster"]) == ("x", "other")
    assert set(stranger["peers"]) == {"a", "b", "x"}


def test_a_cluster_without_a_directory_of_its_own_leaves_nothing_behind() -> None:
    with ProcessCluster("ab") as cluster:
        directory = cluster["a"].data_dir.parent
        assert directory.exists()

    assert not directory.exists()
