"""Pools that providers make for themselves."""

from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import Conflict
from raymart_marketplace.supply.models import Pool, PoolKind
from raymart_marketplace.supply.service import create_pool, provider_in_business

POOLS_MAX = 20
"""Of one provider. Each has a controller, a lease and a row in every listing of pools."""


async def create_own_pool(session: AsyncSession, *, provider_id: UUID, slug: str, region: str) -> Pool:
    """Make a pool of the provider's own. Locks the provider's row, so that two at once do not pass the limit.

    Raises: InvalidRequest, NotFound, Forbidden when the provider is suspended or closed, Conflict when the slug is
    taken or the provider has `POOLS_MAX`.
    """
    provider = await provider_in_business(session, provider_id, is_locked=True)
    have = await session.scalar(select(func.count()).where(Pool.provider_id == provider_id)) or 0
    if have >= POOLS_MAX:
        raise Conflict(
            f"provider {provider.slug!r} has {have} pools, the most there may be; use one of them (`Provider.pools`)"
        )
    return await create_pool(
        session, slug=slug, kind=PoolKind.PROVIDER, region=region, provider_id=provider_id
    )
