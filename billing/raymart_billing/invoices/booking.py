"""What the ledger booked on a customer's balance in a range, and the usage behind it. Reads only.

One statement is one snapshot: a usage record is marked as posted by the transaction that writes its transfers, so
both are in it or neither is. The difference between what the usage adds up to and what the ledger took is therefore
zero, or something is wrong.

Usage is counted by its month of arrival, less what earlier invoices have counted of that month: what was posted late
is on the next invoice, never lost and never twice, and no clock decides it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.units import Unit

TRANSFERS_LISTED_MAX = 200
"""Transfers of one code that get a line each; of more there is one line with their sum."""


class Movement(msgspec.Struct, frozen=True, kw_only=True):
    """Transfers of one code: one of them, or all when there are too many to list."""

    code: str
    change: int
    """Of the balance, nano-USD."""
    transfers: int
    booked_at: datetime | None
    """None for several."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What one model delivered in one unit at one price, that no invoice has counted yet."""

    month: date
    model_id: UUID
    model: str
    unit: str
    scale: int
    price: int
    """Nano-USD for one unit."""
    requests: int
    quantity: int
    """As measured: `scale` of it is one unit."""
    amount: int
    """Nano-USD; each request's part was rounded down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Booking:
    """A range of one balance. `difference` must be zero."""

    up_to_transfer_id: int
    opening: int
    closing: int
    charged: int
    """Of usage, to the balance."""
    waived: int
    """Of usage, to nobody: the platform's loss."""
    waived_transfers: int
    movements: Sequence[Movement]
    """All that is not usage."""
    usage: Sequence[Usage]

    @property
    def difference(self) -> int:
        """What the usage adds up to, less what the ledger took for it; nano-USD."""
        return sum(used.amount for used in self.usage) - self.charged - self.waived


async def read_booking(
    session: AsyncSession,
    organization_id: UUID,
    *,
    after_transfer_id: int,
    until: datetime | None,
    usage_from: date,
    usage_to: date,
) -> Booking:
    """What was booked after a transfer and, by the database's clock, before `until` (None: to this moment).

    `usage_from`, `usage_to`: first days of the first and the last month whose requests are looked at.
    """
    row = (
        await session.execute(
            _BOOKING,
            {
                "organization": organization_id,
                "after": after_transfer_id,
                "until": until,
                "usage_from": usage_from,
                "usage_to": usage_to,
                "listed_max": TRANSFERS_LISTED_MAX,
            },
        )
    ).one()
    return Booking(
        up_to_transfer_id=row.up_to,
        opening=int(row.closing - row.changed),
        closing=int(row.closing),
        charged=int(row.charged),
        waived=int(row.waived),
        waived_transfers=row.waived_transfers,
        movements=msgspec.convert(row.movements, list[Movement]),
        usage=msgspec.convert(row.usage, list[Usage]),
    )


_PARTS = ",\n            ".join(
    f"('{unit.value}', {unit.scale}::bigint, {quantity}, u.{price})"
    for unit, quantity, price in (
        (Unit.TOKEN_PROMPT, "u.tokens_prompt - u.tokens_cached", "price_prompt_nano_usd"),
        (Unit.TOKEN_CACHED, "u.tokens_cached", "price_cached_nano_usd"),
        (Unit.TOKEN_COMPLETION, "u.tokens_completion", "price_completion_nano_usd"),
        (Unit.IMAGE_MEGAPIXEL_STEP, "u.image_pixel_steps", "price_megapixel_step_nano_usd"),
        (Unit.GPU_SECOND, "u.gpu_ms", "price_gpu_second_nano_usd"),
        (Unit.REQUEST, "u.requests_priced", "price_request_nano_usd"),
    )
)

# A request as such is worth a line only where it has a price.
_BOOKING = text(
    f"""
    with balance as materialized (
        select id, credits_posted - debits_posted as posted from ledger_account
         where kind = 'customer_balance' and owner_id = :organization and asset = 'usd'
    ), booked as materialized (
        select t.id, t.code, t.amount as change, 0::bigint as waived, t.created_at
          from balance join transfer t on t.credit_account_id = balance.id
         where t.state = 'posted' and t.id > :after
        union all
        select t.id, t.code, -t.amount, 0, t.created_at
          from balance join transfer t on t.debit_account_id = balance.id
         where t.state = 'posted' and t.id > :after
        union all
        select t.id, t.code, 0, t.amount, t.created_at
          from ledger_account clearing
          join transfer t on t.credit_account_id = clearing.id
         where clearing.kind = 'usage_clearing' and clearing.owner_id = :organization and clearing.asset = 'usd'
           and t.state = 'posted' and t.id > :after and t.code = 'usage_shortfall'
    ), cut as materialized (
        select coalesce(max(id), :after) as id from booked
         where cast(:until as timestamptz) is null or created_at < cast(:until as timestamptz)
    ), mine as (
        select booked.* from booked, cut where booked.id <= cut.id
    ), code as (
        select code, sum(change) as change, count(*) as transfers from mine
         where change <> 0 and code <> 'usage_charge'
         group by code
    ), movement as (
        select code, change::bigint as change, transfers, null::timestamptz as booked_at, max_id
          from (
            select code.*, (select max(id) from mine where mine.code = code.code) as max_id from code
             where transfers > :listed_max
          ) many
        union all
        select mine.code, mine.change, 1, mine.created_at, mine.id
          from mine join code on code.code = mine.code
         where code.transfers <= :listed_max
    ), month as materialized (
        select first.day::date as day, usage_first_id(first.day) as low,
               usage_first_id(first.day + interval '1 month') as high
          from generate_series(cast(:usage_from as timestamp), cast(:usage_to as timestamp), interval '1 month') first (day)
    ), used_by_revision as (
        select month.day, u.revision_id, part.unit, part.scale, part.price, count(*) as requests,
               sum(part.quantity) as quantity, sum(part.quantity * part.price / part.scale) as amount
          from month
          join usage_record u on u.organization_id = :organization and u.id >= month.low and u.id < month.high
           and u.posted_at < coalesce(cast(:until as timestamptz), 'infinity')
         cross join lateral (values
            {_PARTS}
         ) part (unit, scale, quantity, price)
         where part.quantity > 0 and (part.price > 0 or part.unit <> '{Unit.REQUEST.value}')
         group by month.day, u.revision_id, part.unit, part.scale, part.price
    ), used as (
        select used.day, coalesce(r.model_id, used.revision_id) as model_id, used.unit, used.scale, used.price,
               sum(used.requests) as requests, sum(used.quantity) as quantity, sum(used.amount) as amount
          from used_by_revision used
          left join model_revision r on r.id = used.revision_id
         group by 1, 2, 3, 4, 5
    ), counted as (
        select l.usage_month as day, l.model_id, l.unit, l.scale, l.unit_price_nano_usd as price,
               sum(l.transfers) as requests, sum(l.quantity) as quantity, -sum(l.amount_nano_usd) as amount
          from invoice i
          join invoice_line l on l.invoice_id = i.id
         where i.organization_id = :organization and i.state = 'final' and l.unit is not null
           and l.usage_month >= cast(:usage_from as date)
         group by l.usage_month, l.model_id, l.unit, l.scale, l.unit_price_nano_usd
    ), fresh as (
        select day as month, model_id, unit, scale, price,
               (coalesce(used.requests, 0) - coalesce(counted.requests, 0))::bigint as requests,
               (coalesce(used.quantity, 0) - coalesce(counted.quantity, 0))::bigint as quantity,
               (coalesce(used.amount, 0) - coalesce(counted.amount, 0))::bigint as amount
          from used full join counted using (day, model_id, unit, scale, price)
    ), usage as (
        select fresh.*, coalesce(m.slug, fresh.model_id::text) as model
          from fresh
          left join model m on m.id = fresh.model_id
         where fresh.quantity <> 0 or fresh.amount <> 0
    )
    select cut.id as up_to,
           coalesce((select posted from balance), 0)
           - coalesce((select sum(booked.change) from booked where booked.id > cut.id), 0) as closing,
           coalesce((select sum(change) from mine), 0) as changed,
           coalesce((select -sum(change) from mine where code = 'usage_charge'), 0) as charged,
           coalesce((select sum(waived) from mine), 0) as waived,
           (select count(*) from mine where waived > 0) as waived_transfers,
           (select coalesce(jsonb_agg(to_jsonb(movement) - 'max_id' order by max_id), '[]') from movement) as movements,
           (select coalesce(jsonb_agg(to_jsonb(usage) order by month, model, unit, price), '[]') from usage)
               as usage
      from cut
    """  # noqa: S608 - only names of ours are put in
)
