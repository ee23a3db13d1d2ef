"""Paying back: never more than there is, once, and only from money that was paid."""

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import text

from raymart_billing.credits import grant
from raymart_billing.deposits import (
    Deposit,
    DepositRefund,
    DepositState,
    RefundState,
    request_refund,
    send_refund,
)
from raymart_core.errors import Conflict, InvalidRequest, Unavailable
from raymart_core.ids import new_id
from raymart_core.money import Money
from raymart_marketplace.db.session import session_scope
from support.card_market import CENT, CardCustomer, CardMarket


async def ask(
    market: CardMarket, deposit: Deposit, cents: int, *, key: str | None = None, reason: str = "asked for"
) -> UUID:
    async with session_scope(market.sessions) as session:
        refund = await request_refund(
            session,
            deposit_id=deposit.id,
            amount=Money(cents * CENT),
            key=key or new_id().hex,
            reason=reason,
            actor_id=None,
        )
        return refund.id


async def send(market: CardMarket, refund_id: UUID) -> None:
    await send_refund(market.sessions, market.rail.processor, refund_id)


async def state(market: CardMarket, refund_id: UUID) -> RefundState:
    async with session_scope(market.sessions) as session:
        return (await session.get_one(DepositRefund, refund_id)).state


class TestRefund:
    async def test_whole_deposit_goes_back_with_its_events_in_any_order(
        self, market: CardMarket, customer: CardCustomer
    ):
        deposit = await market.paid(customer, 2_000)
        first = len(market.stripe.events)
        refund_id = await ask(market, deposit, 2_000)
        assert await market.balances(customer) == {}, "out of reach before Stripe is asked"
        await send(market, refund_id)
        for event in reversed(market.stripe.events[first:]):
            await market.hear(event)
        assert (await market.now(deposit)).state is DepositState.REFUNDED
        assert await state(market, refund_id) is RefundState.SUCCEEDED
        assert [code for code, _ in await market.transfers(customer)] == ["deposit_card", "deposit_refund"]

    async def test_events_that_come_before_our_answer_book_nothing_twice(
        self, market: CardMarket, customer: CardCustomer
    ):
        deposit = await market.paid(customer, 2_000)
        refund_id = await ask(market, deposit, 600)
        first = len(market.stripe.events)
        market.stripe.faults.extend(["drop_after"] * 3)
        with pytest.raises(Unavailable):
            await send(market, refund_id)
        for event in market.stripe.events[first:]:
            await market.hear(event)
        await send(market, refund_id)
        assert await market.balances(customer) == {"customer_balance": 1_400}
        assert market.stripe.charge_of(deposit.session_id)["amount_refunded"] == 600
        assert await state(market, refund_id) is RefundState.SUCCEEDED

    async def test_lost_answers_are_asked_for_again_and_pay_once(
        self, market: CardMarket, customer: CardCustomer
    ):
        """Without our own key a second call would be another refund: the library's key is another each time."""
        deposit = await market.paid(customer, 2_000)
        refund_id = await ask(market, deposit, 600)
        market.stripe.faults.extend(["drop_after"] * 3)
        with pytest.raises(Unavailable):
            await send(market, refund_id)
        await send(market, refund_id)
        assert market.stripe.charge_of(deposit.session_id)["amount_refunded"] == 600
        assert await state(market, refund_id) is RefundState.SUCCEEDED

    async def test_same_key_is_one_refund(self, market: CardMarket, customer: CardCustomer):
        deposit = await market.paid(customer, 2_000)
        answers = await asyncio.gather(*(ask(market, deposit, 500, key="k") for _ in range(8)))
        assert len(set(answers)) == 1
        await asyncio.gather(*(send(market, answers[0]) for _ in range(3)))
        assert market.stripe.charge_of(deposit.session_id)["amount_refunded"] == 500
        with pytest.raises(Conflict):
            await ask(market, deposit, 501, key="k")

    async def test_many_at_once_never_exceed_the_deposit(self, market: CardMarket, customer: CardCustomer):
        deposit = await market.paid(customer, 2_000)
        answers = await asyncio.gather(
            *(ask(market, deposit, 300) for _ in range(12)), return_exceptions=True
        )
        assert sum(isinstance(answer, UUID) for answer in answers) == 6
        assert await market.balances(customer) == {"customer_balance": 200}

    async def test_keys_that_stripe_has_forgotten_do_not_pay_twice(
        self, market: CardMarket, customer: CardCustomer
    ):
        """A day later Stripe's list of refunds is asked before a new one is made."""
        deposit = await market.paid(customer, 2_000)
        refund_id = await ask(market, deposit, 600)
        market.stripe.faults.extend(["drop_after"] * 3)
        with pytest.raises(Unavailable):
            await send(market, refund_id)
        market.stripe.saved.clear()
        async with session_scope(market.sessions) as session:
            await session.execute(
                text("update deposit_refund set created_at = created_at - :age where id = :id"),
                {"age": timedelta(hours=25), "id": refund_id},
            )
        await send(market, refund_id)
        assert market.stripe.charge_of(deposit.session_id)["amount_refunded"] == 600
        assert await state(market, refund_id) is RefundState.SUCCEEDED


class TestLimits:
    @pytest.mark.parametrize(
        "case",
        [
            (0, 0, 0, 2_000),
            (500, 0, 0, 1_500),
            (500, 900, 0, 2_000),
            (1_200, 900, 0, 1_700),
            (0, 900, 300, 1_700),
        ],
    )
    async def test_only_what_was_paid_and_is_left(
        self, market: CardMarket, customer: CardCustomer, case: tuple[int, int, int, int]
    ):
        """Granted credit is used first and never goes to a card."""
        spent, granted, refunded, limit = case
        deposit = await market.paid(customer, 2_000)
        if granted:
            async with session_scope(market.sessions) as session:
                await grant(
                    session,
                    organization_id=customer.organization_id,
                    amount=Money(granted * CENT),
                    key=new_id().hex,
                    actor_id=None,
                )
        if refunded:
            await ask(market, deposit, refunded)
        if spent:
            await market.spend(customer, spent)
        with pytest.raises(Conflict, match="more than can be paid back"):
            await ask(market, deposit, limit + 1)
        await ask(market, deposit, limit)

    async def test_not_what_running_requests_hold(self, market: CardMarket, customer: CardCustomer):
        deposit = await market.paid(customer, 2_000)
        await market.hold(customer, 1_999)
        with pytest.raises(Conflict):
            await ask(market, deposit, 2)
        await ask(market, deposit, 1)

    async def test_not_what_a_bank_disputes(self, market: CardMarket, customer: CardCustomer):
        deposit = await market.paid(customer, 2_000)
        await market.paid(customer, 3_000)
        _, event = market.stripe.dispute(deposit.session_id, cents=1_500)
        await market.hear(event)
        with pytest.raises(Conflict):
            await ask(market, deposit, 501)
        await ask(market, deposit, 500)

    @pytest.mark.parametrize("amount", [Money(0), Money(-CENT), Money(CENT + 1), Money(2**63 - 1)])
    async def test_what_is_no_amount(self, market: CardMarket, customer: CardCustomer, amount: Money):
        deposit = await market.paid(customer, 2_000)
        async with session_scope(market.sessions) as session:
            with pytest.raises(InvalidRequest):
                await request_refund(
                    session, deposit_id=deposit.id, amount=amount, key="k", reason="r", actor_id=None
                )

    async def test_deposit_that_was_not_paid(self, market: CardMarket, customer: CardCustomer):
        deposit = await market.deposit(customer, 2_000)
        with pytest.raises(Conflict):
            await ask(market, deposit, 1)


class TestFailure:
    async def test_refusal_brings_the_money_back(self, market: CardMarket, customer: CardCustomer):
        deposit = await market.paid(customer, 2_000)
        refund_id = await ask(market, deposit, 700)
        market.stripe.faults.append("declined")
        await send(market, refund_id)
        assert await state(market, refund_id) is RefundState.FAILED
        assert await market.balances(customer) == {"customer_balance": 2_000}
        assert (await market.now(deposit)).refunded_nano_usd == 0
        await send(market, refund_id)
        assert market.stripe.charge_of(deposit.session_id)["amount_refunded"] == 0, (
            "a failed one is not tried again"
        )

    async def test_card_that_is_closed_days_later_brings_it_back_too(
        self, market: CardMarket, customer: CardCustomer
    ):
        deposit = await market.paid(customer, 2_000)
        refund_id = await ask(market, deposit, 700)
        first = len(market.stripe.events)
        await send(market, refund_id)
        [made] = market.stripe.made("re_")
        failed = market.stripe.fail_refund(made["id"])
        for event in [failed, *market.stripe.events[first:], failed]:
            await market.hear(event)
        assert await state(market, refund_id) is RefundState.FAILED
        assert await market.balances(customer) == {"customer_balance": 2_000}

    async def test_dashboard_was_faster(self, market: CardMarket, customer: CardCustomer):
        """Ours is refused as refunded already; what the dashboard paid back is booked instead."""
        deposit = await market.paid(customer, 2_000)
        refund_id = await ask(market, deposit, 2_000)
        event = market.stripe.refund_in_dashboard(deposit.session_id, 2_000)
        await send(market, refund_id)
        await market.hear(event)
        assert await state(market, refund_id) is RefundState.FAILED
        assert await market.balances(customer) == {}
        assert (await market.now(deposit)).state is DepositState.REFUNDED
