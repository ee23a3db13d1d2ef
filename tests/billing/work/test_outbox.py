"""The outbox: a row with its cause or not at all, and one row for a key."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from raymart_billing.work import outbox
from raymart_billing.work.hints import give_hints
from raymart_billing.work.models import OutboxItem, WorkState
from raymart_core.errors import Conflict
from raymart_core.ids import new_id
from raymart_marketplace.db.session import session_scope


@pytest.fixture
def task():
    """A name that no worker of another test knows."""
    return f"test.{new_id().hex}"


async def items(sessions, task):
    async with session_scope(sessions) as session:
        return (await session.scalars(select(OutboxItem).where(OutboxItem.task == task))).all()


class TestEnqueue:
    async def test_a_row_is_ready_at_once(self, sessions, task):
        async with session_scope(sessions) as session:
            outbox_id = await outbox.enqueue(session, task=task, subject="inv_1")
        [item] = await items(sessions, task)
        assert (item.id, item.subject, item.key, item.state) == (outbox_id, "inv_1", None, WorkState.READY)
        assert (item.attempts, item.fence, item.locked_until) == (0, 0, None)

    async def test_a_rolled_back_cause_leaves_no_row(self, sessions, task):
        async with sessions() as session:
            await outbox.enqueue(session, task=task, subject="inv_1")
            await session.rollback()
        assert await items(sessions, task) == []

    async def test_a_repeat_with_its_key_returns_the_first_row(self, sessions, task):
        found = []
        for _ in range(2):
            async with session_scope(sessions) as session:
                found.append(await outbox.enqueue(session, task=task, subject="inv_1", key="k"))
        assert found[0] == found[1]
        assert len(await items(sessions, task)) == 1

    async def test_two_at_once_with_one_key_make_one_row(self, sessions, task):
        async def ask():
            async with session_scope(sessions) as session:
                return await outbox.enqueue(session, task=task, subject="inv_1", key="k")

        assert len(set(await asyncio.gather(*[ask() for _ in range(5)]))) == 1
        assert len(await items(sessions, task)) == 1

    async def test_a_key_of_another_subject_is_refused(self, sessions, task):
        async with session_scope(sessions) as session:
            await outbox.enqueue(session, task=task, subject="inv_1", key="k")
        async with session_scope(sessions) as session:
            with pytest.raises(Conflict, match="inv_1"):
                await outbox.enqueue(session, task=task, subject="inv_2", key="k")

    async def test_a_later_time_is_kept(self, sessions, task):
        later = datetime.now(UTC) + timedelta(hours=3)
        async with session_scope(sessions) as session:
            await outbox.enqueue(session, task=task, subject="inv_1", not_before=later)
        [item] = await items(sessions, task)
        assert item.due_at == later

    async def test_a_subject_that_is_no_id_is_refused_by_type_and_database(self, sessions, task):
        async with session_scope(sessions) as session:
            with pytest.raises(AssertionError, match="201 characters"):
                await outbox.enqueue(session, task=task, subject="x" * 201)
        async with sessions() as session:
            session.add(OutboxItem(task=task, subject="x" * 201))
            with pytest.raises(IntegrityError, match="texts_are_short"):
                await session.flush()


class TestEnqueueOn:
    async def test_a_hot_path_enqueues_in_its_own_transaction(self, sessions, pool, task):
        async with pool.connection() as connection:
            async with connection.transaction():
                first = await outbox.enqueue_on(connection, task=task, subject="org_1", key="k")
            assert await outbox.enqueue_on(connection, task=task, subject="org_1", key="k") == first
            with pytest.raises(Conflict):
                await outbox.enqueue_on(connection, task=task, subject="org_2", key="k")
        [item] = await items(sessions, task)
        assert item.id == first


class TestHints:
    @pytest.fixture
    def given(self, sessions):
        given = []
        give_hints(sessions, given.append)
        return given

    async def test_a_hint_is_given_after_the_commit_only(self, sessions, task, given):
        async with session_scope(sessions) as session:
            outbox_id = await outbox.enqueue(session, task=task, subject="inv_1")
            await session.flush()
            assert given == []
        assert given == [outbox_id]

    async def test_a_savepoint_is_no_commit(self, sessions, task, given):
        async with session_scope(sessions) as session:
            async with session.begin_nested():
                outbox_id = await outbox.enqueue(session, task=task, subject="inv_1")
            async with session.begin_nested():
                pass
            assert given == []
        assert given == [outbox_id]

    async def test_a_rollback_gives_none_also_at_the_next_commit(self, sessions, task, given):
        async with sessions() as session:
            await outbox.enqueue(session, task=task, subject="inv_1")
            await session.rollback()
            async with session.begin():
                kept = await outbox.enqueue(session, task=task, subject="inv_2")
        assert given == [kept]

    async def test_work_for_later_gives_none(self, sessions, task, given):
        async with session_scope(sessions) as session:
            later = datetime.now(UTC) + timedelta(hours=3)
            await outbox.enqueue(session, task=task, subject="inv_1", not_before=later)
        assert given == []

    async def test_the_next_transaction_of_a_session_gives_only_its_own(self, sessions, task, given):
        async with sessions() as session:
            async with session.begin():
                first = await outbox.enqueue(session, task=task, subject="inv_1")
            async with session.begin():
                second = await outbox.enqueue(session, task=task, subject="inv_2")
        assert given == [first, second]
