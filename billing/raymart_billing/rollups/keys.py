"""What one API key has spent, from the rollups."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, cast, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.rollups.models import UsageDayPart
from raymart_core.money import Money


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySpending:
    """Sums of what was billed for a key. Days, weeks (from Monday) and months are those of UTC, by the database's clock."""

    ever: Money
    this_day: Money
    this_week: Money
    this_month: Money


async def spending_of_key(session: AsyncSession, *, organization_id: UUID, api_key_id: UUID) -> KeySpending:
    """What the organization's key has spent, in one statement; requests that are still being posted are not in it."""
    amount = UsageDayPart.customer_nano_usd

    def since(unit: str) -> ColumnElement[int]:
        start = func.date_trunc(unit, func.timezone("UTC", func.clock_timestamp()))
        return _sum(func.sum(amount).filter(UsageDayPart.day >= start))

    statement = select(_sum(func.sum(amount)), since("day"), since("week"), since("month")).where(
        UsageDayPart.organization_id == organization_id,
        UsageDayPart.api_key_id == api_key_id,
        # Of the parts of days, those that are apart by key.
        UsageDayPart.revision_id.is_(None),
    )
    ever, this_day, this_week, this_month = (await session.execute(statement)).one()
    return KeySpending(
        ever=Money(ever),
        this_day=Money(this_day),
        this_week=Money(this_week),
        this_month=Money(this_month),
    )


def _sum(value: ColumnElement[int]) -> ColumnElement[int]:
    return cast(func.coalesce(value, 0), BigInteger)
