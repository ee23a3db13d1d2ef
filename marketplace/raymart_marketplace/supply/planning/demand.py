"""What is asked for and waited for, over all gateways, in Redis: may be lost, and is told anew every second.

A gateway writes what waits at it under its own name, with the second at which that ends by Redis' clock, so that a gateway
that is gone waits for nothing soon after. Counts of requests are kept in buckets of ten minutes. Without Redis nobody is
waited for: what is loaded serves on, what sleeps is not woken by other processes.
"""

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog

from raymart_marketplace.shared_state import REDIS_AWAY, Redis

log = structlog.get_logger()

WAITING_TTL_S = 5
WAITING_KEY = "raymart:demand:waiting"
ASKED_KEY = "raymart:demand:asked"
BUCKET_S = 600
BUCKETS = 3
"""Requests of the last half hour count, by a step of ten minutes."""

# One write: everything of this gateway is replaced. KEYS: hash. ARGV: gateway, ttl, then field and count by turns.
_PUT = """
local now = tonumber(redis.call('TIME')[1])
local mine = ARGV[1] .. '|'
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.sub(field, 1, #mine) == mine then redis.call('HDEL', KEYS[1], field) end
end
for i = 3, #ARGV, 2 do
  redis.call('HSET', KEYS[1], mine .. ARGV[i], ARGV[i + 1] .. '|' .. (now + tonumber(ARGV[2])))
end
return now
"""
# One read: what is over is dropped on the way.
_GET = """
local now = tonumber(redis.call('TIME')[1])
local found = {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local count, ends = string.match(all[i + 1], '^(%d+)|(%d+)$')
  if count == nil or tonumber(ends) <= now then
    redis.call('HDEL', KEYS[1], all[i])
  else
    found[#found + 1] = all[i]
    found[#found + 1] = count
  end
end
return found
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """At one moment, over all gateways."""

    waiting: Mapping[str, int] = field(default_factory=dict)
    """Requests that wait for a sleeping placement of an offer, by the offer's UUID as hex."""
    queued: Mapping[str, int] = field(default_factory=dict)
    """Requests in the queues of replicas, by the digest of their revision."""
    asked: Mapping[str, int] = field(default_factory=dict)
    """Requests of the last half hour, by model slug."""

    @property
    def is_any(self) -> bool:
        """Whether anybody waits."""
        return bool(self.waiting or self.queued)


class Demands:
    """The part of Redis that holds demand."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def tell(self, gateway_id: str, *, waiting: Mapping[str, int], queued: Mapping[str, int]) -> bool:
        """Replace what waits at this gateway; whether Redis has it. Holds for `WAITING_TTL_S`."""
        said = [(f"offer|{name}", count) for name, count in waiting.items() if count > 0]
        said += [(f"queue|{name}", count) for name, count in queued.items() if count > 0]
        arguments = [str(part) for pair in said for part in pair]
        try:
            await self._redis.eval(_PUT, 1, WAITING_KEY, gateway_id, str(WAITING_TTL_S), *arguments)
        except REDIS_AWAY as error:
            log.warning("demand.untold", reason=str(error)[:200])
            return False
        return True

    async def count(self, asked: Mapping[str, int]) -> bool:
        """Add requests by model slug; whether Redis has them."""
        key = f"{ASKED_KEY}:{_bucket()}"
        try:
            pipeline = self._redis.pipeline(transaction=False)
            for slug, count in asked.items():
                pipeline.hincrby(key, slug, count)
            pipeline.expire(key, BUCKET_S * (BUCKETS + 1))
            await pipeline.execute()
        except REDIS_AWAY as error:
            log.warning("demand.uncounted", reason=str(error)[:200])
            return False
        return True

    async def read(self) -> Demand:
        """What waits and what was asked for; nothing while Redis is away."""
        waiting: dict[str, dict[str, int]] = {"offer": defaultdict(int), "queue": defaultdict(int)}
        try:
            found = await self._redis.eval(_GET, 1, WAITING_KEY)
            pipeline = self._redis.pipeline(transaction=False)
            for back in range(BUCKETS):
                pipeline.hgetall(f"{ASKED_KEY}:{_bucket() - back}")
            buckets = await pipeline.execute()
        except REDIS_AWAY as error:
            log.warning("demand.unread", reason=str(error)[:200])
            return Demand()
        for name, count in zip(found[::2], found[1::2], strict=True):
            _, kind, subject = name.decode().split("|", 2)
            waiting[kind][subject] += int(count)
        asked: dict[str, int] = defaultdict(int)
        for bucket in buckets:
            for slug, count in bucket.items():
                asked[slug.decode()] += int(count)
        return Demand(waiting=waiting["offer"], queued=waiting["queue"], asked=asked)


def _bucket() -> int:
    return int(time.time()) // BUCKET_S
