"""Promise: what was booked is booked once, also without the scanner's own care; another story is not believed."""

from dataclasses import replace

import pytest
from solders.keypair import Keypair

from raymart_billing.usdc_deposits.arrivals import Arrival, PayingAccount
from raymart_billing.usdc_deposits.crediting import StoriesDiffer, book, see
from raymart_billing.usdc_deposits.models import UsdcDepositState
from raymart_core.errors import Unavailable
from raymart_core.money import AMOUNT_MAX
from raymart_marketplace.db.session import session_scope
from support.usdc_market import UsdcCustomer, UsdcMarket


async def arrived(usdc: UsdcMarket, customer: UsdcCustomer, *, micro_usdc: int = 2_000_000) -> Arrival:
    """A payment of a request, as the scanner reads it."""
    request = await usdc.top_up(customer)
    return Arrival(
        signature=str(Keypair().sign_message(b"a payment")),
        account=usdc.account,
        mint=str(usdc.market.mint),
        slot=5,
        block_time=None,
        delta_micro_usdc=micro_usdc,
        failed=False,
        sources=(PayingAccount(wallet=str(Keypair().pubkey()), account="a", amount=micro_usdc),),
        memo=None,
        keys=(usdc.account, request.reference),
    )


async def booked(usdc: UsdcMarket, arrival: Arrival):
    async with session_scope(usdc.sessions) as session:
        return await book(session, arrival)


class TestBook:
    async def test_a_repeat_books_nothing(self, usdc: UsdcMarket, customer: UsdcCustomer):
        arrival = await arrived(usdc, customer)
        deposit = await booked(usdc, arrival)
        assert deposit is not None
        assert deposit.state is UsdcDepositState.CREDITED
        assert await booked(usdc, arrival) is None
        assert await usdc.balance(customer) == 2_000_000

    async def test_another_story_of_the_same_transaction_is_not_believed(
        self, usdc: UsdcMarket, customer: UsdcCustomer
    ):
        arrival = await arrived(usdc, customer)
        await booked(usdc, arrival)
        with pytest.raises(StoriesDiffer):
            await booked(usdc, replace(arrival, delta_micro_usdc=9_000_000))
        assert await usdc.balance(customer) == 2_000_000

    async def test_a_sight_that_ends_otherwise_is_booked_by_its_end(
        self, usdc: UsdcMarket, customer: UsdcCustomer
    ):
        arrival = await arrived(usdc, customer, micro_usdc=1_000_000)
        async with session_scope(usdc.sessions) as session:
            assert await see(session, arrival)
        await booked(usdc, replace(arrival, slot=8, delta_micro_usdc=700_000))
        found = await usdc.deposit(arrival.signature)
        assert found is not None
        assert (found.slot, found.amount_micro_usdc, found.state) == (8, 700_000, UsdcDepositState.CREDITED)
        assert await usdc.balance(customer) == 700_000

    async def test_a_sight_that_fails_in_the_end_is_dropped(self, usdc: UsdcMarket, customer: UsdcCustomer):
        arrival = await arrived(usdc, customer)
        async with session_scope(usdc.sessions) as session:
            await see(session, arrival)
        assert await booked(usdc, replace(arrival, delta_micro_usdc=0, failed=True)) is None
        found = await usdc.deposit(arrival.signature)
        assert found is not None
        assert found.state is UsdcDepositState.DROPPED

    async def test_more_than_the_books_hold_stops_and_books_nothing(
        self, usdc: UsdcMarket, customer: UsdcCustomer
    ):
        arrival = await arrived(usdc, customer, micro_usdc=AMOUNT_MAX // 1_000 + 1)
        with pytest.raises(Unavailable, match="more than the books hold"):
            await booked(usdc, arrival)
        async with session_scope(usdc.sessions) as session:
            assert not await see(session, arrival)
        assert await usdc.balance(customer) == 0
