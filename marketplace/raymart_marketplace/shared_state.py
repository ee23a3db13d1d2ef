"""Redis, as all processes of the control plane share it: counters, presence, one-time nonces, news.

Nothing here may be the only copy of something that must not be lost (`docs/architecture.md`, where state lives). Each
caller says what it does without Redis: an answer is either here within `TIMEOUT_S` or not at all.
"""

import redis.asyncio
from redis.exceptions import RedisError

TIMEOUT_S = 0.5
CONNECTIONS_MAX = 32
REDIS_AWAY = (RedisError, OSError, TimeoutError)
"""What a Redis that is away, slow or refusing raises."""

Redis = redis.asyncio.Redis


def make_redis(url: str) -> Redis:
    """A client of `url` (redis://...), which connects when it is first used; close it with `aclose()`.

    Replies are bytes. A command is tried once: whoever can repeat it knows what a repeat would do.
    """
    return redis.asyncio.Redis.from_url(
        url,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        retry=None,
        max_connections=CONNECTIONS_MAX,
    )
