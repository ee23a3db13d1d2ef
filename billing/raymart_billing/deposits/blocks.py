"""Customers that may not spend: by a rule (a dispute, a debt) or by an administrator, each time with the reason.

A rule lifts only what a rule did: an administrator's block stays until an administrator ends it. The row itself is the
lease gate's (`0005_leases.sql`): setting it recalls the customer's leases. Here is why it was set and lifted.
"""

from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.deposits.funds import lock_funds
from raymart_billing.deposits.models import BillingBlockChange
from raymart_billing.holds.models import BillingBlock
from raymart_core.errors import Conflict, InvalidRequest

log = structlog.get_logger()

REASON_CHARACTERS_MAX = 500
_SET = text("select billing_block_set(:organization_id, :reason, cast(:actor_id as uuid))")
_LIFT = text("select billing_block_lift(:organization_id)")


async def block_customer(
    session: AsyncSession, organization_id: UUID, *, reason: str, actor_id: UUID
) -> None:
    """Keep the customer from spending from now on, until an administrator says otherwise; a repeat changes the reason.

    Takes over a block that a rule made. Locks the customer's accounts. Raises: InvalidRequest.
    """
    checked = checked_reason(reason)
    await lock_funds(session, organization_id)
    await _set(session, organization_id, reason=checked, actor_id=actor_id)


async def unblock_customer(
    session: AsyncSession, organization_id: UUID, *, reason: str, actor_id: UUID
) -> None:
    """Let the customer spend again, whoever blocked it. Raises: InvalidRequest, Conflict when it is not blocked."""
    checked = checked_reason(reason)
    await lock_funds(session, organization_id)
    if await standing_block(session, organization_id) is None:
        raise Conflict("this customer is not blocked; nothing was changed", param="organization_id")
    await _lift(session, organization_id, reason=checked, actor_id=actor_id)


async def block_by_rule(session: AsyncSession, organization_id: UUID, *, reason: str) -> None:
    """Block a customer whose accounts the caller has locked, unless it is blocked already."""
    if await standing_block(session, organization_id) is None:
        await _set(session, organization_id, reason=reason, actor_id=None)


async def lift_by_rule(session: AsyncSession, organization_id: UUID, *, reason: str) -> None:
    """End a block that a rule made, of a customer whose accounts the caller has locked; any other one stays."""
    standing = await standing_block(session, organization_id)
    if standing is not None and standing.actor_id is None:
        await _lift(session, organization_id, reason=reason, actor_id=None)


async def standing_block(session: AsyncSession, organization_id: UUID) -> BillingBlock | None:
    """Why the customer may not spend; None when it may."""
    return await session.get(BillingBlock, organization_id, populate_existing=True)


def checked_reason(reason: str) -> str:
    """`reason` without blanks around it. Raises: InvalidRequest unless something is left, and not too much."""
    checked = reason.strip()
    if not 1 <= len(checked) <= REASON_CHARACTERS_MAX:
        raise InvalidRequest(
            f"a reason of {len(checked)} characters; give 1 to {REASON_CHARACTERS_MAX}, it is kept for good",
            param="reason",
        )
    return checked


async def _set(session: AsyncSession, organization_id: UUID, *, reason: str, actor_id: UUID | None) -> None:
    values = {"organization_id": organization_id, "reason": reason, "actor_id": actor_id}
    await session.execute(_SET, values)
    await _remember(session, organization_id, blocked=True, reason=reason, actor_id=actor_id)


async def _lift(session: AsyncSession, organization_id: UUID, *, reason: str, actor_id: UUID | None) -> None:
    await session.execute(_LIFT, {"organization_id": organization_id})
    await _remember(session, organization_id, blocked=False, reason=reason, actor_id=actor_id)


async def _remember(
    session: AsyncSession, organization_id: UUID, *, blocked: bool, reason: str, actor_id: UUID | None
) -> None:
    session.add(
        BillingBlockChange(organization_id=organization_id, blocked=blocked, reason=reason, actor_id=actor_id)
    )
    await session.flush()
    log.warning(
        "customer.blocked" if blocked else "customer.unblocked",
        organization_id=str(organization_id),
        actor_id=str(actor_id),
    )
