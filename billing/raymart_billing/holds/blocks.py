"""Blocked organizations: no new lease is granted to them, and those they have are called back. Never commits."""

from uuid import UUID

import structlog
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.holds.models import BillingBlock
from raymart_core.errors import InvalidRequest

log = structlog.get_logger()

REASON_LENGTH_MAX = 500


async def block_organization(
    session: AsyncSession, *, organization_id: UUID, reason: str, actor_id: UUID | None
) -> None:
    """Refuse the organization new work from the commit on; running requests end. A repeat replaces the reason.

    Locks the organization's accounts until the transaction ends: no second ledger call in it.
    Raises: InvalidRequest.
    """
    if not 0 < len(reason) <= REASON_LENGTH_MAX:
        raise InvalidRequest(
            f"a reason of {len(reason)} characters; give 1 to {REASON_LENGTH_MAX}", param="reason"
        )
    await session.execute(select(func.billing_block_set(organization_id, reason, actor_id)))
    log.warning("organization.blocked", organization_id=str(organization_id), actor_id=str(actor_id))


async def unblock_organization(session: AsyncSession, *, organization_id: UUID) -> bool:
    """Let the organization work again; returns whether it was blocked. Locks its accounts."""
    lifted = bool(await session.scalar(select(func.billing_block_lift(organization_id))))
    if lifted:
        log.info("organization.unblocked", organization_id=str(organization_id))
    return lifted


async def block_of(session: AsyncSession, organization_id: UUID) -> BillingBlock | None:
    """Why the organization is blocked, if it is."""
    return await session.get(BillingBlock, organization_id)
