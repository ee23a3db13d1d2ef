"""Our rows against each other and against the ledger, where that needs no chain. Read in the reconciliation's snapshot."""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.payouts.reconciliation.differences import Difference, DifferenceKind
from raymart_billing.payouts.reconciliation.facts import NANO_USD_PER_MICRO_USDC

_BATCHES = text(
    """
    select b.id, b.total_micro_usdc, b.payees, coalesce(sum(i.amount_micro_usdc), 0)::bigint as total, count(i.id) as items
      from payout_batch b left join payout_item i on i.batch_id = b.id
     group by b.id
    having b.total_micro_usdc <> coalesce(sum(i.amount_micro_usdc), 0) or b.payees <> count(i.id)
     order by b.id
    """
)
_CLEARING = text(
    r"""
    with ledger as (
        select owner_id as provider_id, credits_posted - debits_posted as nano_usd
          from ledger_account where kind = 'payout_clearing' and asset = 'usd'
    ), items as (
        select provider_id, sum(amount_micro_usdc) * :nano_per_micro as nano_usd
          from payout_item i
         where provider_id is not null and (
            state = 'planned'
            or (state = 'quarantined' and not exists (select from transfer where key = 'payout:' || i.id || '\:returned'))
         )
         group by provider_id
    )
    select provider_id, coalesce(items.nano_usd, 0)::bigint as expected, coalesce(ledger.nano_usd, 0)::bigint as found
      from ledger full join items using (provider_id)
     where coalesce(ledger.nano_usd, 0) <> coalesce(items.nano_usd, 0)
     order by provider_id
    """
)
_CASH = text(
    """
    select coalesce(sum(debits_posted - credits_posted), 0)::bigint
      from ledger_account where kind = 'external_usdc' and asset = 'usd'
    """
)


async def compare_books(session: AsyncSession) -> Sequence[Difference]:
    """Batches against their items, and each provider's clearing account against its items on their way."""
    differences = [
        Difference(
            kind=DifferenceKind.BATCH_TOTAL,
            table="payout_batch",
            row=str(row.id),
            expected=f"{row.total} to {row.items} payees",
            found=f"{row.total_micro_usdc} to {row.payees} payees",
        )
        for row in await session.execute(_BATCHES)
    ]
    differences += [
        Difference(
            kind=DifferenceKind.CLEARING,
            table="ledger_account",
            row=f"payout_clearing of {row.provider_id}",
            expected="the items on their way",
            found=f"{row.found - row.expected:+d} nano-USD",
        )
        for row in await session.execute(_CLEARING, {"nano_per_micro": NANO_USD_PER_MICRO_USDC})
    ]
    return differences


async def cash_on_chain_nano_usd(session: AsyncSession) -> int:
    """What the treasury must hold by the ledger: its mirror, seen from our side."""
    cash: int = (await session.execute(_CASH)).scalar_one()
    return cash


def compare_mirror(
    *, ledger_nano_usd: int, balance_micro_usdc: int, unbooked_micro_usdc: int
) -> Sequence[Difference]:
    """The ledger's cash on chain against the balance. Pure.

    `unbooked_micro_usdc`: changes of the balance by transactions that the ledger had not taken yet when it was read.
    """
    expected = (balance_micro_usdc - unbooked_micro_usdc) * NANO_USD_PER_MICRO_USDC
    if expected == ledger_nano_usd:
        return []
    # As a distance, which stays the same from night to night.
    return [
        Difference(
            kind=DifferenceKind.MIRROR,
            table="ledger_account",
            row="external_usdc",
            expected="the treasury's balance",
            found=f"{ledger_nano_usd - expected:+d} nano-USD",
        )
    ]
