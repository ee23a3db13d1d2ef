"""Payments that were held back because they are not what was asked: an administrator decides."""

from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.deposits.blocks import checked_reason
from raymart_billing.deposits.models import Deposit
from raymart_billing.deposits.settle import locked, settle
from raymart_billing.deposits.stripe_facts import CURRENCY
from raymart_core.errors import Conflict

log = structlog.get_logger()


async def credit_held(session: AsyncSession, *, deposit_id: UUID, reason: str, actor_id: UUID) -> Deposit:
    """Credit what was received, though it is not what was asked. Raises: InvalidRequest, NotFound, Conflict.

    A payment in another currency, or one that no refund could find, cannot be credited: pay it back at the processor.
    """
    checked = checked_reason(reason)
    deposit = await locked(session, deposit_id)
    if deposit.held_reason is None:
        raise Conflict("this deposit is not held for review; nothing was changed", param="deposit_id")
    if deposit.received_currency != CURRENCY or not deposit.received_amount or deposit.payment_id is None:
        raise Conflict(
            f"held because {deposit.held_reason}: that cannot be credited; pay it back at the processor",
            param="deposit_id",
        )
    deposit.held_reason = None
    deposit.review_reason, deposit.reviewed_by = checked, actor_id
    await session.flush()
    log.warning("deposit.released", deposit_id=str(deposit_id), actor_id=str(actor_id))
    return await settle(session, deposit_id)
