"""The wish for a cached answer: `x-raymart-cache: 300` takes and keeps answers for 300 seconds."""

from msgspec.structs import replace
from starlette.types import Scope

from raymart_core.errors import InvalidRequest
from raymart_marketplace.gateway.body import header
from raymart_marketplace.gateway.choices import Asked
from raymart_marketplace.gateway.request import CACHE_TTL_S_MAX

CACHE_HEADER = b"x-raymart-cache"


def asking_for_cached(scope: Scope, asked: Asked) -> Asked:
    """`asked` with the wish of the header, if there is one. Raises: InvalidRequest."""
    given = header(scope, CACHE_HEADER)
    if given is None:
        return asked
    name = CACHE_HEADER.decode()
    if not given.isdigit() or len(given) > 8 or int(given) > CACHE_TTL_S_MAX:
        raise InvalidRequest(
            f"{name} is {given[:20]!r}; give whole seconds, 0 to {CACHE_TTL_S_MAX}", param=name
        )
    ttl_s = int(given)
    return replace(
        asked,
        choices=tuple(replace(choice, cache_ttl_s=ttl_s) for choice in asked.choices),
        fallbacks=tuple(replace(choice, cache_ttl_s=ttl_s) for choice in asked.fallbacks),
    )
