"""From payments, refunds and disputes to the books."""

import pytest
from sqlalchemy import select

from raymart_billing.deposits import (
    DepositRefund,
    DepositState,
    RefundOrigin,
    block_customer,
    settle,
    settle_debts,
    standing_block,
    unblock_customer,
)
from raymart_marketplace.db.session import session_scope
from support.card_market import CENT, CardCustomer, CardMarket


class TestCredit:
    async def test_paid_page_is_in_the_balance(self, market: CardMarket, customer: CardCustomer):
        deposit = await market.deposit(customer, 2_000)
        assert (deposit.state, deposit.session_url is not None) == (DepositState.PENDING, True)
        await market.hear(market.stripe.pay(deposit.session_id))
        deposit = await market.now(deposit)
        assert (deposit.state, deposit.credited_nano_usd) == (DepositState.CREDITED, 2_000 * CENT)
        assert await market.transfers(customer) == [("deposit_card", 2_000)]
        assert await market.balances(customer) == {"customer_balance": 2_000}
        assert await market.books_balance()

    async def test_settling_again_changes_nothing(self, market: CardMarket, customer: CardCustomer):
        deposit = await market.paid(customer)
        for _ in range(3):
            async with session_scope(market.sessions) as session:
                await settle(session, deposit.id)
        assert await market.transfers(customer) == [("deposit_card", 2_000)]

    async def test_bank_debit_is_credited_when_the_bank_says_so(
        self, market: CardMarket, customer: CardCustomer
    ):
        deposit = await market.deposit(customer)
        await market.hear(market.stripe.submit(deposit.session_id))
        assert (await market.now(deposit)).state is DepositState.PENDING
        await market.hear(market.stripe.bank_decides(deposit.session_id, good=True))
        assert (await market.now(deposit)).state is DepositState.CREDITED

    async def test_refused_bank_debit_has_failed(self, market: CardMarket, customer: CardCustomer):
        deposit = await market.deposit(customer)
        await market.hear(market.stripe.submit(deposit.session_id))
        await market.hear(market.stripe.bank_decides(deposit.session_id, good=False))
        assert (await market.now(deposit)).state is DepositState.FAILED
        assert await market.transfers(customer) == []

    async def test_page_nobody_paid_has_expired(self, market: CardMarket, customer: CardCustomer):
        deposit = await market.deposit(customer)
        await market.hear(market.stripe.expire(deposit.session_id))
        assert (await market.now(deposit)).state is DepositState.EXPIRED


class TestDebt:
    async def test_new_money_pays_what_is_owed_first(self, market: CardMarket, customer: CardCustomer):
        first = await market.paid(customer, 2_000)
        await market.spend(customer, 1_500)
        _, event = market.stripe.dispute(first.session_id)
        await market.hear(event)
        assert await market.balances(customer) == {"customer_receivable": -1_500, "customer_dispute": 2_000}
        await market.paid(customer, 2_500)
        assert await market.balances(customer) == {"customer_balance": 1_000, "customer_dispute": 2_000}
        assert ("receivable_settled", 1_500) in await market.transfers(customer)

    async def test_money_that_running_requests_give_back_pays_it_too(
        self, market: CardMarket, customer: CardCustomer
    ):
        deposit = await market.paid(customer, 2_000)
        hold = await market.hold(customer, 1_200)
        _, event = market.stripe.dispute(deposit.session_id)
        await market.hear(event)
        assert (await market.balances(customer))["customer_receivable"] == -1_200
        assert await settle_debts(market.sessions) == 0, "what is held cannot be taken"
        await market.release(hold)
        assert await settle_debts(market.sessions) == 1
        assert await market.balances(customer) == {"customer_dispute": 2_000}


class TestDispute:
    async def test_open_one_takes_the_money_and_blocks_the_customer(
        self, market: CardMarket, customer: CardCustomer
    ):
        deposit = await market.paid(customer, 2_000)
        _, event = market.stripe.dispute(deposit.session_id)
        await market.hear(event)
        assert await market.balances(customer) == {"customer_dispute": 2_000}
        assert (await market.now(deposit)).state is DepositState.DISPUTED
        async with session_scope(market.sessions) as session:
            block = await standing_block(session, customer.organization_id)
        assert block is not None
        assert "fraudulent" in block.reason

    async def test_won_one_gives_it_back_and_lifts_the_block(
        self, market: CardMarket, customer: CardCustomer
    ):
        deposit = await market.paid(customer, 2_000)
        await market.spend(customer, 500)
        dispute_id, event = market.stripe.dispute(deposit.session_id)
        await market.hear(event)
        await market.hear(market.stripe.dispute_moves(dispute_id, status="won", kind="closed"))
        assert await market.balances(customer) == {"customer_balance": 1_500}
        assert (await market.now(deposit)).state is DepositState.CREDITED
        async with session_scope(market.sessions) as session:
            assert await standing_block(session, customer.organization_id) is None

    async def test_lost_one_keeps_the_customer_blocked_until_the_debt_is_paid(
        self, market: CardMarket, customer: CardCustomer
    ):
        deposit = await market.paid(customer, 2_000)
        await market.spend(customer, 500)
        dispute_id, event = market.stripe.dispute(deposit.session_id)
        await market.hear(event)
        await market.hear(market.stripe.dispute_moves(dispute_id, status="lost", kind="closed"))
        assert await market.balances(customer) == {"customer_receivable": -500}
        async with session_scope(market.sessions) as session:
            assert await standing_block(session, customer.organization_id) is not None
        await market.paid(customer, 600)
        assert await market.balances(customer) == {"customer_balance": 100}
        async with session_scope(market.sessions) as session:
            assert await standing_block(session, customer.organization_id) is None

    async def test_inquiry_moves_nothing(self, market: CardMarket, customer: CardCustomer):
        deposit = await market.paid(customer, 2_000)
        dispute_id, event = market.stripe.dispute(deposit.session_id, status="warning_needs_response")
        await market.hear(event)
        await market.hear(market.stripe.dispute_moves(dispute_id, status="warning_closed", kind="closed"))
        assert await market.balances(customer) == {"customer_balance": 2_000}
        async with session_scope(market.sessions) as session:
            assert await standing_block(session, customer.organization_id) is None

    async def test_its_fee_is_our_cost_once(self, market: CardMarket, customer: CardCustomer):
        deposit = await market.paid(customer, 2_000)
        cash = await market.cash()
        dispute_id, event = market.stripe.dispute(deposit.session_id)
        await market.hear(event)
        for _ in range(2):
            await market.hear(
                market.stripe.dispute_moves(dispute_id, status="needs_response", kind="updated")
            )
        await market.hear(
            market.stripe.dispute_moves(dispute_id, status="needs_response", kind="funds_withdrawn")
        )
        assert (await market.dispute(dispute_id)).fee_nano_usd == 1_500 * CENT
        assert await market.cash() == cash - 1_500, "the money itself leaves only when it is lost"

    async def test_bank_that_changes_its_mind_is_for_a_person(
        self, market: CardMarket, customer: CardCustomer
    ):
        deposit = await market.paid(customer, 2_000)
        dispute_id, event = market.stripe.dispute(deposit.session_id)
        await market.hear(event)
        await market.hear(market.stripe.dispute_moves(dispute_id, status="lost", kind="closed"))
        await market.hear(market.stripe.dispute_moves(dispute_id, status="won", kind="funds_reinstated"))
        assert await market.balances(customer) == {}
        assert (await market.dispute(dispute_id)).booked == "lost"

    async def test_more_than_was_paid_is_for_a_person(self, market: CardMarket, customer: CardCustomer):
        deposit = await market.paid(customer, 2_000)
        dispute_id, event = market.stripe.dispute(deposit.session_id, cents=2_001)
        await market.hear(event)
        assert await market.balances(customer) == {"customer_balance": 2_000}
        assert (await market.dispute(dispute_id)).held_reason is not None

    async def test_two_disputes_are_two_debts(self, market: CardMarket, customer: CardCustomer):
        deposits = [await market.paid(customer, 1_000) for _ in range(2)]
        await market.spend(customer, 1_500)
        ids = []
        for deposit in deposits:
            dispute_id, event = market.stripe.dispute(deposit.session_id)
            ids.append(dispute_id)
            await market.hear(event)
        assert await market.balances(customer) == {"customer_receivable": -1_500, "customer_dispute": 2_000}
        await market.hear(market.stripe.dispute_moves(ids[0], status="won", kind="closed"))
        assert await market.balances(customer) == {"customer_receivable": -500, "customer_dispute": 1_000}
        async with session_scope(market.sessions) as session:
            assert await standing_block(session, customer.organization_id) is not None


class TestBlock:
    async def test_rule_does_not_lift_what_an_administrator_set(
        self, market: CardMarket, customer: CardCustomer
    ):
        deposit = await market.paid(customer, 2_000)
        dispute_id, event = market.stripe.dispute(deposit.session_id)
        await market.hear(event)
        async with session_scope(market.sessions) as session:
            await block_customer(
                session, customer.organization_id, reason="stolen cards", actor_id=customer.user_id
            )
        await market.hear(market.stripe.dispute_moves(dispute_id, status="won", kind="closed"))
        async with session_scope(market.sessions) as session:
            block = await standing_block(session, customer.organization_id)
            assert block is not None
            assert block.reason == "stolen cards"
            await unblock_customer(
                session, customer.organization_id, reason="proved who they are", actor_id=customer.user_id
            )
        async with session_scope(market.sessions) as session:
            assert await standing_block(session, customer.organization_id) is None

    async def test_administrators_word_holds_against_the_same_dispute(
        self, market: CardMarket, customer: CardCustomer
    ):
        deposit = await market.paid(customer, 2_000)
        await market.spend(customer, 2_000)
        dispute_id, event = market.stripe.dispute(deposit.session_id)
        await market.hear(event)
        async with session_scope(market.sessions) as session:
            await unblock_customer(
                session, customer.organization_id, reason="we know them", actor_id=customer.user_id
            )
        await market.hear(market.stripe.dispute_moves(dispute_id, status="lost", kind="closed"))
        async with session_scope(market.sessions) as session:
            assert await standing_block(session, customer.organization_id) is None


class TestRefundAtTheProcessor:
    @pytest.mark.parametrize(
        ("spent", "balances"), [(0, {"customer_balance": 1_500}), (500, {"customer_balance": 1_000})]
    )
    async def test_leaves_the_balance(
        self, market: CardMarket, customer: CardCustomer, spent: int, balances: dict[str, int]
    ):
        deposit = await market.paid(customer, 2_000)
        if spent:
            await market.spend(customer, spent)
        await market.hear(market.stripe.refund_in_dashboard(deposit.session_id, 500))
        assert await market.balances(customer) == balances

    async def test_beyond_the_balance_it_is_owed(self, market: CardMarket, customer: CardCustomer):
        deposit = await market.paid(customer, 2_000)
        await market.spend(customer, 1_800)
        cash = await market.cash()
        await market.hear(market.stripe.refund_in_dashboard(deposit.session_id, 2_000))
        assert await market.balances(customer) == {"customer_receivable": -1_800}
        assert await market.cash() == cash - 2_000
        assert (await market.now(deposit)).state is DepositState.REFUNDED
        async with session_scope(market.sessions) as session:
            [refund] = await session.scalars(
                select(DepositRefund).where(DepositRefund.deposit_id == deposit.id)
            )
            assert await standing_block(session, customer.organization_id) is not None
        assert (refund.origin, refund.shortfall_nano_usd) == (RefundOrigin.PROCESSOR, 1_800 * CENT)

    async def test_in_steps_counts_each_once(self, market: CardMarket, customer: CardCustomer):
        deposit = await market.paid(customer, 2_000)
        events = [market.stripe.refund_in_dashboard(deposit.session_id, 300) for _ in range(3)]
        for event in [*reversed(events), *events]:
            await market.hear(event)
        assert await market.balances(customer) == {"customer_balance": 1_100}
