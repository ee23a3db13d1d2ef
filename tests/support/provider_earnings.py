"""Providers that earn: with proven wallets, real movements in the ledger, and what the books say of them."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from raymart_billing.connections import Pool
from raymart_core.ids import new_id
from raymart_marketplace.db.session import Sessions
from support.books import Books, fetch
from support.payout_wallets import Payee, make_paid_payee

USD = 1_000_000_000


class Money(NamedTuple):
    """A provider's accounts, in nano-USD."""

    payable: int
    reserve: int
    clearing: int


class Earners:
    """One customer with enough money, and providers that serve it."""

    def __init__(self, pool: Pool, sessions: Sessions) -> None:
        self.books = Books(pool)
        self.sessions = sessions
        self.is_funded = False

    async def provider(self) -> Payee:
        """A provider with a wallet that may be paid."""
        return await make_paid_payee(self.sessions)

    async def earn(self, payee: Payee, amount: int) -> UUID:
        """Usage of which the provider gets `amount` nano-USD; returns its request."""
        if not self.is_funded:
            await self.books.fund(1_000_000 * USD)
            self.is_funded = True
        request_id = new_id()
        await self.books.fetch(
            "select * from ledger_capture_usage(%s, %s, %s, %s::bigint[], %s::bigint[], %s::bigint[])",
            [request_id],
            [self.books.organization_id],
            [payee.provider_id],
            [amount],
            [amount],
            [0],
        )
        return request_id

    async def claw_back(self, payee: Payee, amount: int) -> None:
        """A refund that the provider bears."""
        await self.move(payee, "provider_payable", "platform_refund", amount, "refund_clawback")

    async def move(self, payee: Payee, debit: str, credit: str, amount: int, code: str) -> None:
        """Any movement between an account of the provider's and another."""
        async with self.books.pool.connection() as connection:
            ids = [
                (
                    await fetch(
                        connection,
                        "select ledger_open_account(%s, %s::uuid, 'usd')",
                        kind,
                        None if kind.startswith(("platform", "external")) else payee.provider_id,
                    )
                )[0][0]
                for kind in (debit, credit)
            ]
            await fetch(
                connection,
                "select ledger_post_batch(%s, %s, %s, %s, %s)",
                [f"test:{new_id()}"],
                [ids[0]],
                [ids[1]],
                [amount],
                [code],
            )

    async def money(self, payee: Payee) -> Money:
        """What the ledger says."""
        rows = await self.books.fetch(
            "select kind, credits_posted - debits_posted from ledger_account where owner_id = %s",
            payee.provider_id,
        )
        found = dict(rows)
        return Money(
            *(found.get(kind, 0) for kind in ("provider_payable", "provider_reserve", "payout_clearing"))
        )

    async def items(self, payee: Payee, state: str = "planned") -> Sequence[int]:
        """Micro-USDC of the provider's items."""
        rows = await self.books.fetch(
            "select amount_micro_usdc from payout_item where provider_id = %s and state = %s order by id",
            payee.provider_id,
            state,
        )
        return [amount for (amount,) in rows]

    async def unpaid_reason(self, payee: Payee) -> str | None:
        """Of the newest earning."""
        rows = await self.books.fetch(
            "select unpaid_reason from earning where provider_id = %s order by id desc limit 1",
            payee.provider_id,
        )
        return rows[0][0] if rows else None
