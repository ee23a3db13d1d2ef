"""What stops a part, says why, and ends by itself or by a person: funds, a stop, a hold, a stranger on the marker."""

import pytest

from raymart_billing.payouts.sending import decision
from raymart_billing.payouts.sending.failpoints import Failpoint
from support.dev_chain import SOL, USDC, Market
from support.sending import Killed, Sending


class TestFunds:
    async def test_too_little_usdc_waits_and_says_how_much(self, pool, sessions):
        sending = Sending(pool, sessions, market=Market.funded(micro_usdc=4 * USDC))
        batch = await sending.batch(5 * USDC)
        await sending.round(batch.part_id)
        assert await sending.part(batch.part_id) == "waiting_funds"
        reason = await sending.part(batch.part_id, "state_reason")
        assert reason.startswith("treasury_short_of_usdc")
        assert "4000000" in reason
        assert "5000000" in reason
        assert await sending.attempts(batch.part_id) == []
        sending.market.chain.faucet.give_tokens(
            sending.market.treasury.pubkey(), mint=sending.market.mint, amount=USDC
        )
        sending.market.chain.finalize()
        await sending.finish(batch.batch_id)
        assert sending.balances(batch) == [5 * USDC]

    async def test_no_sol_for_fees_waits_and_goes_on(self, pool, sessions):
        sending = Sending(pool, sessions, market=Market.funded(lamports=900_000))
        batch = await sending.batch(5 * USDC)
        await sending.round(batch.part_id)
        assert await sending.part(batch.part_id) == "waiting_funds"
        assert (await sending.part(batch.part_id, "state_reason")).startswith("treasury_short_of_sol")
        sending.market.chain.faucet.airdrop(sending.market.treasury.pubkey(), lamports=SOL)
        sending.market.chain.finalize()
        await sending.finish(batch.batch_id)
        assert sending.balances(batch) == [5 * USDC]

    async def test_frozen_treasury_blames_nobody(self, sending: Sending):
        batch = await sending.batch(5 * USDC)
        sending.market.chain.faucet.freeze(sending.market.treasury_tokens, mint=sending.market.mint)
        sending.market.chain.finalize()
        await sending.round(batch.part_id)
        assert await sending.part(batch.part_id) == "waiting_funds"
        assert (await sending.part(batch.part_id, "state_reason")).startswith("treasury_frozen")
        assert await sending.items(batch.batch_id) == ["planned"]

    async def test_treasury_frozen_on_the_way_blames_nobody(self, sending: Sending):
        batch = await sending.batch(5 * USDC)
        sending.kill.place = Failpoint.AFTER_ATTEMPT_COMMIT
        with pytest.raises(Killed):
            await sending.round(batch.part_id)
        await sending.expire_lease(batch.part_id)
        sending.market.chain.faucet.freeze(sending.market.treasury_tokens, mint=sending.market.mint)
        sending.market.chain.finalize()
        for _ in range(3):
            await sending.round(batch.part_id)
            sending.market.chain.finalize()
        assert await sending.items(batch.batch_id) == ["planned"]
        assert await sending.part(batch.part_id) == "waiting_funds"
        sending.market.chain.faucet.thaw(sending.market.treasury_tokens, mint=sending.market.mint)
        sending.market.chain.finalize()
        await sending.finish(batch.batch_id)
        assert sending.balances(batch) == [5 * USDC]

    async def test_parts_of_one_round_do_not_count_on_the_same_money(self, pool, sessions):
        sending = Sending(pool, sessions, market=Market.funded(micro_usdc=9 * USDC))
        first, second = await sending.batch(5 * USDC), await sending.batch(5 * USDC)
        await sending.round(first.part_id)
        await sending.round(second.part_id)
        assert await sending.part(first.part_id) == "submitted"
        assert await sending.part(second.part_id) == "waiting_funds"


class TestStopped:
    @pytest.fixture
    async def stopped(self, sending: Sending):
        """Batches that were approved before payouts were stopped."""
        sending.stop = lambda: sending.rows.fetch(
            "insert into payout_switch (id, source, reason) values (gen_random_uuid(), 'reconciliation', 'test')"
        )
        sending.resume = lambda: sending.rows.fetch(
            "update payout_switch set resumed_at = clock_timestamp(), resumed_reason = 'test' where resumed_at is null"
        )
        yield sending
        await sending.resume()

    async def test_nothing_new_is_signed_and_what_is_in_flight_settles(self, stopped):
        flying, planned = await stopped.batch(5 * USDC), await stopped.batch(6 * USDC)
        await stopped.round(flying.part_id)
        await stopped.stop()
        stopped.market.chain.finalize()
        await stopped.round(flying.part_id)
        await stopped.round(planned.part_id)
        assert await stopped.part(flying.part_id) == "finalized"
        assert await stopped.part(planned.part_id) == "planned"
        assert await stopped.part(planned.part_id, "state_reason") == decision.NOT_ALLOWED
        assert await stopped.attempts(planned.part_id) == []
        await stopped.resume()
        await stopped.finish(planned.batch_id)
        assert stopped.balances(planned) == [6 * USDC]

    async def test_stop_between_the_look_and_the_signature_is_seen_in_the_transaction(self, stopped):
        batch = await stopped.batch(5 * USDC)
        simulate = stopped.chain.rpc.simulate

        async def stop_then_simulate(raw):
            await stopped.stop()
            return await simulate(raw)

        stopped.chain.rpc.simulate = stop_then_simulate
        await stopped.round(batch.part_id)
        assert await stopped.attempts(batch.part_id) == []
        stopped.market.chain.finalize()
        assert stopped.balances(batch) == [0]

    async def test_batch_on_hold_is_not_sent_again_until_released(self, sending: Sending):
        batch = await sending.batch(5 * USDC)
        sending.market.chain.faults.drop = sending.second.faults.drop = 1
        await sending.round(batch.part_id)
        await sending.rows.fetch(
            "update payout_batch set state = 'held', hold_reason = 'look' where id = %s", batch.batch_id
        )
        await sending.round(batch.part_id)
        sending.market.chain.finalize()
        await sending.round(batch.part_id)
        assert sending.balances(batch) == [0]
        await sending.rows.fetch(
            "update payout_batch set state = 'sending', hold_reason = null where id = %s", batch.batch_id
        )
        await sending.finish(batch.batch_id)
        assert sending.balances(batch) == [5 * USDC]


class TestStrangerOnTheMarker:
    async def test_part_is_held_then_goes_on_under_another_marker(self, sending: Sending):
        batch = await sending.batch(5 * USDC)
        sending.kill.place = Failpoint.AFTER_ATTEMPT_COMMIT
        with pytest.raises(Killed):
            await sending.round(batch.part_id)
        await sending.expire_lease(batch.part_id)
        marker = sending.chain.marker(batch.part_id, 0).address
        sending.market.chain.faucet.airdrop(marker, lamports=1_000_000)
        sending.market.chain.finalize()
        await sending.round(batch.part_id)
        assert await sending.part(batch.part_id) == "held"
        assert await sending.part(batch.part_id, "state_reason") == decision.MARKER_TAKEN
        assert await sending.part(batch.part_id, "generation") == 0
        sending.market.chain.advance(250)
        await sending.round(batch.part_id)
        assert await sending.part(batch.part_id, "generation") == 1
        await sending.finish(batch.batch_id)
        assert sending.balances(batch) == [5 * USDC]

    async def test_later_gift_to_our_own_marker_changes_nothing(self, sending: Sending):
        batch = await sending.batch(5 * USDC)
        await sending.round(batch.part_id)
        sending.market.chain.advance(2)
        sending.market.chain.faucet.airdrop(
            sending.chain.marker(batch.part_id, 0).address, lamports=1_000_000
        )
        await sending.finish(batch.batch_id)
        assert await sending.part(batch.part_id, "generation") == 0
        assert sending.balances(batch) == [5 * USDC]


class TestTooOld:
    async def test_batch_older_than_its_marker_is_held(self, sending: Sending, owner_url: str):
        batch = await sending.batch(5 * USDC)
        await sending.age(owner_url, batch, "89 days")
        await sending.round(batch.part_id)
        assert await sending.part(batch.part_id) == "held"
        assert await sending.part(batch.part_id, "state_reason") == decision.TOO_OLD
        assert sending.balances(batch) == [0]
