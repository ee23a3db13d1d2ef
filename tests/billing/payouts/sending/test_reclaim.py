"""Rent of old markers."""

from raymart_billing.payouts.sending.reclaim import reclaim_markers
from raymart_billing.payouts.sending.rules import SendingRules
from support.dev_chain import USDC
from support.sending import Sending

RULES = SendingRules()


class TestReclaimMarkers:
    async def test_rent_comes_back_after_the_retention_and_is_noted_once_gone(
        self, sending: Sending, owner_url: str
    ):
        batch = await sending.batch(5 * USDC)
        await sending.finish(batch.batch_id)
        await sending.age(owner_url, batch, "91 days")
        before = sending.market.lamports(sending.chain.treasury)
        assert await reclaim_markers(sending.sessions, sending.chain, RULES) == 1
        assert await sending.part(batch.part_id, "marker_reclaimed_at") is None
        sending.market.chain.finalize()
        rent = await sending.chain.rpc.rent_exempt(0)
        assert sending.market.lamports(sending.chain.treasury) == before + rent - 5_000
        assert await reclaim_markers(sending.sessions, sending.chain, RULES) == 0
        assert await sending.part(batch.part_id, "marker_reclaimed_at") is not None

    async def test_young_markers_stay(self, sending: Sending, owner_url: str):
        batch = await sending.batch(5 * USDC)
        await sending.finish(batch.batch_id)
        await sending.age(owner_url, batch, "89 days")
        assert await reclaim_markers(sending.sessions, sending.chain, RULES) == 0

    async def test_repeat_before_it_has_landed_costs_a_fee_and_nothing_else(
        self, sending: Sending, owner_url: str
    ):
        batch = await sending.batch(5 * USDC)
        await sending.finish(batch.batch_id)
        await sending.age(owner_url, batch, "91 days")
        before = sending.market.lamports(sending.chain.treasury)
        for _ in range(2):
            await reclaim_markers(sending.sessions, sending.chain, RULES)
        sending.market.chain.finalize()
        rent = await sending.chain.rpc.rent_exempt(0)
        assert (
            before + rent - 10_000 <= sending.market.lamports(sending.chain.treasury) <= before + rent - 5_000
        )
