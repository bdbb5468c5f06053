"""Which announced addresses are dialled."""

from __future__ import annotations

import pytest

from perturbnet.errors import Refused, Reject
from perturbnet.wire.addresses import check_address, rate_key

GLOBAL = ["8.8.8.8", "1.0.0.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450:4001::1"]
LOCAL = [
    "127.0.0.1",
    "127.255.0.9",
    "10.0.0.1",
    "172.16.5.4",
    "192.168.1.1",
    "::1",
    "fd00::1",
]
NEVER = [
    "169.254.169.254",
    "224.0.0.1",
    "239.1.1.1",
    "240.0.0.1",
    "255.255.255.255",
    "100.64.0.1",
    "192.0.0.9",
    "192.88.99.1",
    "::ffff:8.8.8.8",
    "::ffff:127.0.0.1",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::1",
    "2001:0:4136:e378::1",
    "ff02::1",
    "fe80::1%eth0",
    "fe80::1%lo",
]
NOT_ADDRESSES = [
    "localhost",
    "example.org",
    "127.1",
    "0x7f000001",
    "2130706433",
    "010.0.0.1",
    "1.2.3.4:80",
    " 8.8.8.8",
    "[::1]",
]


def refusal(host: str | None, port: int, *, allow_private: bool = False) -> Reject:
    with pytest.raises(Refused) as caught:
        check_address(host, port, allow_private=allow_private)
    return caught.value.reject


@pytest.mark.parametrize("host", GLOBAL)
@pytest.mark.parametrize("allow_private", [False, True])
def test_global_unicast_is_dialled(host: str, allow_private: bool) -> None:
    assert check_address(host, 8091, allow_private=allow_private).host == host


@pytest.mark.parametrize("host", LOCAL)
def test_private_addresses_are_dialled_on_a_local_network_only(host: str) -> None:
    assert refusal(host, 8091) is Reject.ADDRESS_REFUSED
    assert check_address(host, 8091, allow_private=True).host == host


@pytest.mark.parametrize("host", NEVER + NOT_ADDRESSES)
@pytest.mark.parametrize("allow_private", [False, True])
def test_these_are_never_dialled(host: str, allow_private: bool) -> None:
    assert refusal(host, 8091, allow_private=allow_private) is Reject.ADDRESS_REFUSED


@pytest.mark.parametrize("host", [None, "", "0.0.0.0", "::"])
def test_no_address_means_not_serving(host: str | None) -> None:
    assert refusal(host, 8091, allow_private=True) is Reject.NOT_SERVING


def test_ports() -> None:
    assert refusal("8.8.8.8", 0) is Reject.NOT_SERVING
    assert refusal("8.8.8.8", -1) is Reject.ADDRESS_REFUSED
    assert refusal("8.8.8.8", 65536) is Reject.ADDRESS_REFUSED
    assert check_address("8.8.8.8", 65535, allow_private=False).authority == "8.8.8.8:65535"
    assert check_address("2606:4700::1111", 1, allow_private=False).authority == "[2606:4700::1111]:1"


def test_one_remote_address_is_an_ipv4_or_a_64() -> None:
    assert rate_key("8.8.8.8") == "8.8.8.8"
    assert rate_key("::ffff:8.8.8.8") == "8.8.8.8"
    assert rate_key("2606:4700::1") == rate_key("2606:4700::ffff:1") == "2606:4700::/64"
    assert rate_key("2606:4700:0:1::1") != rate_key("2606:4700::1")
    assert rate_key("a unix socket") == "a unix socket"
