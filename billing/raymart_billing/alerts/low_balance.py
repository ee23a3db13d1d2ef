"""Low balances: one alert per crossing, cleared when the balance is well above the threshold again.

An organization's threshold is its own, or the platform's. What counts is the posted balance: what is held for running
requests comes and goes, and an alert that followed it would ring with every burst.

The check reads every customer's balance. An index on balances would serve it, and would cost each posting its
heap-only update (`0002_ledger.sql`); the scan costs less: see `tests/bench/low_balance.py`.
"""

from uuid import UUID

import structlog
from sqlalchemy import delete, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.alerts.models import Alert, AlertKind, AlertThreshold
from raymart_billing.work import outbox
from raymart_core.errors import InvalidRequest
from raymart_core.ids import new_id
from raymart_core.money import Asset, Money
from raymart_marketplace.db.session import Sessions, session_scope

log = structlog.get_logger()

DELIVER_TASK = "alerts.deliver"
CLEAR_ABOVE_PERCENT = 120
"""Of the threshold: a balance that swings around it raises one alert, not one each time."""
RAISED_AT_ONCE_MAX = 200
"""By one transaction."""
RAISED_PER_RUN_MAX = 2_000
THRESHOLD_MAX = Money(10**15)
"""A million dollars."""

_LOW = text(
    """
    select b.owner_id, coalesce(own.low_balance_nano_usd, :threshold) as threshold,
           b.credits_posted - b.debits_posted as posted
      from ledger_account b
      join organization o on o.id = b.owner_id and o.kind = 'customer'
      left join alert_threshold own on own.organization_id = b.owner_id
     where b.kind = 'customer_balance' and b.asset = 'usd' and b.credits_posted > 0
       and b.credits_posted - b.debits_posted < coalesce(own.low_balance_nano_usd, :threshold)
       and not exists (
            select from alert a
             where a.organization_id = b.owner_id and a.kind = 'low_balance' and a.cleared_at is null
       )
     limit :raised_max
    """
)
_CLEAR = text(
    """
    update alert a
       set cleared_at = clock_timestamp()
      from ledger_account b
      left join alert_threshold own on own.organization_id = b.owner_id
     where a.kind = 'low_balance' and a.cleared_at is null
       and b.owner_id = a.organization_id and b.kind = 'customer_balance' and b.asset = 'usd'
       -- Divided, not multiplied: a balance near a bigint's end has no room for a percentage.
       and (b.credits_posted - b.debits_posted) / :percent >= coalesce(own.low_balance_nano_usd, :threshold) / 100
    """
)


async def check_low_balances(sessions: Sessions, *, threshold: Money) -> int:
    """Clear the alerts that are over, raise those that are due; returns how many were raised. Idempotent.

    `threshold` is the platform's. Any number may run at once: an open alert is unique.
    """
    async with session_scope(sessions) as session:
        await session.execute(_CLEAR, {"threshold": threshold.amount, "percent": CLEAR_ABOVE_PERCENT})
    raised = 0
    while raised < RAISED_PER_RUN_MAX:
        new = await _raise_some(sessions, threshold)
        raised += new
        if new < RAISED_AT_ONCE_MAX:
            break
    return raised


async def raise_alert(
    session: AsyncSession,
    *,
    organization_id: UUID,
    kind: AlertKind,
    threshold: Money,
    value: Money,
    subject: str = "",
) -> bool:
    """Raise an alert and ask for its delivery, unless one about the same is open; returns whether it is new."""
    made = insert(Alert).values(
        id=new_id(),
        organization_id=organization_id,
        kind=kind,
        subject=subject,
        threshold_nano_usd=threshold.amount,
        value_nano_usd=value.amount,
    )
    alert_id = await session.scalar(
        made.on_conflict_do_nothing(
            index_elements=[Alert.organization_id, Alert.kind, Alert.subject],
            index_where=text("cleared_at is null"),
        ).returning(Alert.id)
    )
    if alert_id is None:
        return False
    await outbox.enqueue(session, task=DELIVER_TASK, subject=str(alert_id), key=str(alert_id))
    log.info("alert.raised", alert_id=str(alert_id), organization_id=str(organization_id), kind=kind.value)
    return True


async def _raise_some(sessions: Sessions, threshold: Money) -> int:
    async with session_scope(sessions) as session:
        low = await session.execute(_LOW, {"threshold": threshold.amount, "raised_max": RAISED_AT_ONCE_MAX})
        return sum(
            [
                await raise_alert(
                    session,
                    organization_id=row.owner_id,
                    kind=AlertKind.LOW_BALANCE,
                    threshold=Money(row.threshold),
                    value=Money(row.posted),
                )
                for row in low.all()
            ]
        )


async def set_threshold(session: AsyncSession, *, organization_id: UUID, threshold: Money | None) -> None:
    """Set the organization's own threshold, 0 for no alerts; None goes back to the platform's. Raises: InvalidRequest."""
    if threshold is None:
        await session.execute(delete(AlertThreshold).where(AlertThreshold.organization_id == organization_id))
        return
    if threshold.asset is not Asset.USD or not 0 <= threshold.amount <= THRESHOLD_MAX.amount:
        raise InvalidRequest(
            f"a threshold of {threshold} is not possible; give 0 to {THRESHOLD_MAX}", param="threshold"
        )
    made = insert(AlertThreshold).values(
        organization_id=organization_id, low_balance_nano_usd=threshold.amount
    )
    await session.execute(
        made.on_conflict_do_update(
            index_elements=[AlertThreshold.organization_id],
            set_={"low_balance_nano_usd": made.excluded.low_balance_nano_usd},
        )
    )


async def threshold_of(session: AsyncSession, organization_id: UUID) -> Money | None:
    """The organization's own threshold; None when the platform's counts."""
    found = await session.scalar(
        select(AlertThreshold.low_balance_nano_usd).where(AlertThreshold.organization_id == organization_id)
    )
    return None if found is None else Money(found)
