"""The sweep: its steps in the right order, and at peace with other sweeps."""

import asyncio

import pytest

from raymart_billing.records.copying import copy_requests
from raymart_billing.work import SweepStage, SweepStep
from raymart_billing.work.registry import collect
from raymart_billing.work.sweep import sweep_of
from support.background import sweep_once


def step(stage, done, error=None):
    async def run(_):
        if error is not None:
            raise error
        done.append(stage)

    return SweepStep(stage=stage, run=run)


class TestSweepOf:
    async def test_steps_run_by_stage_however_they_were_declared(self):
        done = []
        shuffled = sorted(SweepStage, key=lambda stage: stage % 7)
        await sweep_of([step(stage, done) for stage in shuffled], every_s=5).handle(None)
        assert done == [
            SweepStage.DRAIN_SPILL,
            SweepStage.RECOVER_CHECKPOINTS,
            SweepStage.POST_USAGE,
            SweepStage.EXPIRE_LEASES,
            SweepStage.EXPIRE_HOLDS,
        ]

    async def test_nothing_is_given_back_when_usage_could_not_be_posted(self):
        done = []
        steps = [step(SweepStage.EXPIRE_HOLDS, done), step(SweepStage.POST_USAGE, done, ZeroDivisionError())]
        with pytest.raises(ZeroDivisionError):
            await sweep_of(steps, every_s=5).handle(None)
        assert done == []

    def test_the_parts_declare_posting_and_expiry(self):
        stages = {found.stage for found in collect().sweep_steps}
        assert {SweepStage.POST_USAGE, SweepStage.EXPIRE_HOLDS} <= stages


class TestSweepOnce:
    async def test_usage_is_captured_before_its_hold_expires(self, database_url, pool, books):
        """Both are due. Expiry first would give the hold back, and the balance may be gone by then."""
        request = books.finished()
        await books.fund(120)
        await books.hold(request.id, 120, "1 microsecond")
        async with pool.connection() as connection:
            await copy_requests(connection, [request], may_exist=False)

        await sweep_once(database_url)
        assert await books.states_of(request.id) == [
            ("usage_hold", "pending", 120),
            ("usage_charge", "posted", 120),
            ("usage_earning", "posted", 108),
            ("usage_fee", "posted", 12),
        ]

    async def test_six_at_once_do_everything_once(self, database_url, pool, books):
        requests = [books.finished() for _ in range(100)]
        await books.fund(100_000)
        for request in requests[:50]:
            await books.hold(request.id, 500, "1 microsecond")
        async with pool.connection() as connection:
            await copy_requests(connection, requests[25:], may_exist=False)

        await asyncio.gather(*[sweep_once(database_url) for _ in range(6)])
        assert await books.columns("customer_balance") == (75 * 120, 100_000, 0, 0)
