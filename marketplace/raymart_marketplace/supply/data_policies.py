"""What providers say of what they keep."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import NotFound
from raymart_core.ids import Prefix, show
from raymart_marketplace.supply.models import Provider
from raymart_marketplace.supply.trust import DataPolicy


async def set_data_policy(session: AsyncSession, *, provider_id: UUID, data_policy: DataPolicy) -> Provider:
    """Say so from the next request on. A repeat is a no-op. Locks the provider's row. Raises: NotFound."""
    provider = await session.get(Provider, provider_id, with_for_update={"key_share": True})
    if provider is None:
        raise NotFound(
            f"there is no provider {show(Prefix.PROVIDER, provider_id)!r}; see `providers`",
            param="provider_id",
        )
    provider.data_policy = data_policy
    await session.flush()
    return provider
