"""Promise: a payment to the treasury is credited once, to whom it names, after it is final; whatever stops the scanner."""

import asyncio

import psycopg
import pytest
from sqlalchemy import text

from raymart_billing.solana.errors import RpcError
from raymart_billing.usdc_deposits.models import Attribution, TreasuryMovement, UsdcDepositState
from raymart_billing.usdc_deposits.scanning import Step, Superseded, read_again
from raymart_core.errors import Unavailable
from raymart_marketplace.db.session import session_scope
from support.usdc_market import UsdcCustomer, UsdcMarket, naming, reference_of


class TestCredit:
    async def test_a_request_that_is_paid_is_credited_once_and_only_when_final(
        self, usdc: UsdcMarket, customer: UsdcCustomer
    ):
        request = await usdc.top_up(customer, "25.5")
        signature = await usdc.pay(usdc.payer(), request)
        usdc.market.chain.advance(2)
        await usdc.scan()
        assert await usdc.balance(customer) == 0
        done = await usdc.settle()
        assert (done.credited, await usdc.balance(customer)) == (1, 25_500_000)
        deposit = await usdc.deposit(signature)
        assert deposit is not None
        assert (deposit.state, deposit.attributed_by, deposit.top_up_id) == (
            UsdcDepositState.CREDITED,
            Attribution.REFERENCE,
            request.id,
        )
        assert (await usdc.scan()).stored == 0
        assert await usdc.balance(customer) == 25_500_000
        assert await usdc.books_hold()

    async def test_reading_from_the_beginning_credits_nothing_again(
        self, usdc: UsdcMarket, customer: UsdcCustomer
    ):
        payer = usdc.payer()
        for _ in range(5):
            await usdc.pay(payer, await usdc.top_up(customer, "1"))
        await usdc.settle()
        for page_size in (1, 2, 1_000):
            async with session_scope(usdc.sessions) as session:
                await read_again(session, usdc.account)
            assert (await usdc.scan(page_size=page_size)).stored == 0
        assert await usdc.balance(customer) == 5_000_000

    async def test_small_pages_find_everything_in_order(self, usdc: UsdcMarket, customer: UsdcCustomer):
        payer = usdc.payer()
        signatures = []
        for _ in range(5):
            signatures.append(await usdc.pay(payer, await usdc.top_up(customer, "1")))
            usdc.market.chain.advance(1)
        usdc.market.chain.finalize()
        assert (await usdc.scan(page_size=2)).credited == 5
        assert (await usdc.position()).cursor == signatures[-1]

    async def test_a_late_and_a_second_payment_are_their_customers_all_the_same(
        self, usdc: UsdcMarket, customer: UsdcCustomer, owner_url: str
    ):
        request = await usdc.top_up(customer, "2")
        await expire(owner_url, request.id)
        payer = usdc.payer()
        await usdc.pay(payer, request)
        await usdc.pay(payer, request, micro_usdc=700_000)
        assert (await usdc.settle()).credited == 2
        assert await usdc.balance(customer) == 2_700_000

    @pytest.mark.parametrize("micro_usdc", [1, 999_999])
    async def test_dust_is_credited_to_the_last_unit(
        self, usdc: UsdcMarket, customer: UsdcCustomer, micro_usdc: int
    ):
        await usdc.pay(usdc.payer(), await usdc.top_up(customer), micro_usdc=micro_usdc)
        await usdc.settle()
        assert await usdc.balance(customer) == micro_usdc

    async def test_a_transaction_of_version_1_is_read_too(self, usdc: UsdcMarket, customer: UsdcCustomer):
        await usdc.pay(usdc.payer(), await usdc.top_up(customer, "3"), is_v1=True)
        assert (await usdc.settle()).credited == 1
        assert await usdc.balance(customer) == 3_000_000

    async def test_a_memo_tells_whose_it_is_when_no_account_does(
        self, usdc: UsdcMarket, customer: UsdcCustomer
    ):
        request = await usdc.top_up(customer)
        signature = await usdc.pay(
            usdc.payer(), micro_usdc=4_000_000, memo=f"withdrawal 77 raymart:{request.reference} thanks"
        )
        await usdc.settle()
        deposit = await usdc.deposit(signature)
        assert deposit is not None
        assert deposit.attributed_by is Attribution.MEMO
        assert await usdc.balance(customer) == 4_000_000

    async def test_several_payers_in_one_transaction_are_one_deposit(
        self, usdc: UsdcMarket, customer: UsdcCustomer
    ):
        request = await usdc.top_up(customer)
        first, second = usdc.payer(), usdc.payer()
        treasury = usdc.market.treasury.pubkey()
        reference = reference_of(request)
        paid = [
            usdc.market.transfer(first, treasury, micro_usdc=2_000_000),
            naming(usdc.market.transfer(second, treasury, micro_usdc=5_000_000), reference),
        ]
        signature = await usdc.send(first, *paid, more_signers=[second])
        await usdc.settle()
        deposit = await usdc.deposit(signature)
        assert deposit is not None
        assert deposit.amount_micro_usdc == 7_000_000
        assert [source["wallet"] for source in deposit.sources] == [
            str(second.pubkey()),
            str(first.pubkey()),
        ]
        assert await usdc.balance(customer) == 7_000_000


class TestNotCredited:
    async def test_without_a_reference_it_waits_for_a_person_and_is_in_the_books(self, usdc: UsdcMarket):
        before = await usdc.suspense()
        signature = await usdc.pay(usdc.payer(), micro_usdc=3_000_000)
        done = await usdc.settle()
        deposit = await usdc.deposit(signature)
        assert deposit is not None
        assert (done.undecided, deposit.state, deposit.organization_id) == (1, UsdcDepositState.FINAL, None)
        assert deposit.held_reason == "it names no request"
        assert await usdc.suspense() == before + 3_000_000

    async def test_two_customers_in_one_transaction_are_for_a_person(
        self, usdc: UsdcMarket, customer: UsdcCustomer
    ):
        other = await usdc.customer()
        requests = [await usdc.top_up(customer), await usdc.top_up(other)]
        payer = usdc.payer()
        keys = [reference_of(request) for request in requests]
        signature = await usdc.send(
            payer,
            naming(usdc.market.transfer(payer, usdc.market.treasury.pubkey(), micro_usdc=1_000_000), *keys),
        )
        await usdc.settle()
        deposit = await usdc.deposit(signature)
        assert deposit is not None
        assert deposit.held_reason == "its reference names requests of several customers"
        assert (await usdc.balance(customer), await usdc.balance(other)) == (0, 0)

    async def test_a_blocked_sender_is_held_for_its_customer(self, usdc: UsdcMarket, customer: UsdcCustomer):
        payer = usdc.payer()
        await usdc.mark(payer, "blocked")
        signature = await usdc.pay(payer, await usdc.top_up(customer))
        await usdc.settle()
        deposit = await usdc.deposit(signature)
        assert deposit is not None
        assert (deposit.state, deposit.organization_id) == (UsdcDepositState.FINAL, customer.organization_id)
        assert str(payer.pubkey()) in (deposit.held_reason or "")
        assert await usdc.balance(customer) == 0

    async def test_an_erased_customer_gets_nothing_and_nothing_is_lost(
        self, usdc: UsdcMarket, customer: UsdcCustomer
    ):
        request, before = await usdc.top_up(customer, "2"), await usdc.suspense()
        await usdc.erase(customer)
        signature = await usdc.pay(usdc.payer(), request)
        await usdc.settle()
        deposit = await usdc.deposit(signature)
        assert deposit is not None
        assert (deposit.organization_id, deposit.held_reason) == (None, "its customer was erased")
        assert (await usdc.balance(customer), await usdc.suspense()) == (0, before + 2_000_000)

    async def test_a_failed_transaction_with_a_reference_moves_nothing(
        self, usdc: UsdcMarket, customer: UsdcCustomer
    ):
        request = await usdc.top_up(customer)
        signature = await usdc.pay(usdc.payer(micro_usdc=5), request, micro_usdc=1_000_000)
        await usdc.settle()
        async with session_scope(usdc.sessions) as session:
            movement = await session.get_one(TreasuryMovement, (signature, usdc.account))
        assert (movement.failed, movement.delta_micro_usdc) == (True, 0)
        assert await usdc.deposit(signature) is None
        assert await usdc.balance(customer) == 0

    async def test_another_mint_is_not_our_money(self, usdc: UsdcMarket, customer: UsdcCustomer):
        request = await usdc.top_up(customer)
        before = await usdc.suspense()
        signature = await usdc.pay_other_mint(usdc.payer(), request, amount=9_000_000)
        done = await usdc.settle()
        assert (done.credited, done.undecided) == (0, 0)
        assert await usdc.deposit(signature) is None
        assert (await usdc.balance(customer), await usdc.suspense()) == (0, before)

    async def test_what_we_pay_is_a_movement_and_no_deposit(self, usdc: UsdcMarket, customer: UsdcCustomer):
        await usdc.pay(usdc.payer(), await usdc.top_up(customer, "10"))
        await usdc.settle()
        wallet = usdc.market.wallet()
        signature = await usdc.market.pay(usdc.market.treasury, wallet.pubkey(), micro_usdc=4_000_000)
        assert (await usdc.settle()).stored == 1
        assert await usdc.deposit(signature) is None
        assert await usdc.moved() == usdc.market.balance(usdc.market.treasury.pubkey()) == 6_000_000


class TestStopped:
    @pytest.mark.parametrize("step", ["listed", "stored", "read"])
    async def test_killed_after_any_step_the_next_scan_finishes(
        self, usdc: UsdcMarket, customer: UsdcCustomer, step: str
    ):
        payer = usdc.payer()
        for _ in range(3):
            await usdc.pay(payer, await usdc.top_up(customer, "1"))
        usdc.market.chain.finalize()
        for _ in range(4):
            with pytest.raises(_Killed):
                await usdc.scan(after_step=_killing(step))
        await usdc.scan()
        assert await usdc.balance(customer) == 3_000_000
        assert await usdc.moved() == 3_000_000

    async def test_a_crash_before_the_commit_stores_neither_deposit_nor_cursor(
        self, usdc: UsdcMarket, customer: UsdcCustomer, monkeypatch: pytest.MonkeyPatch
    ):
        signature = await usdc.pay(usdc.payer(), await usdc.top_up(customer, "1"))
        usdc.market.chain.finalize()
        with monkeypatch.context() as patched:
            patched.setattr("raymart_billing.usdc_deposits.scanning._STORED", text("select 1 / 0"))
            with pytest.raises(Exception, match="division by zero"):
                await usdc.scan()
        assert await usdc.deposit(signature) is None
        assert (await usdc.position()).cursor is None
        await usdc.scan()
        assert await usdc.balance(customer) == 1_000_000

    async def test_two_at_once_credit_once(self, usdc: UsdcMarket, customer: UsdcCustomer):
        payer = usdc.payer()
        for _ in range(8):
            await usdc.pay(payer, await usdc.top_up(customer, "1"))
        usdc.market.chain.finalize()
        outcomes = await asyncio.gather(*(usdc.scan() for _ in range(4)), return_exceptions=True)
        assert all(
            not isinstance(found, BaseException) or isinstance(found, Superseded) for found in outcomes
        )
        await usdc.scan()
        assert await usdc.balance(customer) == 8_000_000

    async def test_an_older_scanner_stores_nothing_after_a_newer_one_began(
        self, usdc: UsdcMarket, customer: UsdcCustomer
    ):
        await usdc.pay(usdc.payer(), await usdc.top_up(customer, "1"))
        usdc.market.chain.finalize()

        async def another(step: str) -> None:
            if step == "listed":
                await usdc.scan()

        with pytest.raises(Superseded):
            await usdc.scan(after_step=another)
        assert await usdc.balance(customer) == 1_000_000


class TestEndpoints:
    async def test_an_endpoint_that_is_away_stops_the_scan_and_says_why(
        self, usdc: UsdcMarket, customer: UsdcCustomer
    ):
        node = usdc.market.chain.node()
        chain = usdc.chain(usdc.market.chain.node(), node)
        await usdc.pay(usdc.payer(), await usdc.top_up(customer, "1"))
        usdc.market.chain.finalize()
        node.faults.unavailable = 50
        with pytest.raises(RpcError):
            await usdc.scan(chain)
        assert (await usdc.position()).problem is not None
        node.faults.unavailable = 0
        await usdc.scan(chain)
        assert (await usdc.position()).problem is None
        assert await usdc.balance(customer) == 1_000_000

    async def test_what_one_endpoint_alone_calls_final_is_not_credited(
        self, usdc: UsdcMarket, customer: UsdcCustomer
    ):
        liar, honest = usdc.market.chain.node(), usdc.market.chain.node()
        liar.faults.is_finality_early = True
        chain = usdc.chain(liar, honest)
        signature = await usdc.pay(usdc.payer(), await usdc.top_up(customer, "1"))
        with pytest.raises(Unavailable, match="not all endpoints"):
            await usdc.scan(chain)
        assert await usdc.deposit(signature) is None
        usdc.market.chain.rollback(1)
        await usdc.scan(chain)
        assert await usdc.balance(customer) == 0

    async def test_a_payment_that_never_landed_is_not_credited_by_a_lie(
        self, usdc: UsdcMarket, customer: UsdcCustomer
    ):
        liar, honest = usdc.market.chain.node(), usdc.market.chain.node()
        liar.faults.false_finalized = 1
        signature = await usdc.pay(usdc.payer(), await usdc.top_up(customer, "1"), node=liar)
        usdc.market.chain.finalize()
        chain = usdc.chain(liar, honest)
        with pytest.raises(Unavailable):
            await usdc.scan(chain)
        assert await usdc.deposit(signature) is None
        assert await usdc.balance(customer) == 0

    async def test_what_one_endpoint_hides_the_other_shows(self, usdc: UsdcMarket, customer: UsdcCustomer):
        blind, seeing = usdc.market.chain.node(), usdc.market.chain.node()
        chain = usdc.chain(blind, seeing)
        await usdc.pay(usdc.payer(), await usdc.top_up(customer, "1"))
        usdc.market.chain.finalize()
        blind.faults.is_history_hidden = True
        with pytest.raises(Unavailable, match="not all endpoints"):
            await usdc.scan(chain)
        blind.faults.is_history_hidden = False
        await usdc.scan(chain)
        assert await usdc.balance(customer) == 1_000_000

    async def test_a_fork_before_finality_leaves_nothing(self, usdc: UsdcMarket, customer: UsdcCustomer):
        signature = await usdc.pay(usdc.payer(), await usdc.top_up(customer, "1"))
        usdc.market.chain.advance(3)
        await usdc.look()
        seen = await usdc.deposit(signature)
        assert seen is not None
        assert seen.state is UsdcDepositState.SEEN
        usdc.market.chain.rollback(4)
        await usdc.settle()
        await usdc.look()
        gone = await usdc.deposit(signature)
        assert gone is not None
        assert gone.state is UsdcDepositState.DROPPED
        assert await usdc.balance(customer) == 0


class TestGap:
    async def test_what_was_missed_is_found_by_the_balance_and_read_again(
        self, usdc: UsdcMarket, customer: UsdcCustomer
    ):
        payer = usdc.payer()
        hidden = await usdc.pay(payer, await usdc.top_up(customer, "1"))
        usdc.market.chain.advance(1)
        later = await usdc.pay(payer, await usdc.top_up(customer, "2"))
        usdc.market.chain.finalize()
        async with session_scope(usdc.sessions) as session:
            await session.execute(
                text("insert into usdc_scan (account, cursor) values (:account, :cursor)"),
                {"account": usdc.account, "cursor": hidden},
            )
        first = await usdc.scan()
        assert (first.credited, first.gap_micro_usdc) == (1, 1_000_000)
        assert (await usdc.position()).cursor == later
        second = await usdc.scan()
        assert second.gap_micro_usdc == 1_000_000
        assert (await usdc.position()).cursor is None
        third = await usdc.scan()
        assert (third.credited, third.gap_micro_usdc) == (1, None)
        assert await usdc.balance(customer) == 3_000_000

    async def test_without_a_gap_nothing_is_read_again(self, usdc: UsdcMarket, customer: UsdcCustomer):
        await usdc.pay(usdc.payer(), await usdc.top_up(customer, "1"))
        for _ in range(3):
            await usdc.settle()
        position = await usdc.position()
        assert (position.gap_micro_usdc, position.reread_at) == (None, None)
        assert position.cursor is not None


class TestSeen:
    async def test_a_confirmed_payment_is_shown_without_money(self, usdc: UsdcMarket, customer: UsdcCustomer):
        signature = await usdc.pay(usdc.payer(), await usdc.top_up(customer, "1"))
        usdc.market.chain.advance(2)
        assert await usdc.look() == 1
        assert await usdc.look() == 0
        deposit = await usdc.deposit(signature)
        assert deposit is not None
        assert (deposit.state, deposit.organization_id, deposit.final_at) == (
            UsdcDepositState.SEEN,
            customer.organization_id,
            None,
        )
        assert await usdc.balance(customer) == 0
        await usdc.settle()
        credited = await usdc.deposit(signature)
        assert credited is not None
        assert (credited.id, credited.state) == (deposit.id, UsdcDepositState.CREDITED)

    async def test_a_dropped_payment_that_lands_after_all_is_credited(
        self, usdc: UsdcMarket, customer: UsdcCustomer
    ):
        payer, request = usdc.payer(), await usdc.top_up(customer, "1")
        blockhash = usdc.market.blockhash()
        raw = usdc.payment(payer, request, blockhash=blockhash)
        usdc.market.chain.advance(5)
        signature = await usdc.market.send(raw)
        usdc.market.chain.advance(2)
        await usdc.look()
        usdc.market.chain.rollback(3)
        usdc.market.chain.finalize()
        await usdc.look()
        dropped = await usdc.deposit(signature)
        assert dropped is not None
        assert dropped.state is UsdcDepositState.DROPPED
        await usdc.market.send(raw)
        await usdc.settle()
        assert await usdc.balance(customer) == 1_000_000


class _Killed(BaseException):
    """Nobody catches it, as nobody catches SIGKILL."""


def _killing(step: str) -> Step:
    async def kill(done: str) -> None:
        if done == step:
            raise _Killed

    return kill


async def expire(owner_url: str, top_up_id: object) -> None:
    """Let a request's time be over."""
    async with await psycopg.AsyncConnection.connect(owner_url) as connection:
        await connection.execute("alter table usdc_top_up disable trigger refuse_change")
        await connection.execute(
            "update usdc_top_up set expires_at = now() - interval '1 day' where id = %s", (top_up_id,)
        )
        await connection.execute("alter table usdc_top_up enable trigger refuse_change")
