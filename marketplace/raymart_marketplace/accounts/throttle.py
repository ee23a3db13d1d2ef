"""Back-off that grows with failure, counted for all processes in Redis, and in this one alone while Redis is away.

A try is counted before it is made and forgiven once it succeeds: a thousand at once are a thousand failures until they
are proven otherwise. Each counter gives some tries free, and then a pause after each that doubles up to a cap; it is
forgotten when nobody has failed for a while. Nothing is ever open without a limit: without Redis each process counts by
itself, so that with N processes a guesser has N times the tries, for as long as that lasts.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from raymart_core.errors import Overloaded
from raymart_marketplace.shared_state import REDIS_AWAY, Redis

log = structlog.get_logger(__name__)

KEPT_MAX: Final = 50_000
"""Counters in the process's own memory."""
AT_ONCE_MAX: Final = 8
"""Of the connections that all of this process's users of Redis share."""
RETRY_REDIS_S: Final = 1.0
"""After a failure Redis is left alone for this long: nobody waits for its time-out at every try."""

# One script, so that two processes never see the same count. Times are Redis's own: one clock for all processes.
_ADMIT = """
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local wait = 0
for i, key in ipairs(KEYS) do
  local next_at = tonumber(redis.call('HGET', key, 'next') or '0')
  if next_at - now > wait then wait = next_at - now end
end
if wait > 0 then return wait end
for i, key in ipairs(KEYS) do
  local free, base, cap, window = unpack(ARGV, i * 4 - 3, i * 4)
  local over = redis.call('HINCRBY', key, 'tries', 1) - free
  if over >= 0 then
    redis.call('HSET', key, 'next', now + math.min(cap, base * 2 ^ math.min(over, 30)))
  end
  redis.call('PEXPIRE', key, window)
end
return 0
"""
_FORGIVE = """
for i, key in ipairs(KEYS) do
  if redis.call('EXISTS', key) == 1 then
    if ARGV[i] == '1' or redis.call('HINCRBY', key, 'tries', -1) <= 0 then redis.call('DEL', key)
    else redis.call('HDEL', key, 'next') end
  end
end
return 0
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How often one thing may be tried."""

    name: str
    """What is counted, such as "login:address:192.0.2.1"."""
    free: int
    """Tries in a row without a pause."""
    pause_s_min: float = 1.0
    """After the first that is not free; doubles with each more."""
    pause_s_max: float
    forget_s: float
    """How long after the last try the counter is forgotten."""
    is_cleared: bool = False
    """Whether a success forgets the failures before it, not only itself."""

    @property
    def key(self) -> str:
        """Its place in Redis."""
        return f"raymart:throttle:{self.name}"


@dataclass(slots=True)
class _Counter:
    tries: int
    next_at: float
    forgotten_at: float


class Throttle:
    """Admits tries, or says how long to wait. One per process; for one event loop."""

    def __init__(self, redis: Redis | None, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Without `redis` this process counts alone; so it does while `redis` is away."""
        self._redis = redis
        self._admit = redis.register_script(_ADMIT) if redis is not None else None
        self._forgive = redis.register_script(_FORGIVE) if redis is not None else None
        self._monotonic = monotonic
        # A burst waits here for a millisecond, instead of finding the client's connections taken and Redis "away".
        self._turn = asyncio.Semaphore(AT_ONCE_MAX)
        self._counters: OrderedDict[str, _Counter] = OrderedDict()
        self._away_until = 0.0

    async def admit(self, limits: Sequence[Limit]) -> None:
        """Count a try under each of `limits`. Raises: Overloaded while one of them says wait; nothing is counted then."""
        wait_s = await self._shared_wait_s(limits)
        if wait_s is None:
            wait_s = self._own_wait_s(limits)
        if wait_s > 0:
            seconds = max(1, round(wait_s + 0.5))
            raise Overloaded(f"too many tries; wait {seconds} s and try again", retry_after_s=seconds)

    async def forgive(self, limits: Sequence[Limit]) -> None:
        """Take back the try that `admit` counted: it was a success."""
        for limit in limits:
            self._own_forgiven(limit)
        if self._forgive is None or self._is_away():
            return
        try:
            async with self._turn:
                await self._forgive(
                    keys=[limit.key for limit in limits], args=[int(limit.is_cleared) for limit in limits]
                )
        except REDIS_AWAY as error:
            self._away(error)

    async def _shared_wait_s(self, limits: Sequence[Limit]) -> float | None:
        """By Redis; None when it is away."""
        if self._admit is None or self._is_away():
            return None
        numbers = [
            number
            for limit in limits
            for number in (
                limit.free,
                round(limit.pause_s_min * 1000),
                round(limit.pause_s_max * 1000),
                round(limit.forget_s * 1000),
            )
        ]
        try:
            async with self._turn:
                wait_ms = await self._admit(keys=[limit.key for limit in limits], args=numbers)
        except REDIS_AWAY as error:
            self._away(error)
            return None
        return float(wait_ms) / 1000

    def _own_wait_s(self, limits: Sequence[Limit]) -> float:
        """By this process's own counters; the same rule as the script's."""
        now = self._monotonic()
        counters = [self._counter(limit, now) for limit in limits]
        wait_s = max((counter.next_at - now for counter in counters), default=0.0)
        if wait_s > 0:
            return wait_s
        for limit, counter in zip(limits, counters, strict=True):
            counter.tries += 1
            over = counter.tries - limit.free
            if over >= 0:
                counter.next_at = now + min(limit.pause_s_max, limit.pause_s_min * 2 ** min(over, 30))
            counter.forgotten_at = now + limit.forget_s
        return 0.0

    def _counter(self, limit: Limit, now: float) -> _Counter:
        """The limit's counter, a fresh one when it was forgotten. A full memory drops the one least used."""
        found = self._counters.get(limit.name)
        if found is None or found.forgotten_at <= now:
            found = self._counters[limit.name] = _Counter(
                tries=0, next_at=0.0, forgotten_at=now + limit.forget_s
            )
        self._counters.move_to_end(limit.name)
        if len(self._counters) > KEPT_MAX:
            self._counters.popitem(last=False)
        return found

    def _own_forgiven(self, limit: Limit) -> None:
        counter = self._counters.get(limit.name)
        if counter is None:
            return
        counter.tries -= 1
        counter.next_at = 0.0
        if limit.is_cleared or counter.tries <= 0:
            del self._counters[limit.name]

    def _is_away(self) -> bool:
        return self._monotonic() < self._away_until

    def _away(self, error: BaseException) -> None:
        log.warning("throttle.redis_away", error=type(error).__name__)
        self._away_until = self._monotonic() + RETRY_REDIS_S
