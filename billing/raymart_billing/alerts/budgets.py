"""Budgets that are nearly used, or used up: one alert for each budget, period and step."""

from datetime import date
from uuid import UUID

from sqlalchemy import text

from raymart_billing.alerts.low_balance import raise_alert
from raymart_billing.alerts.models import AlertKind
from raymart_core.money import Money
from raymart_marketplace.db.session import Sessions, session_scope

NEAR_PERCENT = 80
RAISED_PER_RUN_MAX = 1_000

# Divided, not multiplied: a limit may be near a bigint's end.
_USED = text(
    """
    select b.id, b.organization_id, p.starts_on, b.limit_nano_usd, p.spent,
           case when p.spent >= b.limit_nano_usd then 'budget_exhausted' else 'budget_near' end as kind
      from budget b
      join budget_period p on p.budget_id = b.id and p.starts_on = budget_starts_on(b.period, clock_timestamp())
     where p.spent / :near_percent >= b.limit_nano_usd / 100
       and not exists (
            select from alert a
             where a.organization_id = b.organization_id and a.subject = b.id || ':' || p.starts_on
               and a.kind = case when p.spent >= b.limit_nano_usd then 'budget_exhausted' else 'budget_near' end
       )
     limit :raised_max
    """
)
_CLEAR = text(
    """
    update alert a
       set cleared_at = clock_timestamp()
     where a.kind in ('budget_near', 'budget_exhausted') and a.cleared_at is null
       and not exists (
            select from budget b
              join budget_period p on p.budget_id = b.id and p.starts_on = budget_starts_on(b.period, clock_timestamp())
             where a.subject = b.id || ':' || p.starts_on
               and case a.kind when 'budget_exhausted' then p.spent >= b.limit_nano_usd
                               else p.spent / :near_percent >= b.limit_nano_usd / 100 end
       )
    """
)


async def check_budgets(sessions: Sessions) -> int:
    """Clear the alerts of periods that are over and of limits that were raised, raise those that are due.

    Returns how many were raised. Each step of a period is told at most once, also when its limit moves to and fro.
    """
    async with session_scope(sessions) as session:
        await session.execute(_CLEAR, {"near_percent": NEAR_PERCENT})
    async with session_scope(sessions) as session:
        used = (
            await session.execute(_USED, {"near_percent": NEAR_PERCENT, "raised_max": RAISED_PER_RUN_MAX})
        ).all()
        raised = 0
        for row in used:
            raised += await raise_alert(
                session,
                organization_id=row.organization_id,
                kind=AlertKind(row.kind),
                threshold=Money(row.limit_nano_usd),
                value=Money(row.spent),
                subject=subject_of(row.id, row.starts_on),
            )
    return raised


def subject_of(budget_id: UUID, starts_on: date) -> str:
    """What an alert of this budget and period is about."""
    return f"{budget_id}:{starts_on}"
