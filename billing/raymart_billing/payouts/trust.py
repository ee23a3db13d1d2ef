"""How far providers are trusted, 0 to 100. Set by people until it is measured. Takes a session, never commits."""

from collections.abc import Collection, Mapping
from uuid import UUID

import structlog
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.payouts.holdback import TRUST_MAX, TRUST_NEUTRAL
from raymart_billing.payouts.policy_models import ProviderTrust
from raymart_core.errors import InvalidRequest, NotFound
from raymart_core.ids import Prefix, show
from raymart_marketplace.oversight.reasons import checked_reason
from raymart_marketplace.supply.models import Provider

log = structlog.get_logger()


async def trust_of(session: AsyncSession, provider_ids: Collection[UUID]) -> Mapping[UUID, int]:
    """The score of each provider; neutral for those without one."""
    found = await session.execute(
        select(ProviderTrust.provider_id, ProviderTrust.score).where(
            ProviderTrust.provider_id.in_(provider_ids)
        )
    )
    return dict.fromkeys(provider_ids, TRUST_NEUTRAL) | dict(found.tuples().all())


async def set_trust(
    session: AsyncSession, provider_id: UUID, *, score: int, reason: str, actor_id: UUID | None
) -> ProviderTrust:
    """Say how far a provider is trusted, from the next epoch on. Raises: InvalidRequest, NotFound."""
    checked = checked_reason(reason)
    if not 0 <= score <= TRUST_MAX:
        raise InvalidRequest(f"a trust of {score}; give 0 to {TRUST_MAX}", param="score")
    if await session.get(Provider, provider_id) is None:
        raise NotFound(f"there is no {show(Prefix.PROVIDER, provider_id)!r}", param="provider_id")
    values = {"score": score, "reason": checked, "set_by": actor_id, "set_at": func.clock_timestamp()}
    await session.execute(
        insert(ProviderTrust)
        .values(provider_id=provider_id, **values)
        .on_conflict_do_update(index_elements=["provider_id"], set_=values)
    )
    log.info("provider_trust.set", provider_id=str(provider_id), score=score, actor_id=str(actor_id))
    return await session.get_one(ProviderTrust, provider_id, populate_existing=True)
