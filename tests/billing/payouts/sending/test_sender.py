"""The engine on the development chain, with real programs, real rows and real money in the ledger."""

import pytest

from raymart_billing.payouts.sending.failpoints import Failpoint
from support.sending import Killed, Sending


class TestPayment:
    async def test_approved_batch_is_paid_and_booked_once(self, sending: Sending):
        batch = await sending.batch(5_000_000, 7_000_000)
        await sending.finish(batch.batch_id)
        assert sending.balances(batch) == [5_000_000, 7_000_000]
        assert await sending.items(batch.batch_id) == ["paid", "paid"]
        assert await sending.attempts(batch.part_id) == [("pay", "landed")]
        for provider_id in batch.providers:
            assert await sending.ledger(provider_id, "payout_clearing") == 0
            assert await sending.ledger(provider_id, "provider_payable") == 0

    async def test_part_keeps_what_shows_where_it_landed(self, sending: Sending):
        batch = await sending.batch(5_000_000)
        await sending.finish(batch.batch_id)
        signature = await sending.part(batch.part_id, "signature")
        found = await sending.chain.rpc.transaction(signature)
        assert found is not None
        assert await sending.part(batch.part_id, "slot") == found.slot
        assert await sending.part(batch.part_id, "fee_lamports") == found.fee_lamports == 5_000
        marker = str(sending.chain.marker(batch.part_id, 0).address)
        assert await sending.part(batch.part_id, "marker") == marker

    async def test_states_go_from_planned_to_submitted_to_finalized(self, sending: Sending):
        batch = await sending.batch(5_000_000)
        seen = [await sending.part(batch.part_id)]
        await sending.round(batch.part_id)
        seen.append(await sending.part(batch.part_id))
        assert await sending.batch_state(batch.batch_id) == "sending"
        sending.market.chain.advance(2)
        await sending.round(batch.part_id)
        assert await sending.items(batch.batch_id) == ["planned"]
        sending.market.chain.finalize()
        await sending.round(batch.part_id)
        seen.append(await sending.part(batch.part_id))
        assert seen == ["planned", "submitted", "finalized"]
        assert await sending.batch_state(batch.batch_id) == "finalized"

    async def test_version_0_pays_too(self, pool, sessions):
        sending = Sending(pool, sessions, version=0)
        batch = await sending.batch(*[1_000_000] * 14)
        await sending.finish(batch.batch_id)
        assert sending.balances(batch) == [1_000_000] * 14

    async def test_batch_that_is_not_approved_is_not_touched(self, sending: Sending):
        batch = await sending.batch(5_000_000, is_approved=False)
        assert (await sending.round(batch.part_id)).parts == 0


class TestKilled:
    @pytest.mark.parametrize(
        "place",
        [
            Failpoint.AFTER_CLAIM,
            Failpoint.BEFORE_ATTEMPT_COMMIT,
            Failpoint.AFTER_ATTEMPT_COMMIT,
            Failpoint.AFTER_BROADCAST,
            Failpoint.BEFORE_SETTLE,
            Failpoint.BEFORE_SETTLE_COMMIT,
            Failpoint.AFTER_SETTLE,
        ],
    )
    async def test_next_worker_goes_on_and_pays_once(self, sending: Sending, place: Failpoint):
        batch = await sending.batch(3_000_000, 4_000_000)
        sending.kill.place = place
        died = 0
        for _ in range(8):
            try:
                await sending.round(batch.part_id)
            except Killed:
                died += 1
                sending.sender = sending.another()
                await expire_lease(sending, batch.part_id)
            sending.market.chain.finalize()
        assert died == 1
        assert sending.balances(batch) == [3_000_000, 4_000_000]
        assert await sending.items(batch.batch_id) == ["paid", "paid"]
        assert len(await sending.attempts(batch.part_id)) == 1

    async def test_attempt_is_committed_before_it_is_broadcast(self, sending: Sending):
        batch = await sending.batch(3_000_000)
        sending.kill.place = Failpoint.AFTER_ATTEMPT_COMMIT
        with pytest.raises(Killed):
            await sending.round(batch.part_id)
        assert await sending.part(batch.part_id) == "signed"
        assert await sending.attempts(batch.part_id) == [("pay", "live")]
        sending.market.chain.finalize()
        assert sending.balances(batch) == [0]


async def expire_lease(sending: Sending, part_id) -> None:
    await sending.rows.fetch("update payout_part set locked_until = clock_timestamp() where id = %s", part_id)
