"""Promise: an approved refund reaches the wallet that paid, once, and the treasury's movements say so."""

import pytest

from raymart_billing.connections import Pool
from raymart_billing.payouts.models import PayoutBatch
from raymart_billing.payouts.sending.sender import Sender
from raymart_billing.payouts.sending.tasks import BOOKINGS
from raymart_billing.usdc_deposits.models import UsdcDepositState
from raymart_billing.usdc_deposits.refunds import RefundOrder, cancel_refund, request_refund
from raymart_core.errors import Conflict
from raymart_marketplace.db.session import session_scope
from support.payout_batches import MadeBatch
from support.sending import Sending
from support.usdc_market import UsdcCustomer, UsdcMarket


@pytest.fixture
def sending(pool: Pool, usdc: UsdcMarket) -> Sending:
    """The engine on the same chain, with the bookings that workers have."""
    sending = Sending(pool, usdc.sessions, market=usdc.market)
    sending.sender = Sender(usdc.sessions, sending.chain, bookings=BOOKINGS, rules=sending.rules)
    return sending


class TestSent:
    async def test_it_arrives_once_and_is_no_deposit(
        self, usdc: UsdcMarket, customer: UsdcCustomer, sending: Sending
    ):
        payer = usdc.payer()
        signature = await usdc.pay(payer, await usdc.top_up(customer, "5"))
        await usdc.settle()
        deposit = await usdc.deposit(signature)
        assert deposit is not None
        before = usdc.market.balance(payer.pubkey())
        batch = await asked(usdc, customer, deposit_id=deposit.id)
        await sending.rows.approve(batch)
        await sending.finish(batch.id)
        assert usdc.market.balance(payer.pubkey()) == before + 5_000_000
        paid_back = await usdc.deposit(signature)
        assert paid_back is not None
        assert paid_back.state is UsdcDepositState.REFUNDED
        done = await usdc.settle()
        assert (done.credited, done.undecided, done.gap_micro_usdc) == (0, 0, None)
        assert await usdc.moved() == usdc.market.balance(usdc.market.treasury.pubkey()) == 0
        assert await usdc.balance(customer) == 0
        assert await usdc.books_hold()

    async def test_what_was_signed_cannot_be_cancelled(
        self, usdc: UsdcMarket, customer: UsdcCustomer, sending: Sending
    ):
        signature = await usdc.pay(usdc.payer(), await usdc.top_up(customer, "5"))
        await usdc.settle()
        deposit = await usdc.deposit(signature)
        assert deposit is not None
        batch = await asked(usdc, customer, deposit_id=deposit.id)
        await sending.rows.approve(batch)
        part_id = await sending.rows.value("select id from payout_part where batch_id = %s", batch.id)
        await sending.round(part_id)
        with pytest.raises(Conflict, match="may have been signed"):
            async with session_scope(usdc.sessions) as session:
                await cancel_refund(session, deposit.id, reason="too late", actor_id=customer.user_id)


async def asked(usdc: UsdcMarket, customer: UsdcCustomer, **order: object) -> MadeBatch:
    """A refund that waits for approval."""
    async with session_scope(usdc.sessions) as session:
        batch: PayoutBatch = await request_refund(
            session, RefundOrder(reason="sent by mistake", **order), actor_id=customer.user_id
        )
        return MadeBatch(batch.id, [], batch.total_micro_usdc)
