"""The shared state of limits: one token bucket a limit in Redis, read and changed for all levels of a request in one call.

Of each organization, project or key there is a hash: what is left of its requests and tokens, when that was so, and how
many requests each process may run at once, and until when. All keys of one organization hash to one slot of a cluster.
A bucket that is full and that nobody has used for two minutes is forgotten.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog

from raymart_marketplace.gateway.rate_limits.limits import Kind
from raymart_marketplace.gateway.rate_limits.share import Share
from raymart_marketplace.shared_state import REDIS_AWAY, Redis

log = structlog.get_logger(__name__)

SHARES = 16
"""A process takes 1/16 of what is left beyond what it needs: the less there is, the less lies idle in processes."""
SLOTS_TTL_S = 10
"""How long the running requests of a process that died count."""
FORGET_S = 120
AT_ONCE_MAX = 8
"""Calls at one time, so that they leave connections of the shared client to others."""
RETRY_REDIS_S = 1.0
PROCESSES_KEY = "raymart:limits:processes"
PROCESS_TTL_S = 10

# KEYS: one hash a level. ARGV: process, time to live of slots and keys (ms), shares, then of each level ten numbers: the
# three limits (0 for none), what the process hands back of requests and tokens, what it needs of both at least, how many
# slots it needs and how many it wants, and 1 where it takes a little more than it needs.
# Answers {0, [requests, tokens, slots, left requests, left tokens] x levels}, or {level, kind, ms until it may be enough}.
_EXCHANGE = """
local process, slots_ttl, forget = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local shares = tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local levels, refused = {}, nil
for i, key in ipairs(KEYS) do
  local a = 4 + (i - 1) * 10
  local l = {}
  for j = 1, 10 do l[j] = tonumber(ARGV[a + j]) end
  local had = redis.call('HGETALL', key)
  local at, others = now, 0
  l.r, l.t, l.stale = l[1], l[2], {}
  for j = 1, #had, 2 do
    local name, value = had[j], had[j + 1]
    if name == 'at' then at = tonumber(value)
    elseif name == 'r' then l.r = tonumber(value)
    elseif name == 't' then l.t = tonumber(value)
    elseif name ~= process then
      local count, ends = string.match(value, '(%d+) (%d+)')
      if tonumber(ends) > now then others = others + tonumber(count) else table.insert(l.stale, name) end
    end
  end
  local passed = math.max(0, now - at) / 60000
  l.r = math.min(l[1], l.r + l[1] * passed + l[4])
  l.t = math.min(l[2], l.t + l[2] * passed + l[5])
  l.free = l[3] - others
  levels[i] = l
  if not refused then
    if l[1] > 0 and l.r < l[6] then refused = {i, 'requests', math.ceil((l[6] - l.r) / l[1] * 60000)}
    elseif l[2] > 0 and l[7] > 0 and l.t < l[7] then refused = {i, 'tokens', math.ceil((l[7] - l.t) / l[2] * 60000)}
    elseif l[3] > 0 and l.free < l[8] then refused = {i, 'concurrency', 100} end
  end
end
local answer = {0}
for i, key in ipairs(KEYS) do
  local l = levels[i]
  local r, t, slots = 0, 0, 0
  if not refused then
    if l[1] > 0 then r = l[6]; l.r = l.r - r end
    if l[2] > 0 then t = l[7]; l.t = l.t - t end
    if l[10] == 1 then
      local more = math.max(0, math.floor(l.r / shares))
      r = r + more; l.r = l.r - more
      more = math.max(0, math.floor(l.t / shares))
      t = t + more; l.t = l.t - more
    end
    slots = math.max(l[8], math.min(l[9], l[8] + math.floor(math.max(0, l.free - l[8]) / shares)))
  end
  redis.call('HSET', key, 'r', tostring(l.r), 't', tostring(l.t), 'at', now)
  if l[3] > 0 then
    if #l.stale > 0 then redis.call('HDEL', key, unpack(l.stale)) end
    if not refused then
      if slots > 0 then redis.call('HSET', key, process, slots .. ' ' .. (now + slots_ttl))
      else redis.call('HDEL', key, process) end
    end
  end
  local full = forget
  if l[1] > 0 then full = math.max(full, math.ceil((l[1] - l.r) / l[1] * 60000)) end
  if l[2] > 0 then full = math.max(full, math.ceil((l[2] - l.t) / l[2] * 60000)) end
  redis.call('PEXPIRE', key, full)
  for _, number in ipairs({tostring(r), tostring(t), slots, tostring(l.r), tostring(l.t)}) do
    table.insert(answer, number)
  end
end
if refused then return refused end
return answer
"""


@dataclass(frozen=True, slots=True)
class Refused:
    """Which limit is in the way."""

    share: Share
    kind: Kind
    wait_s: float
    """When it may not be any more."""


class SharedBuckets:
    """Exchanges what processes hold of limits. One per process; for one event loop."""

    def __init__(self, redis: Redis, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._redis = redis
        self._exchange = redis.register_script(_EXCHANGE)
        self._monotonic = monotonic
        self._turns = asyncio.Semaphore(AT_ONCE_MAX)
        self._away_until = 0.0
        self.processes = 1
        """Those that share limits, as it was last known."""

    @property
    def is_away(self) -> bool:
        """Whether Redis is left alone for the moment."""
        return self._monotonic() < self._away_until

    async def ask(
        self, organization_id: UUID, shares: Sequence[Share], *, process: str, requests: int, tokens: float
    ) -> Refused | None:
        """Hand back what `shares` hold and get what a request needs of all of them, and a little more; or nothing.

        With no `requests` this only hands back, and keeps the slots of what runs. Raises: ConnectionError, after which
        what was in hand may have been handed back.
        """
        arguments: list[str | int | float] = [process, SLOTS_TTL_S * 1000, FORGET_S * 1000, SHARES]
        for share in shares:
            arguments += _numbers(share, requests=requests, tokens=tokens)
        keys = [f"raymart:limits:{{{organization_id.hex}}}:{share.id.hex}" for share in shares]
        try:
            async with self._turns:
                answer = await self._exchange(keys=keys, args=arguments)
        except REDIS_AWAY as error:
            self._went_away(error)
            raise ConnectionError from error
        return self._taken(shares, answer)

    async def count_processes(self, process: str) -> None:
        """Say that this process lives, and see how many others do."""
        now = time.time()
        try:
            async with self._redis.pipeline(transaction=True) as commands:
                commands.zadd(PROCESSES_KEY, {process: now})
                commands.zremrangebyscore(PROCESSES_KEY, "-inf", now - PROCESS_TTL_S)
                commands.zcard(PROCESSES_KEY)
                _, _, count = await commands.execute()
        except REDIS_AWAY as error:
            self._went_away(error)
        else:
            self.processes = max(1, int(count))

    def _taken(self, shares: Sequence[Share], answer: Sequence[bytes | int]) -> Refused | None:
        now = self._monotonic()
        if int(answer[0]):
            _, kind, wait_ms = answer
            assert isinstance(kind, bytes)
            share = shares[int(answer[0]) - 1]
            share.refused_kind = Kind(kind.decode())
            share.refused_until = now + int(wait_ms) / 1000
            share.known_at = now
            if share.refused_kind is Kind.REQUESTS:
                share.left_requests = 0.0
            elif share.refused_kind is Kind.TOKENS:
                share.left_tokens = 0.0
            return Refused(share, share.refused_kind, int(wait_ms) / 1000)
        for position, share in enumerate(shares):
            requests, tokens, slots, left_requests, left_tokens = answer[1 + position * 5 : 6 + position * 5]
            share.granted(
                requests=float(requests),
                tokens=float(tokens),
                slots=float(slots),
                left_requests=float(left_requests),
                left_tokens=float(left_tokens),
                now=now,
            )
        return None

    def _went_away(self, error: BaseException) -> None:
        log.warning("limits.redis_away", error=type(error).__name__)
        self._away_until = self._monotonic() + RETRY_REDIS_S


def _numbers(share: Share, *, requests: int, tokens: float) -> list[int | float]:
    """What the script is told of one level."""
    limits = share.limits
    back_requests, back_tokens = share.hand_over()
    needed = share.running + requests
    return [
        limits.requests_per_minute or 0,
        limits.tokens_per_minute or 0,
        limits.concurrent_requests or 0,
        back_requests,
        back_tokens,
        requests,
        tokens if requests else 0,
        needed,
        2 * needed if requests else needed,
        1 if requests else 0,
    ]
