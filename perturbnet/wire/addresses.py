"""Which announced addresses a validator will dial, and who counts as one remote address.

An axon's address is whatever its owner wrote on chain. Dialling it blindly would let a miner point every
validator at the validator's own network (loopback services, a cloud's metadata address, a router), so only
global unicast addresses are dialled. Names are never resolved: an address is a literal, and the literal that
was checked is the one dialled.

Source: IANA's special-purpose address registries (RFC 6890 and its updates). The table stands here, because
`ipaddress.is_global` differs between Python's patch releases and lets through 6to4, NAT64 and multicast.
"""

from __future__ import annotations

import functools
import ipaddress
from dataclasses import dataclass

from perturbnet.errors import Refused, Reject

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_SPECIAL_V4 = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared, carrier-grade NAT
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local, cloud metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # IETF protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
# IPv6: global unicast is 2000::/3. All outside is refused: ::, ::1, IPv4-mapped (::ffff:0:0/96), NAT64
# (64:ff9b::/96), unique local (fc00::/7), link-local (fe80::/10), multicast (ff00::/8).
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
_SPECIAL_V6 = tuple(
    ipaddress.IPv6Network(text)
    for text in (
        "2001::/23",  # IETF protocol assignments, Teredo among them: it carries an IPv4 address
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: carries an IPv4 address
        "3fff::/20",  # documentation
    )
)

# What `allow_private` admits: loopback and private unicast.
_LOCAL_V4 = tuple(
    ipaddress.IPv4Network(text) for text in ("10.0.0.0/8", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
)
_LOCAL_V6 = tuple(ipaddress.IPv6Network(text) for text in ("::1/128", "fc00::/7"))


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """A checked address: the text of an IP literal, and a port."""

    host: str
    port: int

    @property
    def authority(self) -> str:
        """What stands in a Host header (RFC 3986: IPv6 in brackets)."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def check_address(host: str | None, port: int, *, allow_private: bool) -> PeerAddress:
    """Return the address to dial.

    `allow_private` admits loopback and private unicast, for a network that lives on one machine
    (`NETWORK=local`).

    Raises:
        Refused: `Reject.NOT_SERVING` when nothing is announced (no host, an address of zeros, or port 0);
            `Reject.ADDRESS_REFUSED` when what is announced is not dialled, naming it and what is allowed.

    """
    if not host or host in {"0.0.0.0", "::"} or port == 0:  # noqa: S104 - zeros mean "none" on chain
        raise Refused(Reject.NOT_SERVING, f"no axon announced (address {host!r}, port {port})")
    if not 0 < port < 65536:
        raise Refused(Reject.ADDRESS_REFUSED, f"port {port}; expected 1 to 65535")
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        raise Refused(Reject.ADDRESS_REFUSED, f"{host[:60]!r} is not an IP address") from None
    if not (_is_global(ip) or (allow_private and _is_local(ip))):
        raise Refused(Reject.ADDRESS_REFUSED, f"{host[:60]} is not a global unicast address")
    return PeerAddress(str(ip), port)


@functools.lru_cache(maxsize=1024)
def rate_key(host: str) -> str:
    """What counts as one remote address: an IPv4 address, or the /64 within which an IPv6 host may choose."""
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.IPv6Network((int(ip) >> 64 << 64, 64)))
    return str(ip)


def _is_global(ip: IpAddress) -> bool:
    if isinstance(ip, ipaddress.IPv4Address):
        return not any(ip in network for network in _SPECIAL_V4)
    return ip in _GLOBAL_V6 and ip.scope_id is None and not any(ip in network for network in _SPECIAL_V6)


def _is_local(ip: IpAddress) -> bool:
    if isinstance(ip, ipaddress.IPv4Address):
        return any(ip in network for network in _LOCAL_V4)
    return ip.scope_id is None and any(ip in network for network in _LOCAL_V6)
