"""Promise: a person's decision on a deposit moves its money once, with its reason, and never another way."""

import pytest
from sqlalchemy.exc import DBAPIError

from raymart_billing.deposits.funds import lock_funds
from raymart_billing.usdc_deposits.decisions import assign_deposit, deposit_of, fund_treasury
from raymart_billing.usdc_deposits.models import Attribution, SenderMark, UsdcDeposit, UsdcDepositState
from raymart_billing.usdc_deposits.senders import mark_sender, unmark_sender
from raymart_core.errors import Conflict, InvalidRequest, NotFound
from raymart_core.ids import new_id
from raymart_marketplace.db.session import session_scope
from support.usdc_market import UsdcCustomer, UsdcMarket


async def unattributed(usdc: UsdcMarket, micro_usdc: int = 3_000_000) -> UsdcDeposit:
    """A deposit that names nobody."""
    signature = await usdc.pay(usdc.payer(), micro_usdc=micro_usdc)
    await usdc.settle()
    found = await usdc.deposit(signature)
    assert found is not None
    return found


async def assign(
    usdc: UsdcMarket, deposit: UsdcDeposit, customer: UsdcCustomer, reason: str = "asked"
) -> None:
    async with session_scope(usdc.sessions) as session:
        await assign_deposit(
            session,
            deposit.id,
            organization_id=customer.organization_id,
            reason=reason,
            actor_id=customer.user_id,
        )


class TestAssign:
    async def test_an_assigned_deposit_is_its_customers_once(self, usdc: UsdcMarket, customer: UsdcCustomer):
        deposit, before = await unattributed(usdc), await usdc.suspense()
        await assign(usdc, deposit, customer)
        with pytest.raises(Conflict, match="credited"):
            await assign(usdc, deposit, customer)
        assert (await usdc.balance(customer), await usdc.suspense()) == (3_000_000, before - 3_000_000)
        found = await usdc.deposit(deposit.signature)
        assert found is not None
        assert (found.state, found.attributed_by, found.decision_reason, found.decided_by) == (
            UsdcDepositState.CREDITED,
            Attribution.PERSON,
            "asked",
            customer.user_id,
        )
        assert await usdc.books_hold()

    async def test_a_held_deposit_is_released_to_its_own_customer(
        self, usdc: UsdcMarket, customer: UsdcCustomer
    ):
        payer = usdc.payer()
        await usdc.mark(payer, "blocked")
        signature = await usdc.pay(payer, await usdc.top_up(customer, "2"))
        await usdc.settle()
        deposit = await usdc.deposit(signature)
        assert deposit is not None
        await assign(usdc, deposit, customer, "looked into it")
        released = await usdc.deposit(signature)
        assert released is not None
        assert (released.attributed_by, released.held_reason) == (Attribution.REFERENCE, None)
        assert await usdc.balance(customer) == 2_000_000

    @pytest.mark.parametrize("reason", ["", "  ", "x" * 501])
    async def test_without_a_reason_nothing_happens(
        self, usdc: UsdcMarket, customer: UsdcCustomer, reason: str
    ):
        deposit = await unattributed(usdc)
        with pytest.raises(InvalidRequest):
            await assign(usdc, deposit, customer, reason)
        assert await usdc.balance(customer) == 0

    async def test_an_erased_customer_is_none_any_more(self, usdc: UsdcMarket, customer: UsdcCustomer):
        deposit = await unattributed(usdc)
        await usdc.erase(customer)
        with pytest.raises(Conflict, match="erased"):
            await assign(usdc, deposit, customer)
        with pytest.raises(DBAPIError, match="is erased"):
            await usdc.top_up(customer)

    async def test_nobody_is_no_customer(self, usdc: UsdcMarket, customer: UsdcCustomer):
        deposit = await unattributed(usdc)
        nobody = UsdcCustomer(organization_id=new_id(), user_id=customer.user_id)
        with pytest.raises(NotFound):
            await assign(usdc, deposit, nobody)


class TestFunding:
    async def test_the_platforms_own_fills_up_its_capital(self, usdc: UsdcMarket, customer: UsdcCustomer):
        deposit, before = await unattributed(usdc), await usdc.suspense()
        async with session_scope(usdc.sessions) as session:
            await fund_treasury(session, deposit.id, reason="our own refill", actor_id=customer.user_id)
        found = await usdc.deposit(deposit.signature)
        assert found is not None
        assert found.state is UsdcDepositState.FUNDING
        assert await usdc.suspense() == before - 3_000_000
        with pytest.raises(Conflict):
            await assign(usdc, deposit, customer)

    async def test_a_customers_payment_is_not_taken_for_the_treasurys(
        self, usdc: UsdcMarket, customer: UsdcCustomer
    ):
        payer = usdc.payer()
        await usdc.mark(payer, "blocked")
        signature = await usdc.pay(payer, await usdc.top_up(customer, "2"))
        await usdc.settle()
        deposit = await usdc.deposit(signature)
        assert deposit is not None
        with pytest.raises(Conflict, match="customer's request"):
            async with session_scope(usdc.sessions) as session:
                await fund_treasury(session, deposit.id, reason="mine", actor_id=customer.user_id)


class TestDebt:
    async def test_new_money_pays_a_debt_first(self, usdc: UsdcMarket, customer: UsdcCustomer):
        await usdc.owe(customer, micro_usdc=400_000)
        await usdc.pay(usdc.payer(), await usdc.top_up(customer, "1"))
        await usdc.settle()
        assert await usdc.balance(customer) == 600_000
        async with session_scope(usdc.sessions) as session:
            assert (await lock_funds(session, customer.organization_id)).owed == 0


class TestFinding:
    async def test_an_unknown_signature_says_so(self, usdc: UsdcMarket):
        with pytest.raises(NotFound, match="no deposit"):
            async with session_scope(usdc.sessions) as session:
                await deposit_of(session, "nothing")


class TestSenders:
    async def test_a_mark_holds_until_it_is_taken_away(self, usdc: UsdcMarket, customer: UsdcCustomer):
        payer = usdc.payer()
        async with session_scope(usdc.sessions) as session:
            for mark in (SenderMark.EXCHANGE, SenderMark.BLOCKED):
                said = await mark_sender(
                    session, str(payer.pubkey()), mark=mark, reason="stolen", actor_id=customer.user_id
                )
            assert said.mark is SenderMark.BLOCKED
        async with session_scope(usdc.sessions) as session:
            await unmark_sender(session, str(payer.pubkey()))
        await usdc.pay(payer, await usdc.top_up(customer, "1"))
        await usdc.settle()
        assert await usdc.balance(customer) == 1_000_000
        with pytest.raises(NotFound):
            async with session_scope(usdc.sessions) as session:
                await unmark_sender(session, str(payer.pubkey()))

    async def test_what_is_no_address_is_refused(self, usdc: UsdcMarket, customer: UsdcCustomer):
        with pytest.raises(InvalidRequest):
            async with session_scope(usdc.sessions) as session:
                await mark_sender(
                    session, "0x12", mark=SenderMark.BLOCKED, reason="x", actor_id=customer.user_id
                )
