"""Epochs: spans of time that join, each written down when it is over. Takes a session, never commits."""

from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.ledger.models import AccountKind, LedgerAccount
from raymart_billing.payouts.models import Epoch

log = structlog.get_logger()

GRID_FROM = datetime(2024, 1, 1, tzinfo=UTC)
"""A Monday: epochs of a week end on Mondays at 00:00 UTC, those of a day at midnight."""
# Also taken by the trigger; here before the newest epoch is read.
_LOCK = text("select pg_advisory_xact_lock(hashtextextended('payout_epoch', 0))")


def boundary_before(moment: datetime, *, epoch_hours: int) -> datetime:
    """The last moment up to `moment` at which an epoch of so many hours ends."""
    length = timedelta(hours=epoch_hours)
    return GRID_FROM + (moment - GRID_FROM) // length * length


async def newest_epoch(session: AsyncSession) -> Epoch | None:
    """The last one that is over; None before the first."""
    return (await session.scalars(select(Epoch).order_by(Epoch.number.desc()).limit(1))).one_or_none()


async def close_due_epoch(session: AsyncSession, *, epoch_hours: int) -> Epoch | None:
    """Write down the epoch that ended at the last boundary; None when that was done, or nobody has earned before it."""
    now = await _lock(session)
    return await _close(
        session, ends_at=boundary_before(now, epoch_hours=epoch_hours), epoch_hours=epoch_hours
    )


async def close_epoch_now(session: AsyncSession, *, epoch_hours: int) -> Epoch | None:
    """End the running epoch at this moment; None when nobody has earned yet."""
    now = await _lock(session)
    return await _close(session, ends_at=now, epoch_hours=epoch_hours)


async def _lock(session: AsyncSession) -> datetime:
    """The database's time, once nobody else closes an epoch."""
    await session.execute(_LOCK)
    now: datetime | None = await session.scalar(select(func.clock_timestamp()))
    assert now is not None, "a clock has a time"
    return now


async def _close(session: AsyncSession, *, ends_at: datetime, epoch_hours: int) -> Epoch | None:
    last = await newest_epoch(session)
    first_earned = await session.scalar(
        select(func.min(LedgerAccount.created_at)).where(LedgerAccount.kind == AccountKind.PROVIDER_PAYABLE)
    )
    if first_earned is None or first_earned >= ends_at or (last is not None and last.ends_at >= ends_at):
        return None
    begin = min(first_earned, ends_at - timedelta(hours=epoch_hours))
    epoch = Epoch(
        number=1 if last is None else last.number + 1,
        starts_at=begin if last is None else last.ends_at,
        ends_at=ends_at,
    )
    session.add(epoch)
    await session.flush()
    log.info("epoch.ended", number=epoch.number, ends_at=ends_at.isoformat())
    return epoch
