"""Where a request comes from, when proxies of ours stand before us."""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

Network = IPv4Network | IPv6Network
UNKNOWN = "0.0.0.0"  # noqa: S104 - an address that nobody has, not one to listen on
HOPS_MAX = 10
"""Addresses of `X-Forwarded-For` that are looked at, from the right."""


def client_address(peer: str | None, forwarded_for: Sequence[str], trusted: Sequence[Network]) -> str:
    """The address nearest to us that is no proxy of ours: the peer itself unless it is in `trusted`.

    `forwarded_for` holds the values of `X-Forwarded-For`, to which each proxy adds the address that it saw, on the
    right. What stands left of the first foreign address was written by a stranger and is not looked at.
    """
    address = peer or UNKNOWN
    seen = [part.strip() for value in forwarded_for for part in value.split(",")]
    for hop in reversed(seen[-HOPS_MAX:]):
        if not _is_in(address, trusted):
            break
        try:
            address = str(ip_address(hop))
        except ValueError:
            break
    return address


def _is_in(address: str, networks: Sequence[Network]) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)
