"""Reconciliation on real Postgres and a real chain: what agrees is silent, every edit is named, and payouts stop."""

from datetime import timedelta

import psycopg
import pytest
from sqlalchemy import select

from raymart_billing.payouts.reconciliation.chain_state import chain_state
from raymart_billing.payouts.reconciliation.models import ReconciliationDifference
from raymart_billing.payouts.reconciliation.opening import reader_of
from raymart_billing.payouts.reconciliation.service import resolve_difference
from raymart_billing.payouts.reconciliation.withdrawals import record_withdrawal
from raymart_billing.solana.errors import RpcError
from raymart_core.errors import Conflict, InvalidRequest
from raymart_marketplace.db.session import session_scope
from support.dev_chain import USDC
from support.reconciling import Reconciling
from support.sending import Sending, chain_of

EDITS = {
    "item's amount": ("payout_item", "amount_micro_usdc = amount_micro_usdc + 1", "amount"),
    "item's wallet": ("payout_item", "wallet = token_account", "wallet"),
    "item's state": ("payout_item", "state = 'planned'", "item_state"),
    "item's provider": ("payout_item", "provider_id = gen_random_uuid()", "ledger"),
    "part's state": ("payout_part", "state = 'held'", "landed_not_finalized"),
    "part's slot": ("payout_part", "slot = slot + 1", "chain_facts"),
    "part's signature": ("payout_part", "signature = reverse(signature)", "signature"),
    "part's marker": ("payout_part", "marker = (select wallet from payout_item limit 1)", "marker"),
    "part's total": ("payout_part", "total_micro_usdc = total_micro_usdc - 1", "part_total"),
    "batch's total": ("payout_batch", "total_micro_usdc = total_micro_usdc + 1", "batch_total"),
    "attempt's bytes": ("payout_attempt", "raw_transaction = set_byte(raw_transaction, 200, 0)", "attempt"),
    "attempt's state": ("payout_attempt", "state = 'failed'", "attempt"),
    "ledger's amount": ("transfer", "amount = amount + 1000 where key like 'payout:%%:settled'", "ledger"),
    "ledger's code": ("transfer", "code = 'payout_returned' where key like 'payout:%%:settled'", "ledger"),
    "deposit's amount": ("usdc_deposit", "amount_micro_usdc = amount_micro_usdc + 1", "not_on_chain"),
}
"""Table, edit, and the kind of difference that must name it."""


class TestAgreement:
    async def test_what_was_paid_as_booked_makes_no_difference(self, world: Reconciling):
        payees = await world.paid(5 * USDC, 7 * USDC)
        run = await world.run()
        assert await world.standing(run.id) == []
        assert (run.parts, run.endpoints) == (1, 2)
        assert run.balance_micro_usdc == (1_000_000 - 12) * USDC
        assert run.fees_lamports > 0
        assert await world.sending.batch_state(payees.batch_id) == "finalized"

    async def test_what_is_in_flight_makes_no_difference(self, world: Reconciling):
        payees = await world.sending.batch(5 * USDC)
        await world.sending.round(payees.part_id)
        assert await world.differences() == {}

    async def test_a_burnt_part_and_its_successor_make_no_difference(self, world: Reconciling):
        wallets = world.sending.market.wallets(2, lamports=0)
        payees = await world.sending.batch(5 * USDC, 6 * USDC, wallets=wallets)
        faucet = world.sending.market.chain.faucet
        faucet.freeze(world.sending.market.tokens_of(wallets[0].pubkey()), mint=world.sending.market.mint)
        await world.sending.finish(payees.batch_id)
        assert await world.sending.items(payees.batch_id) == ["returned", "paid"]
        assert await world.differences() == {}

    async def test_a_run_goes_on_where_an_earlier_one_ended(self, world: Reconciling):
        await world.paid(5 * USDC)
        first = await world.run()
        await world.paid(7 * USDC)
        second = await world.run(since=first.created_at + timedelta(microseconds=1))
        assert second.opening_run_id == first.id
        assert second.opening_micro_usdc == first.balance_micro_usdc
        assert second.transactions == 1
        assert await world.standing(second.id) == []


class TestEditsByHand:
    async def test_each_is_named_and_nothing_else_is_lost(self, world: Reconciling):
        await world.paid(5 * USDC, 7 * USDC)
        missed = []
        for name, (table, change, kind) in EDITS.items():
            world.edit(f"create table saved as select * from {table}")
            world.edit(f"update {table} set {change}")
            kinds = {found for found, _ in await world.standing((await world.run()).id)}
            if kind not in kinds:
                missed.append((name, kinds))
            world.edit(f"delete from {table}")
            world.edit(f"insert into {table} overriding system value select * from saved")
            world.edit("drop table saved")
        assert missed == []
        assert await world.differences() == {}

    async def test_a_removed_transfer_and_removed_attempts_are_named(self, world: Reconciling):
        payees = await world.paid(5 * USDC)
        world.edit("delete from transfer where key like 'payout:%%:settled'")
        world.edit("update payout_part set state = 'submitted', finalized_at = null, signature = null")
        world.edit("delete from payout_attempt")
        found = await world.differences()
        assert found[str(payees.items[0])] in {"ledger", "item_state"}
        assert found[str(payees.part_id)] == "landed_not_finalized"


class TestChain:
    async def test_what_one_endpoint_falsely_called_final_is_named(self, world: Reconciling):
        liar = world.sending.market.chain.node()
        alone = Sending(
            world.sending.pool, world.sessions, market=world.sending.market, endpoints=[liar.handle]
        )
        payees = await alone.batch(5 * USDC)
        liar.faults.false_finalized = 1
        await alone.finish(payees.batch_id)
        assert alone.balances(payees) == [0]
        two = chain_of(world.sending.market, world.sessions, [liar.handle, world.sending.market.chain.handle])
        found = await world.standing((await world.run(chain=two)).id)
        assert ("finalized_not_landed", str(payees.part_id)) in found
        assert "endpoints" in {kind for kind, _ in found}

    async def test_money_that_left_for_nothing_is_named_until_somebody_says_what_for(
        self, world: Reconciling
    ):
        thief = world.sending.market.wallet()
        market = world.sending.market
        signature = await market.pay(market.treasury, thief.pubkey(), micro_usdc=3 * USDC)
        market.chain.finalize()
        assert (await world.differences())[signature] == "unexplained_payment"
        [taken] = await reader_of(world.sending.chain).transactions([signature])
        async with session_scope(world.sessions) as session:
            await record_withdrawal(session, taken, reason="to the vault", recorded_by=None)
        assert await world.differences() == {}
        with pytest.raises(Conflict, match="recorded already"):
            async with session_scope(world.sessions) as session:
                await record_withdrawal(session, taken, reason="again", recorded_by=None)

    async def test_a_payout_is_no_withdrawal(self, world: Reconciling):
        payees = await world.paid(5 * USDC)
        signature = await world.sending.part(payees.part_id, "signature")
        [paid] = await reader_of(world.sending.chain).transactions([signature])
        with pytest.raises(Conflict, match="attempt of a payout"):
            async with session_scope(world.sessions) as session:
                await record_withdrawal(session, paid, reason="no", recorded_by=None)

    async def test_money_that_nobody_booked_is_named(self, world: Reconciling):
        payer = world.sending.market.wallet(micro_usdc=9 * USDC)
        signature = await world.sending.market.pay(payer, world.sending.chain.treasury, micro_usdc=9 * USDC)
        world.sending.market.chain.finalize()
        assert (await world.differences())[signature] == "unexplained_receipt"

    async def test_an_endpoint_that_is_away_leaves_the_run_to_be_done(self, world: Reconciling):
        world.sending.second.faults.unavailable = 50
        with pytest.raises(RpcError):
            await world.run()
        assert (
            await world.sending.rows.fetch("select 1 from reconciliation_run where finished_at is not null")
            == []
        )


class TestStop:
    async def test_a_new_difference_stops_payouts_until_each_has_its_reason(self, world: Reconciling):
        await world.paid(5 * USDC)
        world.edit("update payout_item set amount_micro_usdc = amount_micro_usdc + 1")
        run = await world.run()
        waiting = await world.sending.batch(6 * USDC, is_approved=False)
        with pytest.raises(psycopg.errors.CheckViolation, match="payouts are stopped"):
            await world.sending.rows.fetch(
                "update payout_batch set state = 'approved' where id = %s", waiting.batch_id
            )
        with pytest.raises(psycopg.errors.CheckViolation, match="give each a reason first"):
            await world.sending.rows.fetch(
                "update payout_switch set resumed_at = now(), resumed_reason = 'hurry' where source = 'reconciliation'"
            )
        async with session_scope(world.sessions) as session:
            numbers = (await session.scalars(select(ReconciliationDifference.number))).all()
        for number in numbers:
            async with session_scope(world.sessions) as session:
                await resolve_difference(session, number=number, reason="a drill", resolved_by=None)
        assert len(numbers) == run.differences
        assert await world.sending.rows.fetch("select 1 from payout_switch where resumed_at is null") == []

    async def test_what_was_resolved_is_not_raised_again_until_it_was_gone(self, world: Reconciling):
        await world.paid(5 * USDC)
        world.edit("update payout_part set slot = slot + 1")
        first = await world.run()
        async with session_scope(world.sessions) as session:
            [number] = (await session.scalars(select(ReconciliationDifference.number))).all()
            await resolve_difference(session, number=number, reason="a drill", resolved_by=None)
        await world.run()
        switches = "select count(*) from payout_switch"
        assert await world.sending.rows.value(switches) == 1
        world.edit("update payout_part set slot = slot - 1")
        await world.run()
        world.edit("update payout_part set slot = slot + 1")
        third = await world.run()
        assert await world.sending.rows.value(switches) == 2
        assert third.differences == first.differences == 1

    async def test_a_difference_is_resolved_once_and_with_a_reason(self, world: Reconciling):
        await world.paid(5 * USDC)
        world.edit("update payout_part set slot = slot + 1")
        await world.run()
        number = await world.sending.rows.value("select number from reconciliation_difference")
        with pytest.raises(InvalidRequest, match="give 1 to 500"):
            async with session_scope(world.sessions) as session:
                await resolve_difference(session, number=number, reason="  ", resolved_by=None)
        async with session_scope(world.sessions) as session:
            await resolve_difference(session, number=number, reason="a drill", resolved_by=None)
        with pytest.raises(Conflict, match="a drill"):
            async with session_scope(world.sessions) as session:
                await resolve_difference(session, number=number, reason="again", resolved_by=None)

    async def test_what_was_found_stays_as_it_was_found(self, world: Reconciling):
        await world.paid(5 * USDC)
        world.edit("update payout_part set slot = slot + 1")
        await world.run()
        for attempt in (
            "update reconciliation_difference set found = 'nothing'",
            "update reconciliation_run set differences = 0",
            "delete from reconciliation_difference",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await world.sending.rows.fetch(attempt)


class TestChainState:
    async def test_each_endpoint_is_shown_by_itself_and_one_that_is_away_with_its_problem(
        self, world: Reconciling
    ):
        world.sending.second.faults.unavailable = 50
        state = await chain_state(world.sending.chain)
        first, second = state.endpoints
        assert (first.problem, first.genesis_hash) == (None, world.sending.market.chain.genesis_hash)
        assert (second.genesis_hash, second.finalized_slot) == (None, None)
        assert second.problem
        assert state.funds is not None
        assert state.funds.micro_usdc == 1_000_000 * USDC
