"""Options that a client sets once and expects to last: which model its requests are for.

AUTOMATIC1111 has one set of them for everybody; here each key has its own, in Redis. Without Redis the default holds.
"""

from uuid import UUID

import structlog

from raymart_core.errors import Unavailable
from raymart_marketplace.shared_state import REDIS_AWAY, Redis

log = structlog.get_logger(__name__)

KEPT_S = 30 * 86_400
_PREFIX = "sdapi:checkpoint:"


class SdapiOptions:
    """The chosen model of each key."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def checkpoint(self, owner: UUID) -> str | None:
        """The model's slug; None when none was chosen, or Redis is away."""
        try:
            found = await self._redis.get(f"{_PREFIX}{owner}")
        except REDIS_AWAY as error:
            log.warning("sdapi.options_away", error=type(error).__name__)
            return None
        return found.decode() if isinstance(found, bytes) else found

    async def choose(self, owner: UUID, slug: str) -> None:
        """Keep the choice for 30 days. Raises: Unavailable."""
        try:
            await self._redis.set(f"{_PREFIX}{owner}", slug, ex=KEPT_S)
        except REDIS_AWAY:
            raise Unavailable(
                "options cannot be kept at the moment; name the model in override_settings instead"
            ) from None
