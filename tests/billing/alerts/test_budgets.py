"""Budgets that are nearly used, or used up."""

import psycopg
from sqlalchemy import select, text

from raymart_billing.alerts import Alert, AlertKind, check_budgets
from raymart_core.ids import new_id
from raymart_marketplace.db.session import session_scope
from support.card_market import CardCustomer, CardMarket

_COUNT = """
    insert into budget_period (budget_id, starts_on, spent)
    values (%s, budget_starts_on('monthly', clock_timestamp()), %s)
    on conflict (budget_id, starts_on) do update set spent = excluded.spent
"""


async def spend(
    market: CardMarket, customer: CardCustomer, owner_url: str, spent: int, *, limit: int = 1_000
) -> None:
    """A monthly budget of the organization, and what counts against it, past the lease functions: as the owner."""
    owner = customer.organization_id
    async with session_scope(market.sessions) as session:
        budget_id = await session.scalar(
            text("select budget_set(:id, :owner, 'organization', :owner, 'monthly', :limit, null)"),
            {"id": new_id(), "owner": owner, "limit": limit},
        )
    async with await psycopg.AsyncConnection.connect(owner_url) as connection:
        await connection.execute("set local search_path = public, lease_writer, pg_temp")
        await connection.execute(_COUNT, (budget_id, spent))


async def kinds(market: CardMarket, customer: CardCustomer) -> list[tuple[AlertKind, bool]]:
    """Kind and whether it stands, as they were raised."""
    async with session_scope(market.sessions) as session:
        query = select(Alert).where(Alert.organization_id == customer.organization_id).order_by(Alert.id)
        return [(alert.kind, alert.cleared_at is None) for alert in await session.scalars(query)]


class TestCheckBudgets:
    async def test_each_step_is_told_once(self, market: CardMarket, customer: CardCustomer, owner_url: str):
        await spend(market, customer, owner_url, 799)
        await check_budgets(market.sessions)
        assert await kinds(market, customer) == []
        for spent in (800, 900, 999):
            await spend(market, customer, owner_url, spent)
            await check_budgets(market.sessions)
        assert await kinds(market, customer) == [(AlertKind.BUDGET_NEAR, True)]
        for spent in (1_000, 1_200):
            await spend(market, customer, owner_url, spent)
            await check_budgets(market.sessions)
        assert await kinds(market, customer) == [
            (AlertKind.BUDGET_NEAR, True),
            (AlertKind.BUDGET_EXHAUSTED, True),
        ]

    async def test_limit_that_is_raised_clears_them(
        self, market: CardMarket, customer: CardCustomer, owner_url: str
    ):
        await spend(market, customer, owner_url, 1_000)
        await check_budgets(market.sessions)
        await spend(market, customer, owner_url, 1_000, limit=5_000)
        await check_budgets(market.sessions)
        assert await kinds(market, customer) == [(AlertKind.BUDGET_EXHAUSTED, False)]
