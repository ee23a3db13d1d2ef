"""What the month-end work has to do: which customers' months are over and not drawn up, which drafts have waited enough.

Both are read from the rows, never from a schedule: a month that was missed while everything was down is found later,
and several are drawn up one after the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

DUE_BATCH_MAX = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class DueDraft:
    """A month of a customer that is over and has bookings that no invoice has."""

    organization_id: UUID
    period_start: date


async def due_drafts(
    session: AsyncSession, *, after: UUID | None = None, limit: int = DUE_BATCH_MAX
) -> Sequence[DueDraft]:
    """Up to `limit` of them, one a customer, by the customer's id after `after`. A customer with a draft has none."""
    rows = await session.execute(_DUE_DRAFTS, {"after": after or UUID(int=0), "limit": limit})
    return [DueDraft(organization_id=row.owner_id, period_start=row.period_start) for row in rows]


async def due_drafts_to_finalize(
    session: AsyncSession, *, grace: timedelta, after: UUID | None = None, limit: int = DUE_BATCH_MAX
) -> Sequence[UUID]:
    """Up to `limit` drafts that are older than `grace` by the database's clock, by id after `after`."""
    rows = await session.execute(_DUE_FINALS, {"grace": grace, "after": after or UUID(int=0), "limit": limit})
    return [row.id for row in rows]


# The month of the first booking that no invoice has, but never a month that has an invoice already: a clock that went
# back must not stop the invoices.
_DUE_DRAFTS = text(
    """
    select a.owner_id, due.period_start
      from ledger_account a
      join organization o on o.id = a.owner_id
      left join lateral (
        select up_to_transfer_id, period_end, state from invoice i
         where i.organization_id = a.owner_id and i.state <> 'void'
         order by i.period_start desc
         limit 1
      ) last on true
      cross join lateral (
        select created_at
          from (
            (select id, created_at from transfer
              where credit_account_id = a.id and state = 'posted' and id > coalesce(last.up_to_transfer_id, 0)
              order by id limit 1)
            union all
            (select id, created_at from transfer
              where debit_account_id = a.id and state = 'posted' and id > coalesce(last.up_to_transfer_id, 0)
              order by id limit 1)
          ) side
         order by id
         limit 1
      ) first
      cross join lateral (
        select greatest(date_trunc('month', first.created_at at time zone 'UTC')::date, last.period_end) as period_start
      ) due
     where a.kind = 'customer_balance' and a.asset = 'usd' and a.owner_id > :after
       and last.state is distinct from 'draft'
       and due.period_start < date_trunc('month', clock_timestamp() at time zone 'UTC')::date
     order by a.owner_id
     limit :limit
    """
)
_DUE_FINALS = text(
    """
    select id from invoice
     where state = 'draft' and created_at + cast(:grace as interval) <= clock_timestamp() and id > :after
     order by id
     limit :limit
    """
)
