"""What attempts are made of."""

from raymart_billing.payouts.sending.rules import BLOCKS_VALID
from support.sending import Sending


class TestPriorityFee:
    async def test_the_operators_cap_holds_below_the_engines_own(self, pool, sessions):
        sending = Sending(pool, sessions)
        sending.chain.settings = sending.chain.settings.model_copy(update={"priority_fee_lamports_max": 7})
        batch = await sending.batch(5_000_000)
        sending.market.chain.faults.drop = sending.second.faults.drop = 1
        await sending.round(batch.part_id)
        sending.market.chain.advance(BLOCKS_VALID // 2)
        sending.market.chain.faults.drop = sending.second.faults.drop = 1
        await sending.round(batch.part_id)
        offered = await sending.rows.fetch(
            "select priority_fee_lamports from payout_attempt where part_id = %s order by number",
            batch.part_id,
        )
        assert offered == [(0,), (7,)]
