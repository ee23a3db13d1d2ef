"""Promise: a deposit goes back to who paid it, once, through people's approval; its money is never in two places."""

import pytest
from solders.keypair import Keypair
from sqlalchemy import select

from raymart_billing.ledger import post
from raymart_billing.payouts.models import BatchKind, BatchState, ItemState, PayoutBatch, PayoutItem
from raymart_billing.usdc_deposits.booking import RefundBooking
from raymart_billing.usdc_deposits.models import UsdcDeposit, UsdcDepositState
from raymart_billing.usdc_deposits.refunds import RefundOrder, cancel_refund, refunds_of, request_refund
from raymart_core.errors import Conflict, InvalidRequest, NotFound
from raymart_core.money import Asset, Money
from raymart_marketplace.db.session import session_scope
from support.usdc_market import UsdcCustomer, UsdcMarket


async def credited(
    usdc: UsdcMarket, customer: UsdcCustomer, usd: str = "5", *, payer: Keypair | None = None
) -> UsdcDeposit:
    """A deposit in a customer's balance."""
    signature = await usdc.pay(payer or usdc.payer(), await usdc.top_up(customer, usd))
    await usdc.settle()
    found = await usdc.deposit(signature)
    assert found is not None
    return found


async def undecided(usdc: UsdcMarket, payer: Keypair | None = None) -> UsdcDeposit:
    """A deposit that is nobody's."""
    signature = await usdc.pay(payer or usdc.payer(), micro_usdc=5_000_000)
    await usdc.settle()
    found = await usdc.deposit(signature)
    assert found is not None
    return found


async def refund(
    usdc: UsdcMarket, customer: UsdcCustomer, deposit: UsdcDeposit, **changed: object
) -> PayoutBatch:
    """Ask for a refund."""
    order = RefundOrder(**{"deposit_id": deposit.id, "reason": "sent by mistake", **changed})
    async with session_scope(usdc.sessions) as session:
        return await request_refund(session, order, actor_id=customer.user_id)


async def now(usdc: UsdcMarket, deposit: UsdcDeposit) -> UsdcDeposit:
    """The deposit as it is."""
    found = await usdc.deposit(deposit.signature)
    assert found is not None
    return found


async def item_of(usdc: UsdcMarket, batch: PayoutBatch) -> PayoutItem:
    async with session_scope(usdc.sessions) as session:
        query = select(PayoutItem).where(PayoutItem.batch_id == batch.id)
        return (await session.scalars(query)).one()


class TestRequest:
    async def test_it_is_a_batch_of_one_to_who_paid_and_has_left_the_balance(
        self, usdc: UsdcMarket, customer: UsdcCustomer
    ):
        payer = usdc.payer()
        deposit = await credited(usdc, customer, payer=payer)
        before = await usdc.suspense()
        batch = await refund(usdc, customer, deposit)
        item = await item_of(usdc, batch)
        assert (batch.kind, batch.state, batch.total_micro_usdc, batch.payees, batch.created_by) == (
            BatchKind.DEPOSIT_REFUND,
            BatchState.PLANNED,
            5_000_000,
            1,
            customer.user_id,
        )
        assert (item.deposit_id, item.wallet, item.amount_micro_usdc) == (
            deposit.id,
            str(payer.pubkey()),
            5_000_000,
        )
        assert item.token_account == str(usdc.market.tokens_of(payer.pubkey()))
        assert (await usdc.balance(customer), await usdc.suspense()) == (0, before + 5_000_000)
        assert (await now(usdc, deposit)).state is UsdcDepositState.REFUNDING
        with pytest.raises(Conflict, match="refunding"):
            await refund(usdc, customer, deposit)

    async def test_what_was_spent_cannot_be_paid_back(self, usdc: UsdcMarket, customer: UsdcCustomer):
        deposit = await credited(usdc, customer)
        await usdc.spend(customer, micro_usdc=2_000_000)
        with pytest.raises(Conflict, match=r"3\.000000 USDC of this deposit"):
            await refund(usdc, customer, deposit)
        await refund(usdc, customer, deposit, amount=Money(3_000_000, Asset.USDC))
        assert await usdc.balance(customer) == 0

    async def test_granted_credit_is_not_paid_out(self, usdc: UsdcMarket, customer: UsdcCustomer):
        deposit = await credited(usdc, customer)
        await usdc.grant(customer, micro_usdc=5_000_000)
        await usdc.spend(customer, micro_usdc=6_000_000)
        with pytest.raises(Conflict, match=r"4\.000000 USDC of this deposit"):
            await refund(usdc, customer, deposit)

    async def test_nobodys_deposit_goes_back_whole(self, usdc: UsdcMarket, customer: UsdcCustomer):
        deposit, before = await undecided(usdc), await usdc.suspense()
        with pytest.raises(InvalidRequest, match="all of it"):
            await refund(usdc, customer, deposit, amount=Money(1, Asset.USDC))
        await refund(usdc, customer, deposit)
        assert await usdc.suspense() == before

    async def test_an_exchange_needs_an_acknowledgement(self, usdc: UsdcMarket, customer: UsdcCustomer):
        payer = usdc.payer()
        await usdc.mark(payer, "exchange")
        deposit = await credited(usdc, customer, payer=payer)
        with pytest.raises(Conflict, match="acknowledge"):
            await refund(usdc, customer, deposit)
        await refund(usdc, customer, deposit, acknowledges_exchange=True)
        async with session_scope(usdc.sessions) as session:
            (row,) = await refunds_of(session, deposit.id)
        assert row.exchange_acknowledged

    async def test_a_blocked_sender_gets_nothing_even_acknowledged(
        self, usdc: UsdcMarket, customer: UsdcCustomer
    ):
        payer = usdc.payer()
        deposit = await undecided(usdc, payer)
        await usdc.mark(payer, "blocked")
        with pytest.raises(Conflict, match="blocked sender"):
            await refund(usdc, customer, deposit, acknowledges_exchange=True)

    async def test_somebody_else_is_not_paid(self, usdc: UsdcMarket, customer: UsdcCustomer):
        deposit = await undecided(usdc)
        with pytest.raises(InvalidRequest, match="did not pay"):
            await refund(usdc, customer, deposit, wallet=str(Keypair().pubkey()))

    async def test_of_several_payers_one_is_named(self, usdc: UsdcMarket, customer: UsdcCustomer):
        first, second = usdc.payer(), usdc.payer()
        treasury = usdc.market.treasury.pubkey()
        signature = await usdc.send(
            first,
            usdc.market.transfer(first, treasury, micro_usdc=1_000_000),
            usdc.market.transfer(second, treasury, micro_usdc=2_000_000),
            more_signers=[second],
        )
        await usdc.settle()
        deposit = await usdc.deposit(signature)
        assert deposit is not None
        with pytest.raises(InvalidRequest, match="2 wallets"):
            await refund(usdc, customer, deposit)
        batch = await refund(usdc, customer, deposit, wallet=str(first.pubkey()))
        assert (await item_of(usdc, batch)).wallet == str(first.pubkey())

    async def test_tokens_that_were_made_for_us_have_nobody_to_go_back_to(
        self, usdc: UsdcMarket, customer: UsdcCustomer
    ):
        faucet = usdc.market.chain.faucet
        landed = faucet.give_tokens(usdc.market.treasury.pubkey(), mint=usdc.market.mint, amount=7)
        await usdc.settle()
        deposit = await usdc.deposit(landed.signature)
        assert deposit is not None
        with pytest.raises(Conflict, match="no wallet is known"):
            await refund(usdc, customer, deposit)


class TestCancel:
    async def test_it_is_as_before_and_can_be_asked_again(self, usdc: UsdcMarket, customer: UsdcCustomer):
        deposit = await credited(usdc, customer)
        for _ in range(2):
            batch = await refund(usdc, customer, deposit)
            async with session_scope(usdc.sessions) as session:
                await cancel_refund(session, deposit.id, reason="changed my mind", actor_id=customer.user_id)
            assert await usdc.balance(customer) == 5_000_000
            assert (await now(usdc, deposit)).state is UsdcDepositState.CREDITED
            assert (await item_of(usdc, batch)).state is ItemState.RETURNED
        async with session_scope(usdc.sessions) as session:
            assert (await session.get_one(PayoutBatch, batch.id)).state is BatchState.CANCELLED
            with pytest.raises(NotFound):
                await cancel_refund(session, deposit.id, reason="again", actor_id=customer.user_id)


class TestBooking:
    async def test_settled_leaves_the_books_once(self, usdc: UsdcMarket, customer: UsdcCustomer):
        deposit, before = await credited(usdc, customer), await usdc.suspense()
        item = await item_of(usdc, await refund(usdc, customer, deposit))
        for _ in range(2):
            async with session_scope(usdc.sessions) as session:
                await post(session, await RefundBooking().settled(session, [item]))
        assert await usdc.suspense() == before
        assert (await now(usdc, deposit)).state is UsdcDepositState.REFUNDED
        assert await usdc.balance(customer) == 0
        assert await usdc.books_hold()

    async def test_returned_gives_a_customer_its_balance(self, usdc: UsdcMarket, customer: UsdcCustomer):
        deposit, before = await credited(usdc, customer), await usdc.suspense()
        item = await item_of(usdc, await refund(usdc, customer, deposit))
        for _ in range(2):
            async with session_scope(usdc.sessions) as session:
                await post(session, await RefundBooking().returned(session, [item]))
        assert (await usdc.balance(customer), await usdc.suspense()) == (5_000_000, before)
        assert (await now(usdc, deposit)).state is UsdcDepositState.CREDITED

    async def test_nobodys_money_that_could_not_land_waits_for_a_person_again(
        self, usdc: UsdcMarket, customer: UsdcCustomer
    ):
        deposit = await undecided(usdc)
        item = await item_of(usdc, await refund(usdc, customer, deposit))
        async with session_scope(usdc.sessions) as session:
            assert await RefundBooking().returned(session, [item]) == []
        found = await now(usdc, deposit)
        assert (found.state, found.held_reason) == (
            UsdcDepositState.FINAL,
            "its refund could not be paid; decide again",
        )
