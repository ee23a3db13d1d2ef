"""Making a deposit: limits, one page a key, and crashes between our commits and Stripe's answers."""

import asyncio

import pytest
from sqlalchemy import func, select

from raymart_billing.deposits import Deposit, DepositState, EventState, StripeEvent, check_deposit
from raymart_billing.deposits.stripe_client import CALLS_MAX, Refused, StripeProcessor
from raymart_core.errors import Conflict, InvalidRequest, NotFound, Unavailable
from raymart_core.ids import new_id
from raymart_core.money import Asset, Money
from raymart_marketplace.db.session import session_scope
from support.card_market import CENT, CardCustomer, CardMarket


class TestLimits:
    async def test_amount_beyond_them_is_refused_and_leaves_no_row(
        self, market: CardMarket, customer: CardCustomer
    ):
        for amount in (
            Money(0),
            Money(-CENT),
            Money(499 * CENT),
            Money(1_000_001 * CENT),
            Money(2_000 * CENT + 1),
            Money(2**63 - 1),
            Money(2_000 * 10_000, Asset.USDC),
        ):
            with pytest.raises(InvalidRequest) as refusal:
                await market.ask(customer, amount)
            assert refusal.value.param == "amount", amount
        assert await rows(market, customer) == 0
        assert market.stripe.calls == []

    async def test_too_many_that_nobody_paid(self, market: CardMarket, customer: CardCustomer, monkeypatch):
        monkeypatch.setattr("raymart_billing.deposits.checkout.OPEN_DEPOSITS_MAX", 3)
        answers = await asyncio.gather(*(market.deposit(customer) for _ in range(6)), return_exceptions=True)
        assert sum(isinstance(answer, Conflict) for answer in answers) == 3
        assert await rows(market, customer) == 3

    async def test_unknown_organization(self, market: CardMarket, customer: CardCustomer):
        nobody = CardCustomer(organization_id=new_id(), user_id=customer.user_id)
        with pytest.raises(NotFound):
            await market.deposit(nobody)


class TestSameKey:
    async def test_one_deposit_and_one_page_however_often_and_at_once(
        self, market: CardMarket, customer: CardCustomer
    ):
        answers = await asyncio.gather(*(market.deposit(customer, key="k") for _ in range(12)))
        assert len({(answer.id, answer.session_url) for answer in answers}) == 1
        assert len(market.stripe.made("cs_")) == 1

    async def test_other_amount_is_a_conflict(self, market: CardMarket, customer: CardCustomer):
        await market.deposit(customer, 2_000, key="k")
        with pytest.raises(Conflict):
            await market.deposit(customer, 2_001, key="k")

    async def test_same_key_of_another_customer_is_another_deposit(self, market: CardMarket):
        first, second = await market.customer(), await market.customer()
        assert (await market.deposit(first, key="k")).id != (await market.deposit(second, key="k")).id


class TestStripeFails:
    @pytest.mark.parametrize("fault", ["drop_before", "drop_after", "error", "busy"])
    async def test_lost_answers_are_asked_for_again_with_the_same_key(
        self, market: CardMarket, customer: CardCustomer, fault
    ):
        """One fault is bridged by the library; `drop_after` has made the page already and must not make another."""
        market.stripe.faults.append(fault)
        if fault == "busy":  # The library does not repeat a 429: the customer does.
            with pytest.raises(Unavailable):
                await market.deposit(customer, key="k")
        deposit = await market.deposit(customer, key="k")
        assert deposit.state is DepositState.PENDING
        assert len(market.stripe.made("cs_")) == 1

    async def test_long_outage_is_told_and_loses_nothing(self, market: CardMarket, customer: CardCustomer):
        market.stripe.faults.extend(["drop_after"] * 3)
        with pytest.raises(Unavailable):
            await market.deposit(customer, key="k")
        deposit = await market.deposit(customer, key="k")
        assert deposit.state is DepositState.PENDING
        assert len(market.stripe.made("cs_")) == 1

    async def test_refusal_is_final_and_says_why(self, market: CardMarket, customer: CardCustomer):
        market.stripe.faults.append("declined")
        with pytest.raises(Refused, match="cannot do this"):
            await market.deposit(customer, key="k")
        again = await market.deposit(customer, key="k")
        assert (again.state, again.session_url) == (DepositState.FAILED, None)
        assert "cannot do this" in (again.failed_reason or "")

    async def test_wrong_key_of_ours_fails_no_deposit(self, market: CardMarket, customer: CardCustomer):
        good = market.rail
        market.use_key("sk_test_wrong")
        with pytest.raises(Unavailable, match="out of order"):
            await market.deposit(customer, key="k")
        market.rail.processor.close()
        market.rail = good
        assert (await market.deposit(customer, key="k")).state is DepositState.PENDING

    async def test_calls_at_once_are_bounded(self, market: CardMarket):
        processor: StripeProcessor = market.rail.processor
        assert processor._threads._max_workers == CALLS_MAX
        customers = [await market.customer() for _ in range(3 * CALLS_MAX)]
        deposits = await asyncio.gather(*(market.deposit(customer) for customer in customers))
        assert {deposit.state for deposit in deposits} == {DepositState.PENDING}


class TestCrash:
    async def test_page_that_was_made_but_not_noted_is_found_again(
        self, market: CardMarket, customer: CardCustomer, owner_url: str
    ):
        """Dead between Stripe's answer and our commit; the customer never saw the page, but Stripe tells of it."""
        deposit = await market.deposit(customer, 2_000)
        lost = await market.forget_page(owner_url, deposit)
        event = market.stripe.pay(lost.session_id)
        await market.hear(event)
        async with session_scope(market.sessions) as session:
            assert (await session.get_one(StripeEvent, event["id"])).state is EventState.RECEIVED
        found = await check_deposit(market.sessions, market.rail.processor, market.rail.rules, lost.id)
        assert found.session_id == lost.session_id
        await market.apply(event["id"])
        assert (await market.now(lost)).state is DepositState.CREDITED
        assert len(market.stripe.made("cs_")) == 1


class TestDatabase:
    async def test_what_was_asked_and_credited_cannot_be_rewritten(
        self, market: CardMarket, customer: CardCustomer
    ):
        deposit = await market.paid(customer)
        for change in (
            "amount_nano_usd = amount_nano_usd + 1",
            "organization_id = (select id from organization where id <> deposit.organization_id limit 1)",
            "credited_nano_usd = credited_nano_usd + 1",
            "credited_at = null, credited_nano_usd = 0",
            "session_id = 'cs_other'",
            "payment_id = 'pi_other'",
            "refunded_nano_usd = credited_nano_usd + 1",
            "refunded_nano_usd = -1",
        ):
            assert await market.refusal(f"update deposit set {change} where id = '{deposit.id}'"), change
        assert not await market.refusal(f"update deposit set checked_at = now() where id = '{deposit.id}'")

    async def test_no_deposit_vanishes(self, market: CardMarket, customer: CardCustomer):
        await market.deposit(customer)
        assert await market.refusal("delete from deposit")
        assert await market.refusal("truncate deposit cascade")

    async def test_amounts_that_are_none_are_refused(self, market: CardMarket, customer: CardCustomer):
        statement = (
            "insert into deposit (id, organization_id, rail, state, amount_nano_usd, idempotency_key, expires_at)"
            " values ('{id}', '{owner}', 'card', 'created', {amount}, 'k', now())"
        )
        for amount in ("0", "-1", "1e30", "9223372036854775808", "'NaN'", "null"):
            made = statement.format(id=new_id(), owner=customer.organization_id, amount=amount)
            assert await market.refusal(made), amount
        assert not await market.refusal(
            statement.format(id=new_id(), owner=customer.organization_id, amount="1")
        )


async def rows(market: CardMarket, customer: CardCustomer) -> int:
    async with session_scope(market.sessions) as session:
        found = await session.scalar(
            select(func.count()).where(Deposit.organization_id == customer.organization_id)
        )
    return found or 0
