"""Low balances are told once per crossing."""

import asyncio

import pytest
from sqlalchemy import select

from raymart_billing.alerts import Alert, AlertKind, check_low_balances, set_threshold, threshold_of
from raymart_billing.work.models import OutboxItem
from raymart_core.errors import InvalidRequest
from raymart_core.money import Asset, Money
from raymart_marketplace.db.session import session_scope
from support.card_market import CENT, CardCustomer, CardMarket

FIVE_DOLLARS = Money(500 * CENT)


async def check(market: CardMarket) -> None:
    await check_low_balances(market.sessions, threshold=FIVE_DOLLARS)


async def alerts(market: CardMarket, customer: CardCustomer) -> list[Alert]:
    async with session_scope(market.sessions) as session:
        query = select(Alert).where(Alert.organization_id == customer.organization_id).order_by(Alert.id)
        return list(await session.scalars(query))


class TestCrossing:
    async def test_is_told_once_and_again_only_after_it_was_over(
        self, market: CardMarket, customer: CardCustomer
    ):
        await market.paid(customer, 1_000)
        await check(market)
        assert await alerts(market, customer) == []
        await market.spend(customer, 501)
        for _ in range(3):
            await check(market)
        [alert] = await alerts(market, customer)
        assert (alert.kind, alert.value_nano_usd, alert.threshold_nano_usd) == (
            AlertKind.LOW_BALANCE, 499 * CENT, 500 * CENT,
        )  # fmt: skip
        await market.paid(customer, 500)
        await check(market)
        [alert] = await alerts(market, customer)
        assert alert.cleared_at is not None
        await market.spend(customer, 600)
        await check(market)
        assert len(await alerts(market, customer)) == 2

    async def test_swinging_around_the_threshold_is_one_alert(
        self, market: CardMarket, customer: CardCustomer
    ):
        """It is over only at 120 % of the threshold."""
        await market.paid(customer, 510)
        for _ in range(3):
            await market.spend(customer, 20)
            await check(market)
            await grow(market, customer, 20)
            await check(market)
        assert [alert.cleared_at for alert in await alerts(market, customer)] == [None]
        await grow(market, customer, 89)
        await check(market)
        assert [alert.cleared_at for alert in await alerts(market, customer)] == [None]
        await grow(market, customer, 1)
        await check(market)
        assert [alert.cleared_at is None for alert in await alerts(market, customer)] == [False]

    async def test_many_checks_at_once_raise_one(self, market: CardMarket, customer: CardCustomer):
        await market.paid(customer, 500)
        await market.spend(customer, 1)
        await asyncio.gather(*(check(market) for _ in range(6)))
        [alert] = await alerts(market, customer)
        async with session_scope(market.sessions) as session:
            asked = await session.scalars(select(OutboxItem).where(OutboxItem.subject == str(alert.id)))
            assert len(asked.all()) == 1

    async def test_what_is_held_does_not_count(self, market: CardMarket, customer: CardCustomer):
        await market.paid(customer, 1_000)
        await market.hold(customer, 900)
        await check(market)
        assert await alerts(market, customer) == []

    async def test_customer_that_never_had_money_is_left_alone(
        self, market: CardMarket, customer: CardCustomer
    ):
        await market.deposit(customer)
        await check(market)
        assert await alerts(market, customer) == []


class TestThreshold:
    async def test_own_one_counts_in_place_of_the_platforms(self, market: CardMarket, customer: CardCustomer):
        await market.paid(customer, 1_000)
        async with session_scope(market.sessions) as session:
            await set_threshold(
                session, organization_id=customer.organization_id, threshold=Money(2_000 * CENT)
            )
        await check(market)
        assert len(await alerts(market, customer)) == 1
        async with session_scope(market.sessions) as session:
            await set_threshold(session, organization_id=customer.organization_id, threshold=Money(0))
        await check(market)
        [alert] = await alerts(market, customer)
        assert alert.cleared_at is not None, "turned off"
        async with session_scope(market.sessions) as session:
            await set_threshold(session, organization_id=customer.organization_id, threshold=None)
            assert await threshold_of(session, customer.organization_id) is None

    @pytest.mark.parametrize("threshold", [Money(-1), Money(10**15 + 1), Money(1, Asset.USDC)])
    async def test_what_is_none_is_refused(
        self, market: CardMarket, customer: CardCustomer, threshold: Money
    ):
        async with session_scope(market.sessions) as session:
            with pytest.raises(InvalidRequest):
                await set_threshold(session, organization_id=customer.organization_id, threshold=threshold)


async def grow(market: CardMarket, customer: CardCustomer, cents: int) -> None:
    from tests.billing.credits.test_adjustments import adjust

    await adjust(market, customer, Money(cents * CENT))
