"""Automatic persisted queries: a client sends a document's hash, and the document itself only when asked for it.

Source: Apollo's protocol, `extensions.persistedQuery {version: 1, sha256Hash}`. It spares bytes and grants nothing:
documents are limited, charged and checked alike, however they came. Redis keeps them for all processes, each process
keeps what it used lately; both are bounded, and whoever misses a document sends it once more.
"""

import asyncio
import hashlib
import time
from dataclasses import replace

import structlog
from strawberry.http import GraphQLRequestData

from raymart_core.errors import InvalidRequest
from raymart_marketplace.accounts.ttl_cache import TtlCache
from raymart_marketplace.shared_state import REDIS_AWAY, Redis

log = structlog.get_logger()

CHARACTERS_MAX = 20_000
"""A longer document runs and is not remembered; nor is one with strings of its own."""
DOCUMENTS_MAX = 2_000
"""In Redis: 40 MB at the very most. One more drops the one that came first."""
DOCUMENTS_HERE_MAX = 200
KEPT_S = 86_400
REDIS_TIMEOUT_S = 0.25
DOCUMENTS_KEY = "raymart:graphql:persisted"
ARRIVALS_KEY = "raymart:graphql:persisted:arrivals"
_KEEP = """
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
local over = redis.call('ZCARD', KEYS[2]) - tonumber(ARGV[4])
if over > 0 then
  local oldest = redis.call('ZPOPMIN', KEYS[2], over)
  for i = 1, #oldest, 2 do redis.call('HDEL', KEYS[1], oldest[i]) end
end
redis.call('EXPIRE', KEYS[1], ARGV[5])
redis.call('EXPIRE', KEYS[2], ARGV[5])
"""


class PersistedQueryNotFound(InvalidRequest):
    """Nobody has sent the document of this hash lately; Apollo's link sends it when it reads this sentence."""

    def __init__(self) -> None:
        super().__init__("PersistedQueryNotFound")


class PersistedQueries:
    """Documents by their hash. One per process; for one event loop."""

    def __init__(self, redis: Redis, *, documents_max: int = DOCUMENTS_MAX) -> None:
        self._redis = redis
        self._keep = redis.register_script(_KEEP)
        self._documents_max = documents_max
        self._here: TtlCache[str] = TtlCache(size_max=DOCUMENTS_HERE_MAX)

    async def complete(self, asked: GraphQLRequestData) -> GraphQLRequestData:
        """`asked` with the document that its hash stands for.

        Raises: PersistedQueryNotFound, InvalidRequest for a hash that is none or of another document.
        """
        digest = _digest(asked)
        if digest is None:
            return asked
        if asked.query is None:
            return replace(asked, query=await self._find(digest))
        if hashlib.sha256(asked.query.encode()).hexdigest() != digest:
            raise InvalidRequest("`sha256Hash` is not the SHA-256 of `query`", param="extensions")
        return asked

    async def remember(self, asked: GraphQLRequestData) -> None:
        """Keep the document of a request that named its hash. Call it for documents that were found valid."""
        digest = _digest(asked)
        if digest is None or asked.query is None or len(asked.query) > CHARACTERS_MAX:
            return
        # A document with a string in it may hold a prompt, and prompts are not kept: they belong into variables.
        if '"' in asked.query:
            return
        if self._here.get(digest.encode()) is not None:
            return
        self._here.put(digest.encode(), asked.query, ttl_s=KEPT_S)
        try:
            async with asyncio.timeout(REDIS_TIMEOUT_S):
                await self._keep(
                    keys=[DOCUMENTS_KEY, ARRIVALS_KEY],
                    args=[digest, asked.query, time.time(), self._documents_max, KEPT_S],
                )
        except REDIS_AWAY as error:
            log.warning("persisted_query.not_shared", error=type(error).__name__)

    async def _find(self, digest: str) -> str:
        """Raises: PersistedQueryNotFound."""
        found = self._here.get(digest.encode())
        if found is None:
            found = await self._shared(digest)
            self._here.put(digest.encode(), found, ttl_s=KEPT_S)
        return found

    async def _shared(self, digest: str) -> str:
        try:
            async with asyncio.timeout(REDIS_TIMEOUT_S):
                kept: bytes | None = await self._redis.hget(DOCUMENTS_KEY, digest)  # type: ignore[assignment]  # redis' types join both kinds of client
        except REDIS_AWAY:
            kept = None
        # Whoever can write into Redis must not choose what clients' hashes run.
        if kept is None or hashlib.sha256(kept).hexdigest() != digest:
            raise PersistedQueryNotFound
        return kept.decode()


def _digest(asked: GraphQLRequestData) -> str | None:
    """The hash that a request names, if it does. Raises: InvalidRequest."""
    named = (asked.extensions or {}).get("persistedQuery")
    if named is None:
        return None
    digest = named.get("sha256Hash") if isinstance(named, dict) and named.get("version") == 1 else None
    if not isinstance(digest, str) or len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise InvalidRequest(
            "`persistedQuery` is {version: 1, sha256Hash} with 64 lower-case hexadecimal digits",
            param="extensions",
        )
    return digest
