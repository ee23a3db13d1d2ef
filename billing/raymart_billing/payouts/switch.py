"""The kill switch: while a stop stands, nothing is approved and nothing is signed. Takes a session, never commits.

A stop waits for signatures under way; from its commit on the database refuses every further one.
"""

from collections.abc import Sequence
from uuid import UUID

import structlog
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.payouts.policy_models import PayoutSwitch, SwitchSource
from raymart_billing.payouts.refusals import in_words
from raymart_core.errors import Conflict
from raymart_marketplace.oversight.reasons import checked_reason

log = structlog.get_logger()


async def standing_stops(session: AsyncSession) -> Sequence[PayoutSwitch]:
    """What stops payouts now, oldest first; at most one of each source."""
    query = select(PayoutSwitch).where(PayoutSwitch.resumed_at.is_(None)).order_by(PayoutSwitch.paused_at)
    return (await session.scalars(query.execution_options(populate_existing=True))).all()


async def pause(
    session: AsyncSession, *, source: SwitchSource, reason: str, actor_id: UUID | None = None
) -> PayoutSwitch:
    """Stop payouts; waits for signatures under way. Raises: InvalidRequest, Conflict when `source` stopped them already."""
    stop = PayoutSwitch(source=source, reason=checked_reason(reason), paused_by=actor_id)
    session.add(stop)
    async with in_words():
        await session.flush()
    log.warning("payouts.paused", source=source.value, reason=stop.reason, actor_id=str(actor_id))
    return stop


async def resume(
    session: AsyncSession, *, source: SwitchSource, reason: str, actor_id: UUID | None = None
) -> PayoutSwitch:
    """End the stop of `source`; another source's stands on. Raises: InvalidRequest, Conflict when there is none."""
    checked = checked_reason(reason)
    stop = await session.scalar(
        select(PayoutSwitch)
        .where(PayoutSwitch.source == source, PayoutSwitch.resumed_at.is_(None))
        .with_for_update()
    )
    if stop is None:
        raise Conflict(f"payouts are not stopped by {source.value}; nothing was changed", param="source")
    stop.resumed_at = await session.scalar(select(func.clock_timestamp()))
    stop.resumed_by, stop.resumed_reason = actor_id, checked
    await session.flush()
    log.warning("payouts.resumed", source=source.value, reason=checked, actor_id=str(actor_id))
    return stop
