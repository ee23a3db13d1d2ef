"""What the parts of one round share when they are prepared, asked for once and only if one of them is."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text

from raymart_billing.payouts.sending.drafting import Going
from raymart_billing.payouts.sending.preflight import Rents
from raymart_billing.payouts.sending.purse import Purse
from raymart_billing.solana.chain import Chain
from raymart_billing.solana.token_accounts import TOKEN_ACCOUNT_BYTES
from raymart_billing.solana.transactions import FEE_LAMPORTS_PER_SIGNATURE
from raymart_marketplace.db.session import Sessions, session_scope

_IN_FLIGHT = text("""
    select coalesce(sum(part.total_micro_usdc) filter (where live.marked), 0)::bigint as micro_usdc,
           count(*) filter (where live.marked) as marked,
           coalesce(sum(live.opening), 0)::bigint as opening,
           coalesce(sum(live.priority), 0)::bigint as priority,
           coalesce(sum(live.attempts), 0)::bigint as attempts
      from payout_part part join payout_batch batch on batch.id = part.batch_id and batch.mint = :mint
      cross join lateral (
        select bool_or(purpose <> 'open') as marked, sum(cardinality(opens)) as opening,
               sum(priority_fee_lamports) as priority, count(*) as attempts
          from payout_attempt where part_id = part.id and state = 'live'
      ) live
     where part.state in ('planned', 'signed', 'submitted', 'held') and part.id <> all(:preparing)
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """What preparing needs."""

    going: Going
    rents: Rents
    purse: Purse
    is_treasury_frozen: bool


class Supplies:
    """The supply of one round."""

    def __init__(self, sessions: Sessions, chain: Chain, preparing: Collection[UUID]) -> None:
        self._sessions = sessions
        self._chain = chain
        self._preparing = list(preparing)
        self._asking = asyncio.Lock()
        self._supply: Supply | None = None

    async def get(self) -> Supply:
        """The supply, asked for by the first who needs it. Raises: RpcError."""
        async with self._asking:
            if self._supply is None:
                self._supply = await self._ask()
            return self._supply

    async def _ask(self) -> Supply:
        rpc = self._chain.rpc
        rents = Rents(
            marker=await rpc.rent_exempt(0), token_account=await rpc.rent_exempt(TOKEN_ACCOUNT_BYTES)
        )
        async with session_scope(self._sessions) as session:
            # Before the balance: what becomes final in between is then set aside once more, never once less.
            flying = (
                await session.execute(
                    _IN_FLIGHT, {"preparing": self._preparing, "mint": str(self._chain.mint)}
                )
            ).one()
        funds = await self._chain.funds(commitment="finalized")
        lamports = (
            flying.marked * rents.marker
            + flying.opening * rents.token_account
            + flying.attempts * FEE_LAMPORTS_PER_SIGNATURE
            + flying.priority
        )
        return Supply(
            going=Going(
                blockhash=await rpc.latest_blockhash(),
                price_micro_lamports=await rpc.recent_priority_fee([self._chain.treasury_token_account]),
                marker_rent_lamports=rents.marker,
            ),
            rents=rents,
            purse=Purse(funds, in_flight_lamports=lamports, in_flight_micro_usdc=flying.micro_usdc),
            is_treasury_frozen=funds.is_frozen,
        )
