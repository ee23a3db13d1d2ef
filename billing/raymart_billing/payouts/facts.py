"""What is known of the payees of a batch, read in one statement for a page of them."""

from collections.abc import Collection, Mapping
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.payouts.holdback import TRUST_NEUTRAL
from raymart_billing.payouts.outliers import ItemFacts
from raymart_core.money import Asset, Money

HISTORY_MAX: Final = 12
"""Earlier payouts that are looked at."""

_FACTS = text("""
    select i.id, i.amount_micro_usdc, coalesce(t.score, :neutral) as trust,
           h.payouts, h.average, h.is_known, coalesce(w.address = i.wallet, i.provider_id is null) as is_present,
           coalesce(w.warnings, '{}') as warnings, f.flags,
           coalesce(e.gross_nano_usd, 0) as gross, coalesce(e.clawback_nano_usd, 0) as clawback
      from payout_item i
      left join provider_trust t on t.provider_id = i.provider_id
      left join earning e on e.provider_id = i.provider_id and e.epoch_id = i.epoch_id
      left join payout_wallet w on w.provider_id = i.provider_id and w.ended_at is null
      cross join lateral (
        select count(*) as payouts, round(avg(p.amount_micro_usdc))::bigint as average,
               coalesce(bool_or(p.wallet = i.wallet), false) as is_known
          from (
            select amount_micro_usdc, wallet from payout_item
             where provider_id = i.provider_id and state = 'paid' and id <> i.id
             order by id desc limit :history
          ) p
      ) h
      cross join lateral (
        select count(*) as flags from usage_flag where provider_id = i.provider_id and cleared_at is null
      ) f
     where i.id = any (cast(:items as uuid[]))
""")


async def facts_of(session: AsyncSession, item_ids: Collection[UUID]) -> Mapping[UUID, ItemFacts]:
    """What is known of each item at this moment."""
    values = {"items": list(item_ids), "neutral": TRUST_NEUTRAL, "history": HISTORY_MAX}
    return {
        row.id: ItemFacts(
            amount=Money(row.amount_micro_usdc, Asset.USDC),
            trust=row.trust,
            payouts_before=row.payouts,
            average_before=None if row.average is None else Money(row.average, Asset.USDC),
            is_known_wallet=row.is_known,
            is_present_wallet=row.is_present,
            wallet_warnings=tuple(row.warnings),
            usage_flags=row.flags,
            gross=Money(row.gross),
            clawed_back=Money(row.clawback),
        )
        for row in await session.execute(_FACTS, values)
    }
