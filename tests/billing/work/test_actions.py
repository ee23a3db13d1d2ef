"""What a person does to a row, while a worker may be at it."""

import asyncio

import pytest

from raymart_billing.work import Task
from raymart_billing.work.actions import cancel_work, retry_work
from raymart_core.errors import Conflict, InvalidRequest, NotFound
from raymart_core.ids import new_id
from raymart_marketplace.db.session import session_scope
from support.background import running_worker


class TestCancelWork:
    async def test_a_running_handler_cannot_finish_what_was_cancelled(self, database_url, sessions, work):
        outbox_id = await work.enqueue()
        begun, go = asyncio.Event(), asyncio.Event()

        async def handle(_, __):
            begun.set()
            await go.wait()

        async with running_worker(database_url, tasks=[Task(name=work.name, handle=handle)]) as worker:
            draining = asyncio.create_task(worker.drain())
            await begun.wait()
            async with session_scope(sessions) as session:
                await cancel_work(session, outbox_id=outbox_id, actor_id=None, reason="wrong customer")
            go.set()
            await draining
        assert (await work.row(outbox_id)).state == "cancelled"
        assert await work.runs() == [(1, "lost", "cancelled by an operator")]

    async def test_a_refused_cancel_leaves_no_trace(self, sessions, work):
        outbox_id = await work.enqueue()
        async with sessions() as session:
            with pytest.raises(InvalidRequest, match="say why"):
                await cancel_work(session, outbox_id=outbox_id, actor_id=None, reason="")
            await session.rollback()
        assert (await work.row(outbox_id)).state == "ready"


class TestRetryWork:
    async def test_what_runs_is_not_retried(self, sessions, work):
        outbox_id = await work.enqueue()
        await work.leave_running(outbox_id, worker=2_000_000_001, lease_s=60)
        async with sessions() as session:
            with pytest.raises(Conflict, match="is running"):
                await retry_work(session, outbox_id=outbox_id, actor_id=None, reason="slow")

    async def test_what_waits_is_due_at_once(self, sessions, work):
        outbox_id = await work.enqueue(due_in_s=3_600)
        async with session_scope(sessions) as session:
            item = await retry_work(session, outbox_id=outbox_id, actor_id=None, reason="now")
        assert item.due_at is not None
        assert await work.due_in_s(outbox_id) <= 0

    async def test_what_is_not_there_is_not_found(self, sessions):
        async with sessions() as session:
            with pytest.raises(NotFound, match="30 days"):
                await retry_work(session, outbox_id=new_id(), actor_id=None, reason="why not")
