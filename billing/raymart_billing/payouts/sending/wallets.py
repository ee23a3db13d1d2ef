"""Whether payees still want their money where it was planned to go: a provider may have changed its wallet since.

Days can lie between the planning of a batch and its signing. A wallet that was given up meanwhile, because its key was
stolen or lost, must not be paid; who never chose a wallet (a deposit's payer) has none to change.
"""

from collections.abc import Sequence, Set
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

WALLET_CHANGED = "wallet_changed: since the payment was planned the provider has chosen another wallet, or given this one up"
_OUTDATED = text("""
    select item.id from payout_item item
     where item.id = any(:items)
       and exists (select from payout_wallet w where w.provider_id = item.provider_id)
       and not exists (
           select from payout_wallet w
            where w.provider_id = item.provider_id and w.ended_at is null and w.address = item.wallet
              and w.payable_from <= clock_timestamp() and w.check_state <> 'failed'
       )
""")


async def outdated_items(session: AsyncSession, item_ids: Sequence[UUID]) -> Set[UUID]:
    """Those of the items whose wallet is not the provider's payable one any more. One statement, by indexes."""
    found = await session.execute(_OUTDATED, {"items": list(item_ids)})
    return frozenset(found.scalars())
