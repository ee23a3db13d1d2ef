"""How often one may fail to log in, by account and by address, without letting strangers lock anybody out.

Three counters, each with a pause that doubles:

- the account *from this address*: 5 free, up to 15 minutes. What a person who mistypes meets.
- the address, over all accounts: 50 free, up to 15 minutes. What somebody meets who tries one password on many accounts.
- the account, over all addresses: 100 free, up to one minute, and not asked of an address from which the account was
  entered before. What a botnet meets; the owner, from where they usually are, does not notice.

Addresses of IPv6 count as their /64: a customer of a provider has all of one.
"""

import hashlib
from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address, ip_network

from raymart_marketplace.accounts.throttle import Limit, Throttle
from raymart_marketplace.shared_state import REDIS_AWAY, Redis

KNOWN_S = 90 * 86_400
"""How long an address from which an account was entered is remembered."""


class LoginLimits:
    """The counters of log-ins."""

    def __init__(self, throttle: Throttle, redis: Redis | None) -> None:
        self._throttle = throttle
        self._redis = redis

    async def admit(self, *, email: str, address: str) -> Sequence[Limit]:
        """Count a try; hand what this returns to `succeeded` if it was right. Raises: Overloaded."""
        account, place = _digest(email.strip().lower()), network_of(address)
        limits = [
            Limit(
                name=f"login:both:{account}:{place}",
                free=5,
                pause_s_max=900,
                forget_s=3_600,
                is_cleared=True,
            ),
            Limit(name=f"login:address:{place}", free=50, pause_s_max=900, forget_s=3_600),
        ]
        if not await self._is_known(account, place):
            limits.append(Limit(name=f"login:account:{account}", free=100, pause_s_max=60, forget_s=3_600))
        await self._throttle.admit(limits)
        return limits

    async def succeeded(self, limits: Sequence[Limit], *, email: str, address: str) -> None:
        """Forgive the try, and remember that the account was entered from this address."""
        await self._throttle.forgive(limits)
        if self._redis is None:
            return
        account, place = _digest(email.strip().lower()), network_of(address)
        try:
            await self._redis.set(_known_key(account, place), 1, ex=KNOWN_S)
        except REDIS_AWAY:
            return  # It is asked as a new address the next time, that is all.

    async def _is_known(self, account: str, place: str) -> bool:
        if self._redis is None:
            return False
        try:
            return bool(await self._redis.exists(_known_key(account, place)))
        except REDIS_AWAY:
            return False


def network_of(address: str) -> str:
    """What counts as one address: itself for IPv4, its /64 for IPv6; text that is none is taken as it is."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return _digest(address)
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ip_network(f"{parsed}/64", strict=False).network_address)
    return str(parsed)


def _known_key(account: str, place: str) -> str:
    return f"raymart:login:known:{account}:{place}"


def _digest(text: str) -> str:
    """A short name for `text`, which may be long or secret."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]
