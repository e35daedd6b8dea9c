from __future__ import annotations

import pytest

from pydrm.address import checked_address, is_loopback, is_wildcard, split_address
from pydrm.errors import ConfigurationError


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("127.0.0.1:7001", "127.0.0.1", 7001),
        ("[::1]:7001", "::1", 7001),
        ("Node-A.internal:7001", "node-a.internal", 7001),
        ("node_a:7001", "node_a", 7001),
    ],
)
def test_an_address_splits_into_host_and_port(address: str, host: str, port: int) -> None:
    assert split_address(checked_address(address, "bind")) == (host, port)


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("7001", "host:port"),
        ("127.0.0.1", "host:port"),
        ("127.0.0.1:", "host:port"),
        ("127.0.0.1:http", "host:port"),
        ("127.0.0.1:70000", "port"),
        ("127.0.0.1:0", "port"),
        ("127.0.0.1:\u0667", "host:port"),
        (":7001", "neither"),
        ("300.1.1.1:7001", "neither"),
        ("a b:7001", "neither"),
        ("-a:7001", "neither"),
        ("[::1:7001", "brackets"),
        ("::1:7001", "brackets"),
        ("[::g]:7001", "neither"),
        ("[127.0.0.1]:7001", "neither"),
        ("0.0.0.0:7001", "nobody can connect"),
        ("[::]:7001", "nobody can connect"),
        (7001, "must be a string"),
        (None, "must be a string"),
    ],
)
def test_an_address_that_cannot_work_is_refused_for_its_field(address: object, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem) as caught:
        checked_address(address, "peers.b")

    assert caught.value.field == "peers.b"


def test_who_only_listens_may_take_any_port_of_any_interface() -> None:
    assert checked_address("0.0.0.0:0", "bind", port_0=True, wildcard=True) == "0.0.0.0:0"


@pytest.mark.parametrize(
    ("address", "loopback", "wildcard"),
    [
        ("127.0.0.1:1", True, False),
        ("127.9.9.9:1", True, False),
        ("[::1]:1", True, False),
        ("localhost:1", True, False),
        ("0.0.0.0:1", False, True),
        ("[::]:1", False, True),
        ("10.0.0.1:1", False, False),
        ("node-a.internal:1", False, False),
    ],
)
def test_who_can_reach_an_address_is_read_off_it(address: str, loopback: bool, wildcard: bool) -> None:
    assert (is_loopback(address), is_wildcard(address)) == (loopback, wildcard)
