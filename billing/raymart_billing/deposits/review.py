"""What is not what it should be: payments held back, and events set aside. An administrator decides."""

from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.deposits.blocks import checked_reason
from raymart_billing.deposits.models import Deposit, EventState, StripeEvent
from raymart_billing.deposits.settle import locked, settle
from raymart_billing.deposits.stripe_facts import CURRENCY
from raymart_core.errors import Conflict, NotFound

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


async def resolve_event(session: AsyncSession, *, event_id: str, reason: str, actor_id: UUID) -> StripeEvent:
    """Note that an event in review has been seen to; it moves nothing. Raises: InvalidRequest, NotFound, Conflict."""
    checked = checked_reason(reason)
    event = await session.get(StripeEvent, event_id, with_for_update=True, populate_existing=True)
    if event is None:
        raise NotFound(f"there is no event {event_id[:100]!r}", param="event_id")
    if event.state is not EventState.REVIEW:
        raise Conflict(
            f"event {event_id} is {event.state.value}, not in review; nothing was changed", param="event_id"
        )
    event.state, event.resolution, event.resolved_by = EventState.RESOLVED, checked, actor_id
    await session.flush()
    log.info("stripe_event.resolved", event_id=event_id, actor_id=str(actor_id))
    return event
