from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from pydrm.config import Config
from pydrm.core.resource import Resource
from pydrm.errors import ConfigurationError, InvalidResource

FILE = """
[pydrm]
cluster = "orders"
node = "a"
bind = "127.0.0.1:7001"
admin = "127.0.0.1:8001"
data_dir = "var/a"
advertise = "127.0.0.1:7001"
lease_ttl = 2.0
[pydrm.peers]
a = "127.0.0.1:7001"
b = "127.0.0.1:7002"
c = "127.0.0.1:7003"
[[pydrm.resources]]
id = "r1"
kind = "websocket"
url = "ws://127.0.0.1:9000/r/{id}?node={node}&token={token}"
"""

PEERS = {"a": "127.0.0.1:7001", "b": "127.0.0.1:7002", "c": "127.0.0.1:7003"}


def voter(**changes: Any) -> dict[str, Any]:
    """The arguments of one of three nodes, with *changes*."""
    return {
        "cluster": "orders",
        "node": "a",
        "bind": "127.0.0.1:7001",
        "data_dir": "var/a",
        "peers": PEERS,
        **changes,
    }


def written(directory: Path, text: str) -> Path:
    path = directory / "a.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(*, field: str, path: Path | None = None, environ: dict[str, str] | None = None, **arguments: Any) -> str:
    """What the error says that `load` raises for *field*."""
    with pytest.raises(ConfigurationError) as caught:
        Config.load(path, environ or {}, **arguments)
    assert caught.value.field == field
    return str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("give_up_after", -1),
        ("give_up_after", 1.5),
        ("give_up_after", True),
        ("give_up_after", "many"),
        ("quarantine", 0),
        ("checkpoint_interval", -1),
    ],
)
def test_numbers_that_say_how_patient_to_be_are_checked(field: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=field):
        Config.load(cluster="orders", node="a", **{field: value})


def test_numbers_may_come_from_the_environment() -> None:
    environ = {"PYDRM_GIVE_UP_AFTER": "3", "PYDRM_QUARANTINE": "5", "PYDRM_CHECKPOINT_INTERVAL": "0.5"}
    config = Config.load(cluster="orders", node="a", environ=environ)

    assert (config.give_up_after, config.quarantine, config.checkpoint_interval) == (3, 5.0, 0.5)


def test_the_library_that_websockets_are_made_with_is_one_of_two() -> None:
    assert Config.load(cluster="orders", node="a").websocket_transport == "websockets"
    environ = {"PYDRM_WEBSOCKET_TRANSPORT": "picows"}
    assert Config.load(cluster="orders", node="a", environ=environ).websocket_transport == "picows"
    with pytest.raises(ConfigurationError, match="'websockets' or 'picows'") as refused:
        Config.load(cluster="orders", node="a", websocket_transport="aiohttp")
    assert refused.value.field == "websocket_transport"


def test_a_whole_file_is_read_as_it_is_written(tmp_path: Path) -> None:
    config = Config.load(written(tmp_path, FILE))

    assert config == Config(
        cluster="orders",
        node="a",
        bind="127.0.0.1:7001",
        advertise="127.0.0.1:7001",
        admin="127.0.0.1:8001",
        data_dir=Path("var/a"),
        lease_ttl=2.0,
        peers=PEERS,
        resources=(Resource("r1", kind="websocket", url="ws://127.0.0.1:9000/r/{id}?node={node}&token={token}"),),
    )


def test_two_names_are_enough_for_a_cluster_of_one() -> None:
    """It lives in memory, and since nobody connects to it any free port will do."""
    config = Config.load(cluster="orders", node="a")

    assert config == Config(cluster="orders", node="a", bind="127.0.0.1:0", advertise="127.0.0.1:0")


def test_arguments_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, FILE)
    environ = {"PYDRM_ADMIN": "127.0.0.1:8002", "PYDRM_LEASE_TTL": "5", "PYDRM_DATA_DIR": "elsewhere"}

    config = Config.load(path, environ, data_dir="here", node=None)

    assert config.node == "a"
    assert config.admin == "127.0.0.1:8002"
    assert config.lease_ttl == 5.0
    assert config.data_dir == Path("here")


def test_the_environment_alone_can_say_everything_but_resources() -> None:
    environ = {
        "PYDRM_CLUSTER": "orders",
        "PYDRM_NODE": "a",
        "PYDRM_BIND": "0.0.0.0:7001",
        "PYDRM_ADVERTISE": "a.internal:7001",
        "PYDRM_DATA_DIR": "/var/lib/a",
        "PYDRM_PEERS": "b=b.internal:7001, c=c.internal:7001",
        "PYDRM_DRAIN_TIMEOUT": "0",
        "PYDRM_STALL_TIMEOUT": "7.5",
        "PYDRM_ON_UNFENCED": "token",
        "PYDRM_TLS_CERT": "/etc/pydrm/a.pem",
        "PYDRM_TLS_KEY": "/etc/pydrm/a.key",
        "PYDRM_TLS_CA": "/etc/pydrm/ca.pem",
        "PYDRM_INSECURE": "false",
    }

    assert Config.load(environ=environ) == Config(
        cluster="orders",
        node="a",
        bind="0.0.0.0:7001",
        advertise="a.internal:7001",
        data_dir=Path("/var/lib/a"),
        drain_timeout=0.0,
        stall_timeout=7.5,
        on_unfenced="token",
        tls_cert=Path("/etc/pydrm/a.pem"),
        tls_key=Path("/etc/pydrm/a.key"),
        tls_ca=Path("/etc/pydrm/ca.pem"),
        insecure=False,
        peers={"b": "b.internal:7001", "c": "c.internal:7001", "a": "a.internal:7001"},
    )


def test_an_empty_variable_counts_as_not_given() -> None:
    assert Config.load(environ={"PYDRM_DATA_DIR": ""}, cluster="orders", node="a").data_dir is None


def test_the_url_that_client_commands_use_is_not_an_address_to_listen_at(tmp_path: Path) -> None:
    """Who sets PYDRM_ADMIN for `pydrm status` and then starts a node does not move that node."""
    config = Config.load(written(tmp_path, FILE), {"PYDRM_ADMIN": "http://127.0.0.1:8009"})

    assert config.admin == "127.0.0.1:8001"


def test_an_unknown_name_is_refused_wherever_it_stands_and_the_right_one_suggested(tmp_path: Path) -> None:
    in_file = refused(field="lease_tll", path=written(tmp_path, FILE + "[pydrm.lease_tll]\n"))
    as_table = refused(field="pydmr", path=written(tmp_path, FILE.replace("[pydrm]", "[pydmr]", 1)))
    as_argument = refused(field="datadir", cluster="orders", node="a", datadir="x")
    as_variable = refused(field="PYDRM_LEASETTL", environ={"PYDRM_LEASETTL": "2"}, cluster="orders", node="a")

    assert "did you mean 'lease_ttl'?" in in_file
    assert "did you mean 'pydrm'?" in as_table
    assert "did you mean 'data_dir'?" in as_argument
    assert "did you mean PYDRM_LEASE_TTL?" in as_variable


def test_a_strangers_variable_is_left_alone() -> None:
    """Kubernetes sets these in every container beside a service called pydrm."""
    environ = {"PYDRM_SERVICE_HOST": "10.0.0.1", "PYDRM_PORT": "tcp://10.0.0.1:7001", "PYDRM_PORT_7001_TCP": "x"}

    assert Config.load(environ=environ, cluster="orders", node="a") == Config.load(cluster="orders", node="a")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    broken = written(tmp_path, "[pydrm\n")

    assert "No such file" in refused(field=str(missing), path=missing)
    assert "not valid TOML" in refused(field=str(broken), path=broken)


@pytest.mark.parametrize("name", ["", "two words", "a/b", "x" * 65, 7, "näme"])
def test_a_name_is_short_and_plain(name: object) -> None:
    refused(field="cluster", cluster=name, node="a")
    refused(field="node", cluster="orders", node=name)


def test_cluster_and_node_have_no_default() -> None:
    refused(field="cluster", node="a")
    refused(field="node", cluster="orders")


@pytest.mark.parametrize("address", ["7001", "127.0.0.1:0", "::1:7001", 7001])
def test_an_address_that_cannot_work_is_refused(address: object) -> None:
    refused(field="bind", **voter(bind=address))
    refused(field="advertise", **voter(advertise=address))
    refused(field="peers.b", **voter(peers={"b": address}))


def test_peers_may_be_listed_with_or_without_this_node() -> None:
    others = {"b": PEERS["b"], "c": PEERS["c"]}

    assert Config.load(**voter(peers=others)).peers == PEERS
    assert Config.load(**voter(peers=PEERS)).peers == PEERS


def test_this_node_is_reached_where_it_advertises() -> None:
    """An advertised address wins over what the list of peers has; addresses may change, names do not."""
    config = Config.load(**voter(advertise="a.internal:7001"))

    assert config.advertise == config.peers["a"] == "a.internal:7001"


def test_a_node_that_binds_every_address_is_reached_where_the_list_says() -> None:
    assert Config.load(**voter(bind="0.0.0.0:7001")).advertise == PEERS["a"]
    refused(field="advertise", **voter(bind="0.0.0.0:7001", peers={"b": PEERS["b"]}))
    refused(field="advertise", **voter(advertise="0.0.0.0:7001"))


def test_two_nodes_cannot_have_one_address() -> None:
    refused(field="peers.c", **voter(peers={"b": "localhost:7002", "c": "LOCALHOST:7002"}))
    refused(field="peers.a", **voter(peers={"b": "127.0.0.1:7001"}))
    refused(field="admin", **voter(admin="127.0.0.1:7001"))


def test_with_peers_a_node_needs_an_address_and_a_directory() -> None:
    """A voter that forgets how it voted can elect two leaders."""
    refused(field="bind", cluster="orders", node="a", peers=PEERS, data_dir="var/a")
    assert "voter" in refused(field="data_dir", **voter(data_dir=None))


@pytest.mark.parametrize("value", [0.4, 601, -1, float("nan"), "soon", True, [2]])
def test_a_lease_is_neither_too_short_to_renew_nor_endless(value: object) -> None:
    refused(field="lease_ttl", cluster="orders", node="a", lease_ttl=value)


def test_what_to_do_about_an_unfenced_handle_is_one_of_two() -> None:
    refused(field="on_unfenced", cluster="orders", node="a", on_unfenced="ignore")


def test_a_bad_resource_is_named_with_its_field() -> None:
    with pytest.raises(InvalidResource) as caught:
        Config.load(cluster="orders", node="a", resources=[{"id": "r1", "kind": "websocket", "weight": 0}])

    assert (caught.value.resource, caught.value.field) == ("r1", "weight")


def test_sources_are_resources_whose_kind_need_not_say_that_they_are() -> None:
    """As tables, and as resources."""
    table = {"id": "feed", "kind": "http", "url": "http://a.example"}
    file = Resource("list", kind="source.file", path="/list.json")

    config = Config.load(cluster="orders", node="a", sources=[table, file])

    assert config.sources == (Resource("feed", kind="source.http", url="http://a.example"), file)


def test_sources_can_stand_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("""
        [pydrm]
        cluster = "orders"
        node = "a"

        [[pydrm.sources]]
        id = "feed"
        kind = "source.http"
        url = "http://a.example"
        defaults = {kind = "websocket", url = "wss://b.example/{id}"}
    """)

    [feed] = Config.load(path).sources

    defaults = {"kind": "websocket", "url": "wss://b.example/{id}"}
    assert feed == Resource("feed", kind="source.http", url="http://a.example", defaults=defaults)


@pytest.mark.parametrize("value", ["feed", {"id": "feed"}, 3])
def test_sources_are_a_list(value: object) -> None:
    refused(field="sources", cluster="orders", node="a", sources=value)


def test_a_source_and_a_resource_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidResource, match="twice"):
        Config.load(
            cluster="orders",
            node="a",
            resources=[Resource("r1", kind="k")],
            sources=[{"id": "r1", "kind": "http"}],
        )


def test_a_resource_that_is_listed_twice_is_refused() -> None:
    with pytest.raises(InvalidResource, match="twice"):
        Config.load(cluster="orders", node="a", resources=[Resource("r1", kind="k"), {"id": "r1", "kind": "k"}])


@pytest.mark.parametrize("value", ["r1", {"id": "r1"}, 3])
def test_resources_are_a_list(value: object) -> None:
    refused(field="resources", cluster="orders", node="a", resources=value)


def test_an_admin_address_that_others_can_reach_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    """That door has no lock yet."""
    with caplog.at_level(logging.WARNING):
        Config.load(**voter(admin="127.0.0.1:8001"))
        quiet = list(caplog.messages)
        Config.load(**voter(admin="10.0.0.1:8001"))

    assert quiet == []
    assert len(caplog.messages) == 1
    assert "10.0.0.1:8001" in caplog.messages[0]


@pytest.mark.parametrize("missing", ["tls_cert", "tls_key", "tls_ca"])
def test_of_the_three_files_of_tls_none_goes_without_the_others(missing: str) -> None:
    files = {"tls_cert": "a.pem", "tls_key": "a.key", "tls_ca": "ca.pem"}
    del files[missing]

    assert "belong together" in refused(field=missing, **voter(**files))


def test_insecure_is_a_switch_that_contradicts_tls() -> None:
    """Who has both set believes something that is not so."""
    files = {"tls_cert": "a.pem", "tls_key": "a.key", "tls_ca": "ca.pem"}

    assert Config.load(**voter(insecure=True)).insecure
    assert Config.load(None, {"PYDRM_INSECURE": "TRUE"}, **voter()).insecure
    assert not Config.load(**voter()).insecure
    assert "contradicts" in refused(field="insecure", **voter(insecure=True, **files))
    for value in ("yes", 1, ""):
        refused(field="insecure", **voter(insecure=value))


def test_a_worker_lists_the_voters_and_needs_neither_an_address_nor_a_directory():
    """Nobody connects to it, and it has no vote to remember."""
    config = Config.load(cluster="orders", node="w", role="worker", peers=PEERS)

    assert config.role == "worker"
    assert config.peers == PEERS
    assert config.bind == "127.0.0.1:0"
    assert config.data_dir is None


def test_a_worker_that_lists_itself_is_refused():
    assert "not listed among the voters" in refused(field="node", **voter(role="worker"))


def test_a_worker_without_voters_is_refused():
    assert "a worker follows the voters" in refused(field="peers", cluster="orders", node="w", role="worker")


def test_another_role_is_refused():
    assert "must be 'voter' or 'worker'" in refused(field="role", **voter(role="observer"))


def test_what_definitions_may_have_read_is_a_list_and_the_environment_has_it_with_commas():
    named = {"cluster": "c", "node": "a"}

    said = Config.load(readable_variables=["FEED_"], readable_directories=["/run/secrets"], **named)
    from_environment = Config.load(
        environ={"PYDRM_READABLE_VARIABLES": "FEED_, HOOK_", "PYDRM_READABLE_DIRECTORIES": "/run/secrets"}, **named
    )

    assert (said.readable_variables, said.readable_directories) == (("FEED_",), (Path("/run/secrets"),))
    assert from_environment.readable_variables == ("FEED_", "HOOK_")
    assert from_environment.readable_directories == (Path("/run/secrets"),)
    assert Config.load(**named).readable_variables is None
    assert Config.load(readable_variables=[], **named).readable_variables == ()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("readable_variables", 7),
        ("readable_variables", [""]),
        ("readable_variables", [7]),
        ("readable_directories", {"a": 1}),
        ("readable_directories", ["secrets"]),
    ],
)
def test_what_definitions_may_have_read_is_refused_if_it_cannot_be_that(field: str, value: Any):
    with pytest.raises(ConfigurationError) as refused:
        Config.load(cluster="c", node="a", **{field: value})

    assert refused.value.field == field
