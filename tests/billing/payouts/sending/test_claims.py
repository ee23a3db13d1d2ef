"""Leases on parts: one worker at a time, and the one that lost its lease writes nothing."""

import asyncio

import pytest

from raymart_billing.payouts.sending.claims import claim, lock, release
from raymart_billing.work import LeaseLost
from raymart_marketplace.db.session import session_scope
from support.sending import Sending


async def claimed(sending: Sending, part_id, *, lease_s: float = 60.0):
    async with session_scope(sending.sessions) as session:
        return await claim(session, parts_max=10, lease_s=lease_s, part_id=part_id)


class TestClaim:
    async def test_leased_part_is_passed_over_until_the_lease_ends(self, sending: Sending):
        batch = await sending.batch(1_000_000)
        [first] = await claimed(sending, batch.part_id)
        assert await claimed(sending, batch.part_id) == []
        await sending.expire_lease(batch.part_id)
        [second] = await claimed(sending, batch.part_id)
        assert second.fence == first.fence + 1

    async def test_many_at_once_get_it_once(self, sending: Sending):
        batch = await sending.batch(1_000_000)
        found = await asyncio.gather(*(claimed(sending, batch.part_id) for _ in range(4)))
        assert sum(len(claims) for claims in found) == 1

    async def test_released_part_can_be_claimed_at_once(self, sending: Sending):
        batch = await sending.batch(1_000_000)
        async with session_scope(sending.sessions) as session:
            await release(session, await claim(session, parts_max=1, lease_s=60.0, part_id=batch.part_id))
        assert len(await claimed(sending, batch.part_id)) == 1

    async def test_lease_that_ends_after_the_clock_went_back_is_not_kept(self, sending: Sending):
        batch = await sending.batch(1_000_000)
        await sending.rows.fetch(
            "update payout_part set locked_until = clock_timestamp() + interval '2 hours' where id = %s",
            batch.part_id,
        )
        assert len(await claimed(sending, batch.part_id)) == 1


class TestLock:
    async def test_old_fence_writes_nothing(self, sending: Sending):
        batch = await sending.batch(1_000_000)
        [old] = await claimed(sending, batch.part_id)
        await sending.expire_lease(batch.part_id)
        [new] = await claimed(sending, batch.part_id)
        with pytest.raises(LeaseLost):
            async with session_scope(sending.sessions) as session:
                await lock(session, old)
        async with session_scope(sending.sessions) as session:
            await lock(session, new)

    async def test_worker_that_lost_its_lease_signs_nothing(self, sending: Sending):
        """It slept over its lease while it simulated, and another one has sent the part."""
        batch = await sending.batch(1_000_000)
        simulate = sending.chain.rpc.simulate
        taken = False

        async def sleep_over_the_lease(raw):
            nonlocal taken
            if not taken:
                taken = True
                await sending.expire_lease(batch.part_id)
                await sending.another().round(batch.part_id)
            return await simulate(raw)

        sending.chain.rpc.simulate = sleep_over_the_lease
        await sending.round(batch.part_id)
        assert len(await sending.attempts(batch.part_id)) == 1
        await sending.finish(batch.batch_id)
        assert sending.balances(batch) == [1_000_000]
