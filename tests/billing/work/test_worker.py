"""The worker: leases, fences, retries, and a row that is finished with its effect."""

import asyncio

import pytest

from raymart_billing.work import GiveUp, LeaseLost, Task, claims, leasing
from raymart_core.errors import Conflict
from raymart_core.ids import new_id
from support.background import running_worker

DEAD_WORKER = 2_000_000_001
"""A number whose lock nobody holds."""


@pytest.fixture
def quick_leases(monkeypatch):
    monkeypatch.setattr(claims, "LEASE_S", 0.4)
    monkeypatch.setattr(leasing, "RENEW_S", 0.1)


class TestDrain:
    async def test_a_due_row_is_run_once_and_done(self, database_url, work):
        seen = []

        async def handle(context, subject):
            seen.append((subject, context.attempt, context.fence))

        outbox_id = await work.enqueue("inv_1")
        async with running_worker(database_url, tasks=[Task(name=work.name, handle=handle)]) as worker:
            assert await worker.drain() == 1
            assert await worker.drain() == 0
        assert seen == [("inv_1", 1, 1)]
        assert await work.row(outbox_id) == ("done", 1, 1, None)
        assert await work.runs() == [(1, "done", None)]

    async def test_a_row_for_later_is_left(self, database_url, work):
        async def handle(_, __):
            raise AssertionError

        outbox_id = await work.enqueue(due_in_s=60)
        async with running_worker(database_url, tasks=[Task(name=work.name, handle=handle)]) as worker:
            assert await worker.drain(outbox_id) == 0

    async def test_a_task_that_this_version_does_not_know_is_left_to_others(self, database_url, work):
        outbox_id = await work.enqueue()
        async with running_worker(database_url) as worker:
            assert await worker.drain(outbox_id) == 0
        assert (await work.row(outbox_id)).state == "ready"

    async def test_six_workers_run_each_of_60_rows_once(self, database_url, work):
        seen = []

        async def handle(_, subject):
            seen.append(subject)
            await asyncio.sleep(0)

        for number in range(60):
            await work.enqueue(str(number))

        async def drain():
            async with running_worker(database_url, tasks=[Task(name=work.name, handle=handle)]) as worker:
                await worker.drain()

        await asyncio.gather(*[drain() for _ in range(6)])
        assert sorted(map(int, seen)) == list(range(60))

    async def test_a_database_that_is_away_is_an_outage_to_the_caller(self):
        async with running_worker("postgresql://raymart@127.0.0.1:1/raymart") as worker:
            with pytest.raises(Exception, match="couldn't get a connection"):
                await worker.drain()


class TestFailure:
    async def test_a_failure_is_kept_and_the_row_due_later(self, database_url, work):
        async def handle(_, __):
            raise Conflict("the invoice is void\nand more")

        outbox_id = await work.enqueue()
        task = Task(name=work.name, handle=handle, backoff_s_min=8, backoff_s_max=20)
        async with running_worker(database_url, tasks=[task]) as worker:
            await worker.drain()
        assert await work.row(outbox_id) == ("ready", 1, 1, "Conflict: the invoice is void")
        assert await work.runs() == [(1, "failed", "Conflict: the invoice is void")]
        assert 4 < await work.due_in_s(outbox_id) <= 8

    async def test_pauses_double_up_to_the_longest(self, database_url, work):
        async def handle(_, __):
            raise ZeroDivisionError

        outbox_id = await work.enqueue()
        task = Task(name=work.name, handle=handle, attempts_max=9, backoff_s_min=30, backoff_s_max=100)
        pauses = []
        async with running_worker(database_url, tasks=[task]) as worker:
            for _ in range(4):
                await work.books.fetch(
                    "update outbox set due_at = clock_timestamp() where id = %s", outbox_id
                )
                await worker.drain()
                pauses.append(await work.due_in_s(outbox_id))
        for pause, longest in zip(pauses, (30, 60, 100, 100), strict=True):
            assert longest * 0.6 < pause <= longest

    async def test_the_last_attempt_makes_it_dead_with_its_error(self, database_url, work):
        async def handle(_, __):
            raise ZeroDivisionError("by zero")

        outbox_id = await work.enqueue()
        task = Task(name=work.name, handle=handle, attempts_max=2, backoff_s_min=0.01)
        async with running_worker(database_url, tasks=[task]) as worker:
            await worker.drain()
            await work.books.fetch("update outbox set due_at = clock_timestamp() where id = %s", outbox_id)
            await worker.drain()
            assert await worker.drain() == 0
        assert await work.row(outbox_id) == ("dead", 2, 2, "ZeroDivisionError: by zero")

    async def test_giving_up_makes_it_dead_at_once(self, database_url, work):
        async def handle(_, __):
            raise GiveUp("the customer is gone")

        outbox_id = await work.enqueue()
        async with running_worker(database_url, tasks=[Task(name=work.name, handle=handle)]) as worker:
            await worker.drain()
        assert await work.row(outbox_id) == ("dead", 1, 1, "GiveUp: the customer is gone")

    async def test_a_handler_that_does_not_end_is_cut_off(self, database_url, work):
        async def handle(_, __):
            await asyncio.Event().wait()

        outbox_id = await work.enqueue()
        task = Task(name=work.name, handle=handle, timeout_s=0.05, backoff_s_min=60)
        async with running_worker(database_url, tasks=[task]) as worker:
            await worker.drain()
        assert (await work.row(outbox_id)).last_error == "TimeoutError: no end within 0.05 s"

    async def test_a_handler_that_kills_its_worker_is_dead_in_the_end(self, database_url, work):
        """It never says that it failed; only its attempts tell."""

        async def handle(_, __):
            raise AssertionError("run again")

        outbox_id = await work.enqueue()
        for _ in range(2):
            await work.leave_running(outbox_id, worker=DEAD_WORKER, lease_s=-1)
        task = Task(name=work.name, handle=handle, attempts_max=2)
        async with running_worker(database_url, tasks=[task]) as worker:
            await worker.drain()
        assert (await work.row(outbox_id)).state == "dead"
        assert "died in the last of 2 attempts" in (await work.row(outbox_id)).last_error


class TestLease:
    async def test_the_row_of_a_dead_worker_is_run_again_when_its_lease_ends(self, database_url, work):
        async def handle(context, _):
            assert (context.attempt, context.fence) == (2, 2)

        outbox_id = await work.enqueue()
        await work.leave_running(outbox_id, worker=DEAD_WORKER, lease_s=0.5)
        async with running_worker(database_url, tasks=[Task(name=work.name, handle=handle)]) as worker:
            assert await worker.drain(outbox_id) == 0, "the lease has not ended"
            await work.books.fetch(
                "update outbox set locked_until = clock_timestamp() where id = %s", outbox_id
            )
            assert await worker.drain() == 1
        assert await work.runs() == [(1, "lost", "its worker died"), (2, "done", None)]

    async def test_a_lease_from_before_the_clock_went_back_counts_as_ended(self, database_url, work):
        outbox_id = await work.enqueue()
        await work.leave_running(outbox_id, worker=DEAD_WORKER, lease_s=3_600)

        async def handle(_, __):
            pass

        async with running_worker(database_url, tasks=[Task(name=work.name, handle=handle)]) as worker:
            assert await worker.drain() == 1

    async def test_a_living_worker_keeps_its_row_though_the_clock_jumped(self, database_url, work):
        """The database's clock goes on by an hour: the lease looks ended, and the handler is not done."""
        begun, go = asyncio.Event(), asyncio.Event()
        runs = []

        async def handle(context, _):
            runs.append(context.fence)
            begun.set()
            await go.wait()

        outbox_id = await work.enqueue()
        task = Task(name=work.name, handle=handle)
        async with (
            running_worker(database_url, tasks=[task]) as first,
            running_worker(database_url, tasks=[task]) as second,
        ):
            draining = asyncio.create_task(first.drain())
            await begun.wait()
            await work.books.fetch(
                "update outbox set locked_until = locked_until - interval '1 hour' where id = %s", outbox_id
            )
            assert await second.drain() == 0
            go.set()
            assert await draining == 1
        assert runs == [1]
        assert (await work.row(outbox_id)).state == "done"

    async def test_a_long_handler_keeps_its_lease(self, database_url, work, quick_leases):
        outbox_id = await work.enqueue()
        ends = []

        async def handle(_, __):
            for _ in range(12):
                await asyncio.sleep(0.1)
                ends.append(
                    await work.books.value(
                        "select locked_until > clock_timestamp() from outbox where id = %s", outbox_id
                    )
                )

        async with running_worker(database_url, tasks=[Task(name=work.name, handle=handle)]) as worker:
            await worker.drain()
        assert (await work.row(outbox_id)).state == "done"
        assert ends.count(False) <= 2, "the lease was not renewed"

    async def test_a_zombie_can_neither_finish_nor_fail_what_another_has(self, database_url, work):
        """The first worker loses its lock and lease in mid-run; the second one takes the row and is at it."""
        outbox_id = await work.enqueue()
        begun, go, second_begun, second_go = (asyncio.Event() for _ in range(4))

        async def first_handle(_, __):
            begun.set()
            await go.wait()

        async def second_handle(context, _):
            second_begun.set()
            await second_go.wait()
            assert context.fence == 2

        async with (
            running_worker(database_url, tasks=[Task(name=work.name, handle=first_handle)]) as zombie,
            running_worker(database_url, tasks=[Task(name=work.name, handle=second_handle)]) as second,
        ):
            first = asyncio.create_task(zombie.drain())
            await begun.wait()
            await zombie.close()
            await work.books.fetch(
                "update outbox set locked_until = clock_timestamp() where id = %s", outbox_id
            )
            other = asyncio.create_task(second.drain())
            await second_begun.wait()
            go.set()
            await first
            assert await work.row(outbox_id) == ("running", 2, 2, "its worker died")
            second_go.set()
            await other
        assert (await work.row(outbox_id)).state == "done"
        assert [state for _, state, _ in await work.runs()] == ["lost", "done"]

    async def test_a_cancelled_row_stops_its_handler(self, database_url, work, quick_leases):
        outbox_id = await work.enqueue()
        ended = []

        async def handle(_, __):
            await work.books.fetch(
                "update outbox set state = 'cancelled', finished_at = clock_timestamp(), locked_by = null,"
                " locked_until = null where id = %s",
                outbox_id,
            )
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(True)

        async with running_worker(database_url, tasks=[Task(name=work.name, handle=handle)]) as worker:
            await worker.drain()
        assert ended == [True]
        assert (await work.row(outbox_id)).state == "cancelled"

    async def test_a_worker_that_is_stopped_hands_its_row_back(self, database_url, work):
        outbox_id = await work.enqueue()
        begun = asyncio.Event()

        async def handle(_, __):
            begun.set()
            await asyncio.Event().wait()

        async with running_worker(database_url, tasks=[Task(name=work.name, handle=handle)]) as worker:
            draining = asyncio.create_task(worker.drain())
            await begun.wait()
            draining.cancel()
            with pytest.raises(asyncio.CancelledError):
                await draining
        assert await work.row(outbox_id) == ("ready", 0, 1, None)
        assert await work.runs() == [(1, "lost", "its worker was stopped")]


class TestFinishWith:
    async def note(self, session, key):
        """An effect that is SQL."""
        from sqlalchemy import text

        await session.execute(
            text("insert into inbox (source, message_id) values ('effect', :key)"), {"key": key}
        )

    async def effects(self, work, key):
        return await work.books.value(
            "select count(*) from inbox where source = 'effect' and message_id = %s", key
        )

    async def test_effect_and_done_are_one_transaction(self, database_url, work):
        key = new_id().hex

        async def handle(context, _):
            async with context.finishing() as session:
                await self.note(session, key)

        outbox_id = await work.enqueue()
        async with running_worker(database_url, tasks=[Task(name=work.name, handle=handle)]) as worker:
            await worker.drain()
        assert await work.row(outbox_id) == ("done", 1, 1, None)
        assert await work.runs() == [(1, "done", None)]
        assert await self.effects(work, key) == 1

    async def test_a_zombies_effect_is_rolled_back(self, database_url, work):
        key = new_id().hex
        outbox_id = await work.enqueue()
        refused = []

        async def handle(context, _):
            await work.books.fetch("update outbox set fence = fence + 1 where id = %s", outbox_id)
            try:
                async with context.finishing() as session:
                    await self.note(session, key)
            except LeaseLost as error:
                refused.append(error)
                raise

        async with running_worker(database_url, tasks=[Task(name=work.name, handle=handle)]) as worker:
            await worker.drain()
        assert len(refused) == 1
        assert await self.effects(work, key) == 0
        assert (await work.row(outbox_id)).state == "running"

    async def test_a_promise_that_was_not_kept_is_a_failure(self, database_url, work):
        """The handler swallows that its transaction was rolled back."""
        outbox_id = await work.enqueue()

        async def handle(context, _):
            async with context.sessions() as session:
                await context.finish_with(session)
                await session.rollback()

        async with running_worker(database_url, tasks=[Task(name=work.name, handle=handle)]) as worker:
            await worker.drain()
        row = await work.row(outbox_id)
        assert row.state == "ready"
        assert "not committed" in row.last_error
