"""Corrections by hand."""

import asyncio

import pytest

from raymart_billing.credits import BalanceAdjustment, adjust_balance
from raymart_core.errors import Conflict, DomainError, InsufficientFunds, InvalidRequest
from raymart_core.ids import new_id
from raymart_core.money import Asset, Money
from raymart_marketplace.db.session import session_scope
from support.card_market import CENT, CardCustomer, CardMarket


async def adjust(
    market: CardMarket, customer: CardCustomer, change: Money, *, key: str | None = None, reason: str = "r"
) -> BalanceAdjustment:
    async with session_scope(market.sessions) as session:
        return await adjust_balance(
            session,
            organization_id=customer.organization_id,
            change=change,
            key=key or new_id().hex,
            reason=reason,
            actor_id=customer.user_id,
        )


class TestAdjustBalance:
    async def test_both_ways(self, market: CardMarket, customer: CardCustomer):
        await adjust(market, customer, Money(500 * CENT))
        await adjust(market, customer, Money(-200 * CENT))
        assert await market.transfers(customer) == [("adjustment_credit", 500), ("adjustment_debit", 200)]
        assert await market.balances(customer) == {"customer_balance": 300}

    async def test_never_below_zero_nor_into_what_is_held(self, market: CardMarket, customer: CardCustomer):
        await adjust(market, customer, Money(500 * CENT))
        await market.hold(customer, 400)
        with pytest.raises(InsufficientFunds):
            await adjust(market, customer, Money(-101 * CENT))
        await adjust(market, customer, Money(-100 * CENT))

    async def test_same_key_adjusts_once(self, market: CardMarket, customer: CardCustomer):
        key = new_id().hex
        answers = await asyncio.gather(
            *(adjust(market, customer, Money(500 * CENT), key=key) for _ in range(6))
        )
        assert len({answer.id for answer in answers}) == 1
        assert await market.balances(customer) == {"customer_balance": 500}
        with pytest.raises(Conflict):
            await adjust(market, customer, Money(501 * CENT), key=key)

    @pytest.mark.parametrize("change", [Money(0), Money(1, Asset.USDC), Money(2**63 - 1)])
    async def test_what_cannot_be(self, market: CardMarket, customer: CardCustomer, change: Money):
        await adjust(market, customer, Money(CENT))
        with pytest.raises(DomainError):
            await adjust(market, customer, change)

    @pytest.mark.parametrize("reason", ["", "   ", "x" * 501])
    async def test_without_a_reason(self, market: CardMarket, customer: CardCustomer, reason: str):
        with pytest.raises(InvalidRequest) as refusal:
            await adjust(market, customer, Money(CENT), reason=reason)
        assert refusal.value.param == "reason"

    @pytest.mark.parametrize(
        "statement",
        [
            "update balance_adjustment set reason = 'x'",
            "delete from balance_adjustment",
            "truncate balance_adjustment",
        ],
    )
    async def test_what_was_done_cannot_be_rewritten(
        self, market: CardMarket, customer: CardCustomer, statement: str
    ):
        await adjust(market, customer, Money(CENT))
        assert await market.refusal(statement)
