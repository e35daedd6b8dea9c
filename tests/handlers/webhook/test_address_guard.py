"""Which addresses are public, also in what stands for another one."""

from __future__ import annotations

import pytest

from pydrm.handlers.webhook.address_guard import address_problem, network_of


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.168.1.1",
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "2002:7f00:1::1",
        "2002:a00:1::",
        "2001:0:1:2:3:4:f5ff:fffe",
        "2001:db8::1",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "not-an-address",
    ],
)
def test_what_is_not_public_is_refused(address: str):
    """Whatever it is written as."""
    assert address_problem(address, ()) != ""


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "64:ff9b::808:808"])
def test_what_is_public_may_be_connected_to(address: str):
    """Also through a translator."""
    assert address_problem(address, ()) == ""


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203"])
def test_what_is_allowed_may_be_connected_to(address: str):
    """By the address that is meant in the end."""
    assert address_problem(address, (network_of("10.1.0.0/16"),)) == ""
    assert address_problem(address, (network_of("10.2.0.0/16"),)) != ""
