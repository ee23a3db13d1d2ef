"""Points: what a caller may ask of GraphQL in an hour, in GitHub's manner.

An operation costs a point for each hundred objects that it may touch, and at least one (`limits`). Points are counted
for each person, each API key, and each network address without credentials that hold, over the hour that begins with
the first of them. What is refused costs nothing. Processes count together in Redis; while it is away each counts by
itself, so that a caller gets at most as many hours' points as there are processes.
"""

import asyncio
import ipaddress
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from raymart_core.errors import DomainError
from raymart_marketplace.accounts.authenticator import Authenticator
from raymart_marketplace.accounts.ttl_cache import TtlCache
from raymart_marketplace.shared_state import REDIS_AWAY, Redis

log = structlog.get_logger()

WINDOW_S = 3_600
REDIS_TIMEOUT_S = 0.5
"""A count that takes longer is made here."""
REDIS_TURNS = 16
"""Counts that ask Redis at one time, so that they leave connections of the shared client to others."""
REDIS_RETRY_S = 1.0
"""How long Redis is left alone after it did not answer."""
SUBJECTS_MAX = 10_000
"""Callers that are counted without Redis; with more, the one that came first begins anew."""
# One step for Redis: two processes cannot both take the last point.
_TAKE = """
local used = tonumber(redis.call('GET', KEYS[1]) or '0')
local cost, limit, window_ms = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local taken = 0
if used + cost <= limit then
  used = redis.call('INCRBY', KEYS[1], cost)
  taken = 1
  if used == cost then redis.call('PEXPIRE', KEYS[1], window_ms) end
end
local left_ms = redis.call('PTTL', KEYS[1])
if left_ms < 0 then left_ms = window_ms end
return {taken, used, left_ms}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whose points are counted."""

    key: str
    """"user:...", "key:..." or "address:..."."""
    limit: int
    """Points in an hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What an operation took of its caller's points, and what is left."""

    taken: bool
    """False when there were too few left: the operation is refused."""
    cost: int
    limit: int
    used: int
    reset_at: datetime
    nodes: int
    """Objects that the operation may touch."""

    @property
    def remaining(self) -> int:
        """Points left until `reset_at`."""
        return max(0, self.limit - self.used)

    @property
    def retry_after_s(self) -> int:
        """Whole seconds until there are points again."""
        return max(1, math.ceil((self.reset_at - datetime.now(UTC)).total_seconds()))

    def headers(self) -> dict[str, str]:
        """As GitHub names them; `reset` is in seconds since 1970."""
        found = {
            "x-ratelimit-limit": str(self.limit),
            "x-ratelimit-remaining": str(self.remaining),
            "x-ratelimit-used": str(self.used),
            "x-ratelimit-reset": str(math.ceil(self.reset_at.timestamp())),
            "x-ratelimit-cost": str(self.cost if self.taken else 0),
        }
        return found if self.taken else found | {"retry-after": str(self.retry_after_s)}


class PointsMeter:
    """Counts the points of all callers. One per process; for one event loop."""

    def __init__(
        self,
        redis: Redis,
        authenticator: Authenticator,
        *,
        points_per_hour: int,
        points_per_hour_address: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._take = redis.register_script(_TAKE)
        self._authenticator = authenticator
        self._points = points_per_hour
        self._points_address = points_per_hour_address
        self._monotonic = monotonic
        self._here: TtlCache[_Count] = TtlCache(size_max=SUBJECTS_MAX, monotonic=monotonic)
        self._turns = asyncio.Semaphore(REDIS_TURNS)
        self._away_until = -math.inf

    async def subject(self, authorization: bytes | None, address: str) -> Subject:
        """Whom an operation counts for. Credentials that do not hold count for the address that sent them."""
        if authorization is not None:
            try:
                return Subject(key=await self._known(authorization), limit=self._points)
            except DomainError:
                # The operation's own rule says what is wrong with them.
                pass
        return Subject(key=f"address:{_network(address)}", limit=self._points_address)

    async def take(self, subject: Subject, *, cost: int, nodes: int = 0) -> Allowance:
        """Count `cost` points for `subject`, or none of them when that is more than are left."""
        assert cost > 0
        taken, used, left_s = await self._taken(subject, cost)
        return Allowance(
            taken=taken,
            cost=cost,
            limit=subject.limit,
            used=used,
            reset_at=datetime.now(UTC) + timedelta(seconds=left_s),
            nodes=nodes,
        )

    async def _known(self, authorization: bytes) -> str:
        """Raises: DomainError for credentials that are wrong, or cannot be looked up now."""
        _, _, credential = authorization.partition(b" ")
        if credential.lstrip().startswith(b"rm_"):
            return f"key:{(await self._authenticator.caller(authorization)).api_key_id}"
        return f"user:{(await self._authenticator.user(authorization)).user_id}"

    async def _taken(self, subject: Subject, cost: int) -> tuple[bool, int, float]:
        """(whether they were taken, points used, seconds left of the hour)."""
        # Waiting for a turn is no sign of a Redis that is away: only the exchange itself has a time limit.
        async with self._turns:
            if self._monotonic() < self._away_until:
                return self._taken_here(subject, cost)
            try:
                async with asyncio.timeout(REDIS_TIMEOUT_S):
                    taken, used, left_ms = await self._take(
                        keys=[f"raymart:graphql:points:{subject.key}"],
                        args=[cost, subject.limit, WINDOW_S * 1_000],
                    )
            except REDIS_AWAY as error:
                self._away_until = self._monotonic() + REDIS_RETRY_S
                log.warning("points.redis_away", error=type(error).__name__)
                return self._taken_here(subject, cost)
        return bool(taken), int(used), int(left_ms) / 1_000

    def _taken_here(self, subject: Subject, cost: int) -> tuple[bool, int, float]:
        key, now = subject.key.encode(), self._monotonic()
        count = self._here.get(key)
        if count is None:
            count = _Count(ends_at=now + WINDOW_S)
            self._here.put(key, count, ttl_s=WINDOW_S)
        taken = count.used + cost <= subject.limit
        if taken:
            count.used += cost
        return taken, count.used, count.ends_at - now


@dataclass(slots=True)
class _Count:
    """Points used without Redis."""

    ends_at: float
    """On the meter's clock."""
    used: int = 0


def _network(address: str) -> str:
    """Who has an IPv6 address has the whole /64 around it."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
