"""The Redis stream of spilled records: any process can drain it, wherever it runs."""

import asyncio
from collections.abc import Sequence
from typing import cast

import redis.asyncio
from redis.exceptions import RedisError

from raymart_core.errors import RaymartError

KEY = "raymart:usage:spill"
FIELD = b"r"
TIMEOUT_S = 1.0
"""One exchange with Redis; a record waits for it."""
RECORDS_MAX = 200_000
"""About 250 MB in Redis."""

REDIS_AWAY = (RedisError, OSError, TimeoutError)
"""What a Redis that is away, or refuses, raises."""


class StreamRefused(RaymartError):
    """Redis answers, but what it would take would not be kept."""


class SpillStream:
    """Records in a Redis stream. Counts as durable only where Redis keeps an append-only file."""

    def __init__(self, url: str, *, key: str = KEY, records_max: int = RECORDS_MAX) -> None:
        self._redis = redis.asyncio.Redis.from_url(
            url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, retry=None, max_connections=4
        )
        self._key = key
        self._records_max = records_max

    async def append(self, records: Sequence[bytes]) -> None:
        """Add all of `records`, or none. When its answer is lost they may be there: the drain drops what is double.

        Raises: StreamRefused when Redis keeps no append-only file or the stream is full; those of `REDIS_AWAY`.
        """
        async with asyncio.timeout(TIMEOUT_S):
            persistence = await self._redis.info("persistence")
            if not persistence.get("aof_enabled"):
                raise StreamRefused(
                    "Redis has appendonly off and would forget the records; set appendonly yes"
                )
            if await self.length() + len(records) > self._records_max:
                raise StreamRefused(f"the stream {self._key} holds its {self._records_max} records")
            async with self._redis.pipeline(transaction=True) as pipeline:
                for record in records:
                    pipeline.xadd(self._key, {FIELD: record})
                await pipeline.execute()

    async def read(self, count: int) -> Sequence[tuple[bytes, bytes]]:
        """The oldest `count` entries at most: (entry's id, record). Raises: those of `REDIS_AWAY`."""
        async with asyncio.timeout(TIMEOUT_S):
            # The client's own type covers every protocol and option; without decoding it is this.
            entries = cast(
                "list[tuple[bytes, dict[bytes, bytes]]]", await self._redis.xrange(self._key, count=count)
            )
        return [(entry_id, fields.get(FIELD, b"")) for entry_id, fields in entries]

    async def remove(self, entry_ids: Sequence[bytes]) -> None:
        """Forget entries that are kept elsewhere now. Raises: those of `REDIS_AWAY`."""
        async with asyncio.timeout(TIMEOUT_S):
            await self._redis.xdel(self._key, *entry_ids)

    async def length(self) -> int:
        """How many records are in the stream. Raises: those of `REDIS_AWAY`."""
        return int(await self._redis.xlen(self._key))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.aclose()
