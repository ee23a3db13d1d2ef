"""Periodics: one run at a time, on a grid, without making up for what passed."""

import asyncio

import pytest

from raymart_billing.work import Periodic
from support.background import running_worker


class Job:
    """A periodic of this test and its row."""

    def __init__(self, work) -> None:
        self.books, self.name = work.books, work.name
        self.runs = 0

    async def handle(self, context):
        self.runs += 1

    def every(self, every_s, handle=None):
        return Periodic(name=self.name, handle=handle or self.handle, every_s=every_s)

    async def column(self, expression):
        return await self.books.value(f"select {expression} from periodic_job where name = %s", self.name)

    async def due_in_s(self):
        return float(await self.column("extract(epoch from next_due_at - clock_timestamp())"))

    async def shift(self, interval, *columns):
        """What the row looks like after the database's clock was moved by `interval`."""
        changes = ", ".join(f"{column} = {column} - interval '{interval}'" for column in columns)
        await self.books.fetch(f"update periodic_job set {changes} where name = %s", self.name)


@pytest.fixture
def job(work):
    return Job(work)


class TestPeriodic:
    async def test_a_new_one_runs_at_once_and_is_seen(self, database_url, job):
        async with running_worker(database_url, periodics=[job.every(60)]) as worker:
            assert await worker.drain() == 1
            assert await worker.drain() == 0
        assert job.runs == 1
        assert await job.column("(runs, last_state, failures_in_a_row, locked_by)::text") == "(1,done,0,)"
        assert 58 < await job.due_in_s() <= 60

    async def test_it_keeps_to_its_grid(self, database_url, job):
        """Late by 2 s of 10: the next time is 8 s from now, not 10."""
        async with running_worker(database_url, periodics=[job.every(10)]) as worker:
            await worker.drain()
            await job.books.fetch(
                "update periodic_job set next_due_at = clock_timestamp() - interval '2 seconds' where name = %s",
                job.name,
            )
            await worker.drain()
        assert 7 < await job.due_in_s() <= 8

    async def test_an_hour_without_workers_is_one_run(self, database_url, job):
        async with running_worker(database_url, periodics=[job.every(1)]) as worker:
            await worker.drain()
            await job.shift("1 hour", "next_due_at")
            await worker.drain()
            assert await worker.drain() == 0
        assert job.runs == 2

    async def test_a_clock_that_went_back_does_not_stall_it(self, database_url, job):
        async with running_worker(database_url, periodics=[job.every(60)]) as worker:
            await worker.drain()
            await job.shift("-1 hour", "next_due_at")
            assert await worker.drain() == 1
            assert await worker.drain() == 0
        assert 58 < await job.due_in_s() <= 60

    async def test_a_shorter_period_is_taken_over(self, database_url, job):
        for every_s in (3_600, 5):
            async with running_worker(database_url, periodics=[job.every(every_s)]) as worker:
                assert await worker.drain() == 1
        assert await job.due_in_s() <= 5

    async def test_two_workers_run_it_once_at_a_time(self, database_url, job):
        """Also when the clock jumps so that the lease looks ended: the first worker lives."""
        begun, go = asyncio.Event(), asyncio.Event()

        async def handle(_):
            job.runs += 1
            begun.set()
            await go.wait()

        async with (
            running_worker(database_url, periodics=[job.every(60, handle)]) as first,
            running_worker(database_url, periodics=[job.every(60, handle)]) as second,
        ):
            draining = asyncio.create_task(first.drain())
            await begun.wait()
            await job.shift("1 hour", "next_due_at")
            assert await second.drain() == 0
            await job.shift("1 hour", "locked_until")
            assert await second.drain() == 0
            go.set()
            await draining
        assert job.runs == 1

    async def test_the_run_of_a_dead_worker_is_lost_and_followed_by_another(self, database_url, job):
        begun = asyncio.Event()

        async def handle(_):
            begun.set()
            await asyncio.Event().wait()

        async with running_worker(database_url, periodics=[job.every(1, handle)]) as dying:
            draining = asyncio.create_task(dying.drain())
            await begun.wait()
            await dying.close()
            await job.shift("1 hour", "locked_until")
            async with running_worker(database_url, periodics=[job.every(1)]) as other:
                assert await other.drain() == 1
            draining.cancel()
            with pytest.raises(asyncio.CancelledError):
                await draining
        states = await job.books.fetch("select state from task_run where name = %s order by id", job.name)
        assert states == [("lost",), ("done",)]

    async def test_a_failure_is_kept_and_tried_again_soon(self, database_url, job):
        async def fail(_):
            raise ZeroDivisionError("by zero")

        dues = []
        async with running_worker(database_url, periodics=[job.every(86_400, fail)]) as worker:
            for _ in range(3):
                await job.books.fetch(
                    "update periodic_job set next_due_at = clock_timestamp() where name = %s", job.name
                )
                await worker.drain()
                dues.append(await job.due_in_s())
        assert [round(due + 0.45) for due in dues] == [1, 2, 4]
        assert await job.column("last_error") == "ZeroDivisionError: by zero"
        assert await job.column("failures_in_a_row") == 3

    async def test_a_stopped_worker_lets_another_run_it_at_once(self, database_url, job):
        begun = asyncio.Event()

        async def handle(_):
            begun.set()
            await asyncio.Event().wait()

        async with running_worker(database_url, periodics=[job.every(60, handle)]) as worker:
            draining = asyncio.create_task(worker.drain())
            await begun.wait()
            draining.cancel()
            with pytest.raises(asyncio.CancelledError):
                await draining
        async with running_worker(database_url, periodics=[job.every(60)]) as worker:
            assert await worker.drain() == 1
