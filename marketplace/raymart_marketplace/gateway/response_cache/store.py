"""Answers in Redis: sealed, each for its time, and so many of an organization.

`raymart:answer:<key>` is the sealed answer, with a TTL; `raymart:answers:<organization>` a sorted set of the organization's
keys by the second they end, for the bound on their number and for erasure.
"""

import asyncio
from collections.abc import Sequence
from typing import cast
from uuid import UUID

import structlog

from raymart_marketplace.accounts.sealing import SecretBox
from raymart_marketplace.gateway.response_cache.answer import CachedAnswer, decode_answer, encode_answer
from raymart_marketplace.shared_state import REDIS_AWAY, Redis

log = structlog.get_logger(__name__)

FIND_TIMEOUT_S = 0.1
KEEP_TIMEOUT_S = 2.0
ANSWER_BYTES_MAX = 256 * 1024
"""Of one answer; a longer one is not kept."""
ANSWERS_MAX = 10_000
"""Of one organization; those that end soonest make room."""

_ANSWER = "raymart:answer:"
_ANSWERS = "raymart:answers:"
# KEYS: the organization's set, the answer. ARGV: key, content, TTL in seconds, now, most answers, their prefix.
_KEEP = """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[4])
local over = redis.call('ZCARD', KEYS[1]) - tonumber(ARGV[5]) + 1
if over > 0 then
    for _, name in ipairs(redis.call('ZRANGE', KEYS[1], 0, over - 1)) do
        redis.call('UNLINK', ARGV[6] .. name)
        redis.call('ZREM', KEYS[1], name)
    end
end
redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[3])
redis.call('ZADD', KEYS[1], ARGV[4] + ARGV[3], ARGV[1])
if redis.call('TTL', KEYS[1]) < tonumber(ARGV[3]) then
    redis.call('EXPIRE', KEYS[1], ARGV[3])
end
"""
_FORGET_AT_ONCE = 500


class AnswerStore:
    """One per process. A Redis that is away is an empty one."""

    def __init__(self, redis: Redis, box: SecretBox, *, answers_max: int = ANSWERS_MAX) -> None:
        self._redis = redis
        self._box = box
        self._answers_max = answers_max
        self.kept = 0
        self.kept_bytes = 0
        """Of all that were kept, sealed."""
        self.unkept = 0
        """Answers that were too long or too many, or whose Redis was away."""
        self._keep = redis.register_script(_KEEP)

    async def find(self, keys: Sequence[str]) -> CachedAnswer | None:
        """The first answer that there is under one of `keys`."""
        try:
            async with asyncio.timeout(FIND_TIMEOUT_S):
                found = await self._redis.mget([_ANSWER + key for key in keys])
        except (*REDIS_AWAY, TimeoutError) as error:
            log.warning("answer.not_looked_up", error=type(error).__name__)
            return None
        for key, sealed in zip(keys, found, strict=True):
            if isinstance(sealed, bytes) and (answer := self._opened(key, sealed)) is not None:
                return answer
        return None

    async def keep(
        self, key: str, answer: CachedAnswer, *, organization_id: UUID, ttl_s: int, now_s: int
    ) -> bool:
        """Whether the answer is kept; one that is too long is not."""
        content = encode_answer(answer)
        if len(content) > ANSWER_BYTES_MAX:
            self.unkept += 1
            return False
        sealed = self._box.seal(content, purpose=_purpose(key))
        arguments: list[str | bytes | int] = [key, sealed, ttl_s, now_s, self._answers_max, _ANSWER]
        try:
            async with asyncio.timeout(KEEP_TIMEOUT_S):
                await self._keep(keys=[_ANSWERS + organization_id.hex, _ANSWER + key], args=arguments)
        except (*REDIS_AWAY, TimeoutError) as error:
            log.warning("answer.not_kept", error=type(error).__name__)
            self.unkept += 1
            return False
        self.kept += 1
        self.kept_bytes += len(sealed)
        return True

    def _opened(self, key: str, sealed: bytes) -> CachedAnswer | None:
        try:
            return decode_answer(self._box.open(sealed, purpose=_purpose(key)))
        except ValueError:  # Of a key that is gone, or not ours at all.
            return None


async def forget_answers(redis: Redis, organization_id: UUID) -> int:
    """Delete all that is kept of the organization; returns how many. Raises: those of `REDIS_AWAY`."""
    listed = _ANSWERS + organization_id.hex
    forgotten = 0
    while names := [str(name, "ascii") for name in await _first(redis, listed)]:
        await redis.unlink(*(_ANSWER + name for name in names))
        await redis.zrem(listed, *names)
        forgotten += len(names)
    return forgotten


async def _first(redis: Redis, listed: str) -> Sequence[bytes]:
    return cast("Sequence[bytes]", await redis.zrange(listed, 0, _FORGET_AT_ONCE - 1))


def _purpose(key: str) -> str:
    return f"cached answer {key}"
