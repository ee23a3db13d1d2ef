"""What a worker runs: the hint of an approval, and the periodic that finds what is left. In a database of its own."""

import pytest
from redis.asyncio import Redis

from raymart_billing.payouts.approving import PartLimits, approve_batch, part_id_of
from raymart_billing.payouts.sending import tasks
from raymart_billing.payouts.sending.rules import SendingRules
from raymart_billing.work import Context, TaskContext
from raymart_billing.work.context import Resources
from raymart_core.ids import new_id
from raymart_core.money import Asset, Money
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.settings import ControlSettings
from support.own_database import database_url, owner_url
from support.sending import Sending

__all__ = ["database_url", "owner_url"]


@pytest.fixture
async def resources(sending: Sending, pool, redis_server, database_url):
    settings = ControlSettings(DATABASE_URL=database_url, token_secret="s" * 32)
    async with Redis.from_url(redis_server.url) as redis:
        yield Resources(
            sessions=sending.sessions, pool=pool, settings=settings, redis=redis, chain=sending.chain
        )


async def hint(resources: Resources, part_id) -> None:
    [task] = [task for task in tasks.TASKS if task.name == "payouts.send_part"]
    await task.handle(
        TaskContext(resources, run_id=new_id(), fence=1, outbox_id=new_id(), attempt=1), str(part_id)
    )


async def run_periodic(resources: Resources) -> None:
    [periodic] = [one for one in tasks.PERIODICS if one.name == "payouts.send"]
    await periodic.handle(Context(resources, run_id=new_id(), fence=1))


class TestSendPart:
    async def test_first_hint_sends_all_parts_and_the_others_nothing_more(self, sending: Sending, resources):
        first, second = await sending.batch(1_000_000), await sending.batch(2_000_000)
        await hint(resources, first.part_id)
        assert await sending.part(second.part_id) == "submitted"
        asked = sending.chain.rpc.slot
        sending.chain.rpc.slot = None  # Any further look would fail.
        await hint(resources, second.part_id)
        sending.chain.rpc.slot = asked
        sending.market.chain.finalize()
        await run_periodic(resources)
        assert sending.balances(first) + sending.balances(second) == [1_000_000, 2_000_000]
        assert (
            await sending.batch_state(first.batch_id)
            == await sending.batch_state(second.batch_id)
            == "finalized"
        )

    async def test_without_solana_nothing_happens(self, sending: Sending, resources):
        batch = await sending.batch(1_000_000)
        without = Resources(
            sessions=resources.sessions,
            pool=resources.pool,
            settings=resources.settings,
            redis=resources.redis,
        )
        await hint(without, batch.part_id)
        await run_periodic(without)
        assert await sending.part(batch.part_id) == "planned"


class TestRound:
    async def test_parts_that_wait_for_finality_do_not_keep_others_from_being_sent(self, pool, sessions):
        sending = Sending(pool, sessions, rules=SendingRules(parts_max=1))
        batches = [await sending.batch(1_000_000) for _ in range(3)]
        for _ in range(8):  # Other tests of this file have left parts too.
            assert (await sending.sender.round()).parts == 1
        states = [await sending.part(batch.part_id) for batch in batches]
        assert states == ["submitted"] * 3


class TestApprovedAgain:
    async def test_database_from_before_the_approval_pays_nobody_twice(
        self, sending: Sending, owner_url: str
    ):
        """The approval is forgotten with all that followed, and given again: parts and markers are the same."""
        batch = await sending.batch(1_000_000, 2_000_000, is_approved=False)
        limits = PartLimits(payees_max=1, total_max=Money(10**12, Asset.USDC))
        parts = [part_id_of(batch.batch_id, position) for position in range(2)]
        for _ in range(2):
            user_id = await sending.rows.person()
            async with session_scope(sending.sessions) as session:
                await approve_batch(
                    session,
                    batch.batch_id,
                    user_id=user_id,
                    total=Money(3_000_000, Asset.USDC),
                    limits=limits,
                )
            for part_id in parts:
                await sending.round(part_id)
            sending.market.chain.finalize()
            await sending.restore_as_planned(owner_url, batch)
        assert sending.balances(batch) == [1_000_000, 2_000_000]
