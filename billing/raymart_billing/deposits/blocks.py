"""Customers that may not spend: by a rule (a dispute, a debt) or by an administrator, each time with the reason.

A rule lifts only what a rule did: an administrator's block stays until an administrator ends it.
"""

from uuid import UUID

import structlog
from sqlalchemy import delete, literal, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.deposits.models import BillingBlock, BillingBlockChange
from raymart_core.errors import Conflict, InvalidRequest

log = structlog.get_logger()

REASON_CHARACTERS_MAX = 500


async def block(session: AsyncSession, organization_id: UUID, *, reason: str, actor_id: UUID | None) -> bool:
    """Keep the customer from spending from now on; returns whether it could spend before.

    By an administrator it also takes over a rule's block, which then no rule lifts any more. Locks the block's row.
    Raises: InvalidRequest.
    """
    checked = checked_reason(reason)
    statement = insert(BillingBlock).values(
        organization_id=organization_id, reason=checked, actor_id=actor_id
    )
    if actor_id is None:
        made = statement.on_conflict_do_nothing().returning(literal(value=True))
    else:
        made = statement.on_conflict_do_update(
            index_elements=[BillingBlock.organization_id],
            set_={"reason": checked, "actor_id": actor_id},
            where=BillingBlock.actor_id.is_(None),
        ).returning(literal(value=True))
    was_open = await blocked_reason(session, organization_id) is None
    if await session.scalar(made) is None:
        return False
    await _remember(session, organization_id, blocked=True, reason=checked, actor_id=actor_id)
    return was_open


async def unblock(session: AsyncSession, organization_id: UUID, *, reason: str, actor_id: UUID | None) -> None:
    """Let the customer spend again, whoever blocked it. Raises: InvalidRequest, Conflict when it is not blocked."""
    checked = checked_reason(reason)
    ended = delete(BillingBlock).where(BillingBlock.organization_id == organization_id)
    if await session.scalar(ended.returning(BillingBlock.organization_id)) is None:
        raise Conflict("this customer is not blocked; nothing was changed", param="organization_id")
    await _remember(session, organization_id, blocked=False, reason=checked, actor_id=actor_id)


async def lift_rule_block(session: AsyncSession, organization_id: UUID, *, reason: str) -> bool:
    """End a block that a rule made; returns whether there was one."""
    ended = delete(BillingBlock).where(
        BillingBlock.organization_id == organization_id, BillingBlock.actor_id.is_(None)
    )
    if await session.scalar(ended.returning(BillingBlock.organization_id)) is None:
        return False
    await _remember(session, organization_id, blocked=False, reason=reason, actor_id=None)
    return True


async def blocked_reason(session: AsyncSession, organization_id: UUID) -> str | None:
    """Why the customer may not spend; None when it may."""
    return await session.scalar(
        select(BillingBlock.reason).where(BillingBlock.organization_id == organization_id)
    )


def checked_reason(text: str) -> str:
    """`text` without blanks around it. Raises: InvalidRequest unless something is left, and not too much."""
    checked = text.strip()
    if not 1 <= len(checked) <= REASON_CHARACTERS_MAX:
        raise InvalidRequest(
            f"a reason of {len(checked)} characters; give 1 to {REASON_CHARACTERS_MAX}, it is kept for good",
            param="reason",
        )
    return checked


async def _remember(
    session: AsyncSession, organization_id: UUID, *, blocked: bool, reason: str, actor_id: UUID | None
) -> None:
    session.add(
        BillingBlockChange(
            organization_id=organization_id, blocked=blocked, reason=reason, actor_id=actor_id
        )
    )
    await session.flush()
    log.info(
        "customer.blocked" if blocked else "customer.unblocked",
        organization_id=str(organization_id),
        actor_id=str(actor_id),
    )
