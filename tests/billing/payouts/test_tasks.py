"""Planning on demand as a worker runs it. In a database of its own."""

from uuid import UUID

import pytest

from raymart_billing.connections import Pool
from raymart_billing.payouts import tasks
from raymart_billing.payouts.requests import PlanRequest, request_plan
from raymart_billing.work import TaskContext
from raymart_billing.work.context import Resources
from raymart_core.ids import new_id
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.settings import ControlSettings
from support.own_database import database_url, owner_url
from support.payout_batches import MINT, address
from support.provider_earnings import USD, Earners

__all__ = ["database_url", "owner_url"]


@pytest.fixture
async def resources(sessions: Sessions, pool: Pool, database_url: str) -> Resources:
    settings = ControlSettings(
        DATABASE_URL=database_url,
        token_secret="s" * 32,
        SOLANA_RPC_URL="http://127.0.0.1:1",
        solana_chain_id="solana:localnet",
        usdc_mint=MINT,
        treasury_address=address(),
    )
    return Resources(sessions=sessions, pool=pool, settings=settings, redis=None, chain=None)


class TestPlan:
    async def test_each_request_ends_one_epoch_whichever_run_gets_there(
        self, resources: Resources, sessions: Sessions, pool: Pool
    ):
        earners = Earners(pool, sessions)
        payee = await earners.provider()
        for number in (1, 2):
            await earners.earn(payee, 5 * USD)
            async with session_scope(sessions) as session:
                asked = await request_plan(session, PlanRequest(created_by=None, ends_epoch=True))
            # The first run died before it wrote anything; the third follows one whose end nobody heard of.
            for attempt in (2, 3):
                await plan(resources, asked, attempt)
            assert await earners.books.fetch("select count(*), max(number) from epoch") == [(number, number)]
            assert await earners.books.fetch("select count(*) from payout_item") == [(number,)]


async def plan(resources: Resources, outbox_id: UUID, attempt: int) -> None:
    [task] = [task for task in tasks.TASKS if task.name == "payouts.plan"]
    context = TaskContext(resources, run_id=new_id(), fence=1, outbox_id=outbox_id, attempt=attempt)
    await task.handle(context, PlanRequest(created_by=None, ends_epoch=True).subject())
