"""What the webhooks did not tell is asked for, and goes the same way."""

import asyncio
from datetime import timedelta

from sqlalchemy import text, update

from raymart_billing.deposits import Deposit, DepositState, check_deposits, replay_events
from raymart_marketplace.db.session import session_scope
from support.card_market import CENT, CardCustomer, CardMarket

AT_ONCE = timedelta(0)


class TestCheckDeposits:
    async def test_lost_webhook_of_a_payment_is_made_up_for(self, market: CardMarket, customer: CardCustomer):
        deposit = await market.deposit(customer, 2_000)
        market.stripe.pay(deposit.session_id)
        assert await check(market) >= 1
        deposit = await market.now(deposit)
        assert deposit.state is DepositState.CREDITED
        assert deposit.fee_nano_usd == 59 * CENT, "the fee comes with the same question"

    async def test_webhook_that_comes_after_all_credits_nothing_more(
        self, market: CardMarket, customer: CardCustomer
    ):
        deposit = await market.deposit(customer, 2_000)
        event = market.stripe.pay(deposit.session_id)
        await asyncio.gather(check(market), market.hear(event), check(market))
        assert await market.balances(customer) == {"customer_balance": 2_000}

    async def test_fee_of_a_credited_deposit_is_fetched_and_booked_once(
        self, market: CardMarket, customer: CardCustomer
    ):
        deposit = await market.paid(customer, 2_000)
        assert deposit.fee_due
        cash = await market.cash()
        for _ in range(3):
            await check(market)
        deposit = await market.now(deposit)
        assert (deposit.fee_nano_usd, deposit.fee_due) == (59 * CENT, False)
        assert await market.cash() == cash - 59

    async def test_page_that_ran_out_is_closed(self, market: CardMarket, customer: CardCustomer):
        deposit = await market.deposit(customer, 2_000)
        market.stripe.expire(deposit.session_id)
        await check(market)
        assert (await market.now(deposit)).state is DepositState.EXPIRED

    async def test_nobody_is_asked_twice_within_the_pause(self, market: CardMarket, customer: CardCustomer):
        await market.deposit(customer, 2_000)
        await check(market)
        calls = len(market.stripe.calls)
        assert await check_deposits(market.sessions, market.rail.processor, market.rail.rules) == 0
        assert len(market.stripe.calls) == calls


class TestReplayEvents:
    async def test_missed_refund_and_dispute_are_found_in_stripes_list(
        self, market: CardMarket, customer: CardCustomer
    ):
        deposit = await market.paid(customer, 2_000)
        market.stripe.refund_in_dashboard(deposit.session_id, 500)
        market.stripe.dispute(deposit.session_id, cents=1_000)
        await replay(market)
        assert await market.balances(customer) == {"customer_balance": 500, "customer_dispute": 1_000}
        assert await replay_events(market.sessions, market.rail.processor) == 0

    async def test_pages_are_followed_to_their_end(
        self, market: CardMarket, customer: CardCustomer, monkeypatch
    ):
        monkeypatch.setattr("raymart_billing.deposits.stripe_client.PAGE_SIZE", 2)
        deposit = await market.paid(customer, 2_000)
        for _ in range(7):
            market.stripe.refund_in_dashboard(deposit.session_id, 10)
        await replay(market)
        assert await market.balances(customer) == {"customer_balance": 1_930}

    async def test_outage_of_days_leaves_no_gap(self, market: CardMarket, customer: CardCustomer):
        """The list is read from where the last replay ended, however long ago."""
        deposit = await market.paid(customer, 2_000)
        ten_days = 10 * 86_400
        now = market.stripe.clock()
        market.stripe.clock = lambda: now - ten_days
        market.stripe.refund_in_dashboard(deposit.session_id, 700)
        market.stripe.clock = lambda: now
        await replay(market, since=timedelta(days=11))
        assert await market.balances(customer) == {"customer_balance": 1_300}


async def check(market: CardMarket) -> int:
    """As if the pause were over for the deposits of this market alone."""
    async with session_scope(market.sessions) as session:
        # Others of earlier tests belong to Stripes that are gone.
        mine = list(market.stripe.objects)
        await session.execute(
            text(
                "update deposit set checked_at = clock_timestamp() + interval '1 day' where not session_id = any(:ids)"
            ),
            {"ids": mine},
        )
        long_ago = text("clock_timestamp() - interval '1 day'")
        await session.execute(update(Deposit).where(Deposit.session_id.in_(mine)).values(checked_at=long_ago))
    return await check_deposits(market.sessions, market.rail.processor, market.rail.rules, after=AT_ONCE)


async def replay(market: CardMarket, since: timedelta = timedelta(hours=2)) -> None:
    async with session_scope(market.sessions) as session:
        await session.execute(
            text(
                "insert into stripe_replay (through_at) values (clock_timestamp() - :since)"
                " on conflict (is_only) do update set through_at = excluded.through_at"
            ),
            {"since": since},
        )
    await replay_events(market.sessions, market.rail.processor)
